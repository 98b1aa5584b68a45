"""Makes a client from a running server's /docs/json with openapi-python-client and uses it: a
prompt, a conversion, a workflow, a download, an error. Usage: play.py SERVER MODEL_URL DIRECTORY
"""

import base64
import importlib
import subprocess
import sys
from pathlib import Path

server, model_url, directory = sys.argv[1:]
made = subprocess.run(
    [
        sys.executable,
        "-m",
        "openapi_python_client",
        "generate",
        "--url",
        f"{server}/docs/json",
        "--meta",
        "none",
        "--output-path",
        f"{directory}/generated_client",
    ],
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    check=False,
)
# The bodies of /docs/yaml and of an asset are of no type that it could parse; nothing else may be
# left out.
left_out = [
    line
    for line in made.stdout.splitlines()
    if "WARNING parsing" in line and not any(path in line for path in ("/docs/yaml", "/content"))
]
assert Path(f"{directory}/generated_client/client.py").exists() and not left_out, made.stdout

sys.path.insert(0, directory)
load = lambda name: importlib.import_module(f"generated_client.{name}")
client = load("client").Client(base_url=server)
models = load("models")

graph = models.Graph.from_dict(
    {
        "2": {
            "class_type": "EmptyImage",
            "inputs": {"width": 64, "height": 48, "batch_size": 1, "color": 255},
        },
        "9": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "made"}},
    }
)
submit = load("api.prompts.submit_prompt")
answer = submit.sync(client=client, body=models.PromptRequest(prompt=graph))
assert base64.b64decode(answer.images[0]).startswith(b"\x89PNG"), answer
request = models.PromptRequest.from_dict(
    {"prompt": graph.to_dict(), "convert_output": {"format": "jpeg", "options": {"quality": 70}}}
)
answer = submit.sync(client=client, body=request)
assert base64.b64decode(answer.images[0]).startswith(b"\xff\xd8") and answer.filenames[0].endswith(
    ".jpeg"
), answer

workflow = load("api.workflows.workflow_txt_2_img")
body = models.WorkflowTxt2ImgRequest.from_dict({"input": {"prompt": "a lighthouse", "steps": 2}})
answer = workflow.sync(client=client, body=body)
assert len(answer.images) == 1, answer

download = load("api.models.download_model")
body = models.DownloadModelRequest.from_dict(
    {"url": model_url, "model_type": "loras", "filename": "made.safetensors", "wait": True}
)
detailed = download.sync_detailed(client=client, body=body)
assert detailed.status_code == 200, detailed
listed = load("api.models.list_models").sync(client=client)
assert "made.safetensors" in listed.to_dict()["loras"], listed

wrong = submit.sync_detailed(
    client=client,
    body=models.PromptRequest(
        prompt=models.Graph.from_dict({"1": {"class_type": "Nope", "inputs": {}}})
    ),
)
assert wrong.status_code == 400 and type(wrong.parsed).__name__ == "Error", wrong
print("all of it works")
