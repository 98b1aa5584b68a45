# syntax=docker/dockerfile:1
# The API image: the binary, built here, on top of the ComfyUI base image (comfyui.dockerfile).
#
#   docker build -f docker/api.dockerfile -t comfyui-api --build-arg base_image=comfyui:cuda12.8-runtime .
#   docker build -f docker/api.dockerfile -t comfyui-api:demo --target demo .          # no GPU, no Python, no models
#   docker build -f docker/api.dockerfile -o bin --target binary .                     # only the binary

ARG base_image=comfyui:cuda12.8-runtime
ARG rust_version=1.95

FROM rust:${rust_version}-bookworm AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends file nasm \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
ARG BUILD_PROFILE=dist
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    BUILD_PROFILE="${BUILD_PROFILE}" ./build-binary

FROM scratch AS binary
COPY --from=build /src/bin/comfyui-api /comfyui-api

FROM debian:bookworm-slim AS demo
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates ffmpeg \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY --from=build /src/bin/comfyui-api ./comfyui-api
EXPOSE 3000
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s --retries=3 CMD ["./comfyui-api", "health"]
CMD ["./comfyui-api", "demo"]

FROM ${base_image} AS api
# The server waits for ComfyUI's answer at DIRECT_ADDRESS:COMFYUI_PORT_HOST; other machines reach ComfyUI only through the API.
ENV CMD="python main.py --listen 127.0.0.1 --port 8188 --disable-auto-launch" \
    STARTUP_CHECK_MAX_TRIES=300 \
    WORKFLOW_DIR=/workflows
WORKDIR /opt/ComfyUI
COPY --from=build /src/bin/comfyui-api ./comfyui-api
EXPOSE 3000
# The start period covers the manifest's downloads; /health answers 500 until the warmup prompt has run.
HEALTHCHECK --interval=10s --timeout=6s --start-period=30m --retries=3 CMD ["./comfyui-api", "health"]
STOPSIGNAL SIGTERM
CMD ["./comfyui-api"]
