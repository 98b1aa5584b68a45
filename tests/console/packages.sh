#!/usr/bin/env bash
# Installs what checks the console, exactly as package-lock.json says, and prints where it is. A
# second run installs nothing. TEST_HOME says where (default /opt/comfyui-api-test).
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")"
home=${TEST_HOME:-/opt/comfyui-api-test}/console
mkdir -p "$home"
wanted=$(sha256sum package-lock.json | cut -d' ' -f1)
if [ "$(cat "$home/node_modules/.lock.sha256" 2>/dev/null)" != "$wanted" ]; then
  cp package.json package-lock.json "$home"
  PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm ci --loglevel=error --no-audit --no-fund \
    --no-update-notifier --prefix "$home" >&2
  echo "$wanted" >"$home/node_modules/.lock.sha256"
fi
echo "$home/node_modules"
