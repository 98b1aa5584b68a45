//! How prompts are treated.

use super::*;

variables! { "Prompts"
    PREPEND_FILENAMES = FLAG.of_node(), "true",
        "keep the caller's filename_prefix behind the id; false = the id alone";
    CANCEL_ON_DISCONNECT = FLAG, "false",
        "cancel a sync or streaming prompt when its client goes away";
    PROMPT_TIMEOUT_S = seconds(0.0), "0",
        "seconds that ComfyUI may run a prompt before it is cancelled; 0 = no limit";
    ALLOWED_INPUT_PATHS = LIST, "",
        "comma-separated directories whose files graphs may name by path";
    MAX_ARCHIVE_FILES = number(1.0, 4_294_967_295.0, "files"), "10000",
        "most files and folders an input archive may hold";
    MAX_ARCHIVE_SIZE_MB = number(1.0, 1_073_741_824.0, "MiB"), "4096",
        "most MiB an input archive may unpack to";
    FFMPEG_PATH = PATH, "ffmpeg",
        "the ffmpeg command for video and audio conversion";
    FFMPEG_TIMEOUT_S = seconds(0.1), "600",
        "longest conversion, seconds";
}
