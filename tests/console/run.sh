#!/usr/bin/env bash
# Everything about the web console: types, lint, unit tests, and the pages in a real browser against
# a running demo.
#   tests/console/run.sh [path of the comfyui-api binary]
# Needs node 20, npm, python3, Chromium and RabbitMQ (Debian: apt-get install chromium
# rabbitmq-server). TEST_HOME says where npm's packages go (default /opt/comfyui-api-test), CHROMIUM
# names the browser.
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
# A path is meant from where the caller stands, so it is made absolute before we leave.
BINARY=$(realpath -m "${1:-$here/../../target/debug/comfyui-api}")
export BINARY
cd "$here"
[ -x "$BINARY" ] || { echo "no binary at $BINARY: cargo build" >&2; exit 2; }
export CHROMIUM=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || true)}
[ -n "$CHROMIUM" ] || { echo "Chromium is missing (Debian: apt-get install chromium)" >&2; exit 2; }

CONSOLE_NODE_MODULES=$(./packages.sh)
export CONSOLE_NODE_MODULES

begin=$SECONDS
node "$CONSOLE_NODE_MODULES/typescript/bin/tsc" -p tsconfig.json
(cd ../.. && node "$CONSOLE_NODE_MODULES/eslint/bin/eslint.js" --max-warnings 0 \
  -c tests/console/eslint.config.mjs src/transport/console tests/console docs/*.mjs)
echo "types and lint: $((SECONDS - begin)) s"
reporter=(--test-reporter=spec)
# Node 20 has what browsers have had for long behind a switch, which newer ones no longer know.
raw=()
[ "$(node -p '"rawJSON" in JSON')" = true ] || raw=(--harmony-json-parse-with-source)
node "${raw[@]}" --test "${reporter[@]}" unit/*.test.mjs
# One file after the other: each has a server and pages of its own. A failed test leaves both open,
# so the end is forced.
node --test "${reporter[@]}" --test-force-exit --test-concurrency=1 browser/*.test.mjs
echo "the console: $((SECONDS - begin)) s"
