# syntax=docker/dockerfile:1
# The base image: CUDA, Python and ComfyUI, without the API. Everything is pinned; pass other versions as build arguments.
#
#   docker build -f docker/comfyui.dockerfile -t comfyui:cuda12.8-runtime docker
#   docker build -f docker/comfyui.dockerfile -t comfyui:cuda12.8-devel --build-arg variant=devel docker
#
# `devel` has nvcc and headers, for custom nodes that compile CUDA code; `runtime` is some gigabytes smaller.

ARG cuda_version=12.8.1
ARG variant=runtime
ARG uv_version=0.9.5

FROM ghcr.io/astral-sh/uv:${uv_version} AS uv

FROM nvidia/cuda:${cuda_version}-cudnn-${variant}-ubuntu24.04

SHELL ["/bin/bash", "-euo", "pipefail", "-c"]

ENV DEBIAN_FRONTEND=noninteractive \
    PYTHONUNBUFFERED=1 \
    UV_LINK_MODE=copy \
    UV_NO_CACHE=1

# ffmpeg converts videos; libgl1 and libglib2.0-0t64 are what OpenCV in many custom nodes loads.
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates curl ffmpeg git libgl1 libglib2.0-0t64 python3 python3-dev python3-venv \
 && rm -rf /var/lib/apt/lists/*

COPY --from=uv /uv /usr/local/bin/uv

# One virtual environment for ComfyUI, its nodes and the manifest's packages.
ENV VIRTUAL_ENV=/opt/venv
ENV PATH=/opt/venv/bin:$PATH
RUN uv venv --python /usr/bin/python3 "$VIRTUAL_ENV" \
 && uv pip install pip

# The wheels of this CUDA: 12.8.1 -> cu128.
ARG cuda_version
ARG torch_version=2.8.0
RUN cuda=$(cut -d. -f1,2 <<<"${cuda_version}" | tr -d .) \
 && uv pip install "torch==${torch_version}" torchvision torchaudio --index-url "https://download.pytorch.org/whl/cu${cuda}"

ARG comfyui_ref=v0.19.3
ENV COMFY_HOME=/opt/ComfyUI
WORKDIR /opt/ComfyUI
RUN git init -q . \
 && git remote add origin https://github.com/comfyanonymous/ComfyUI.git \
 && git fetch -q --depth 1 origin "${comfyui_ref}" \
 && git checkout -q --detach FETCH_HEAD \
 && uv pip install -r requirements.txt

# comfy installs the manifest's custom nodes by registry name.
ARG comfy_cli_version=1.5.1
RUN uv pip install "comfy-cli==${comfy_cli_version}" \
 && comfy --skip-prompt tracking disable \
 && comfy --skip-prompt set-default "$COMFY_HOME"

EXPOSE 8188
CMD ["python", "main.py", "--listen", "0.0.0.0", "--port", "8188", "--disable-auto-launch"]
