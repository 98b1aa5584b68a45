#!/usr/bin/env bash
# Measures a binary with benches/load.rs: BINARY=bin/comfyui-api benches/load.sh. The tool itself is
# compiled optimised, in a second.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."
export BINARY=${BINARY:-bin/comfyui-api}
if ! [ -x "$BINARY" ]; then
  echo "benches/load.sh: $BINARY is missing: run ./build-binary, or set BINARY" >&2
  exit 1
fi
mkdir -p target
rustc --edition 2024 -O -o target/load benches/load.rs
exec target/load
