"""What counts as a server error of comfyui-api: any 5xx that is not the documented answer to what a
client sent.

A graph that fits the schema may still raise in a node (500 execution_error), a model may not be
downloadable (POST /models answers 500 download_failed, as its clients know it), an upload target
may refuse (502 upload_failed). Everything else, and `internal` above all, is a defect.
"""

import schemathesis

EXPECTED = {(500, "execution_error"), (500, "download_failed"), (502, "upload_failed")}


@schemathesis.check
def only_expected_server_errors(ctx, response, case):
    if response.status_code < 500:
        return
    try:
        code = response.json().get("code")
    except ValueError:
        code = None
    if (response.status_code, code) not in EXPECTED:
        raise AssertionError(
            f"{case.method} {case.path} answered {response.status_code} "
            f"with code {code!r}: {response.text[:300]}"
        )
    if code == "download_failed" and case.path != "/models":
        raise AssertionError(f"only POST /models answers 500 download_failed, not {case.path}")


@schemathesis.hook
def before_call(context, case, kwargs):
    """Sends only small files. The fuzzer puts what it was answered into its next requests; an
    upscaler that is fed with its own output makes pictures of a gigabyte, for which a debug build
    takes longer than the fuzzer waits."""
    inputs = case.body.get("input") if isinstance(case.body, dict) else None
    if isinstance(inputs, dict):
        for name, value in inputs.items():
            if isinstance(value, str) and len(value) > 20_000:
                inputs[name] = value[:1000]
