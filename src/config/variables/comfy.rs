//! The ComfyUI that are started or attached to.

use super::*;

variables! { "ComfyUI"
    CMD = TEXT, "init.sh",
        "command that starts ComfyUI; set but empty = attach to a running one";
    BASE = TEXT, "",
        "`ai-dock` loads that image's environment before CMD";
    COMFY_HOME = PATH, "/opt/ComfyUI",
        "ComfyUI's directory";
    DIRECT_ADDRESS = TEXT, "127.0.0.1",
        "address ComfyUI listens on";
    COMFYUI_PORT_HOST = port(1), "8188",
        "port ComfyUI listens on";
    COMFYUI_INSTANCES = TEXT, "1",
        "how many ComfyUI; auto = one per set of COMFYUI_DEVICES, else per GPU that nvidia-smi \
         shows";
    COMFYUI_DEVICES = TEXT, "",
        "GPUs of each ComfyUI, `;` between them: `0;1;2,3`; unset with several = one GPU each";
    COMFYUI_INSTANCE_ARGS = TEXT, "--port {port} --temp-directory {temp} --database-url \
                                   sqlite:///:memory:",
        "added to CMD when there are several ComfyUI and it does not hold {port}; {index} {port} \
         {device} {temp} are replaced";
    COMFYUI_URLS = LIST, "",
        "several running ComfyUI to attach to, comma-separated; CMD empty";
    MODEL_SWITCH_JOBS = number(0.0, 1_000_000.0, "waiting jobs"), "2",
        "what a change of models costs when a ComfyUI is chosen, in waiting jobs; 0 = models do \
         not matter";
    INPUT_DIR = PATH, "COMFY_HOME/input",
        "ComfyUI's input directory";
    OUTPUT_DIR = PATH, "COMFY_HOME/output",
        "ComfyUI's output directory";
    MODEL_DIR = PATH, "COMFY_HOME/models",
        "ComfyUI's model directory";
    ALWAYS_RESTART_COMFYUI = FLAG.of_node(), "false; true with several ComfyUI",
        "restart ComfyUI when it exits, instead of exiting too";
    STARTUP_CHECK_INTERVAL_S = seconds(0.001).of_node(), "1",
        "seconds between two looks whether ComfyUI is up";
    STARTUP_CHECK_MAX_TRIES = number(1.0, 1_000_000.0, "tries").of_node(), "20",
        "looks before giving up";
    COMFYUI_HANG_TIMEOUT_S = seconds(0.0), "0",
        "restart a ComfyUI that does not answer, or does not work, for so long; 0 = off";
    COMFYUI_PASS_ENV = LIST, "",
        "comma-separated variables to pass to ComfyUI and tools although they are the server's own \
         secrets; `*` at an end stands for the rest";
    WS_IDLE_TIMEOUT_S = seconds(0.1), "30",
        "silence on ComfyUI's websocket before it is replaced";
    WARMUP_PROMPT_FILE = PATH, "",
        "prompt to run before the server is ready";
    WARMUP_PROMPT_URL = url(WEB), "",
        "the same from a URL";
    MANIFEST = PATH, "",
        "manifest file (.json, .yml, .yaml): packages, custom nodes, models";
    MANIFEST_JSON = TEXT.hidden(), "",
        "the manifest itself, as JSON";
}
