#!/usr/bin/env bash
# Everything about the web console: types, lint, unit tests, and the pages in a real browser against a running demo.
#   tests/console/run.sh [path of the comfyui-api binary]
# Needs node 20, npm, python3, Chromium and RabbitMQ (Debian: apt-get install chromium rabbitmq-server). TEST_HOME says
# where npm's packages go (default /opt/comfyui-api-test), CHROMIUM names the browser.
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
# A path is meant from where the caller stands, so it is made absolute before we leave.
BINARY=$(realpath -m "${1:-$here/../../target/debug/comfyui-api}")
export BINARY
cd "$here"
[ -x "$BINARY" ] || { echo "no binary at $BINARY: cargo build" >&2; exit 2; }
export CHROMIUM=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || true)}
[ -n "$CHROMIUM" ] || { echo "Chromium is missing (Debian: apt-get install chromium)" >&2; exit 2; }

home=${TEST_HOME:-/opt/comfyui-api-test}/console
mkdir -p "$home"
wanted=$(sha256sum package-lock.json | cut -d' ' -f1)
if [ "$(cat "$home/node_modules/.lock.sha256" 2>/dev/null)" != "$wanted" ]; then
  cp package.json package-lock.json "$home"
  PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm ci --loglevel=error --no-audit --no-fund --no-update-notifier --prefix "$home"
  echo "$wanted" >"$home/node_modules/.lock.sha256"
fi
export CONSOLE_NODE_MODULES=$home/node_modules

begin=$SECONDS
node "$home/node_modules/typescript/bin/tsc" -p tsconfig.json
(cd ../.. && node "$home/node_modules/eslint/bin/eslint.js" --max-warnings 0 -c tests/console/eslint.config.mjs src/transport/console tests/console docs/*.mjs)
echo "types and lint: $((SECONDS - begin)) s"
reporter=(--test-reporter=spec)
# Node 20 has what browsers have had for long behind a switch, which newer ones no longer know.
raw=()
[ "$(node -p '"rawJSON" in JSON')" = true ] || raw=(--harmony-json-parse-with-source)
node "${raw[@]}" --test "${reporter[@]}" unit/*.test.mjs
# One file after the other: each has a server and pages of its own. A failed test leaves both open, so the end is forced.
node --test "${reporter[@]}" --test-force-exit --test-concurrency=1 browser/*.test.mjs
echo "the console: $((SECONDS - begin)) s"
