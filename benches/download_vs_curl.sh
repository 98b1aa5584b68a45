#!/bin/sh
# 2 GB over loopback: our throughput as a ratio of curl's in the same run, and how far our memory
# grew (limit 32 MiB). Usage: benches/download_vs_curl.sh [megabytes] [rounds]. Needs curl, nginx or
# python3, and a release build of the example.
set -eu
megabytes=${1:-2048}
rounds=${2:-3}
cd "$(dirname "$0")/.."
cargo build --release --example download
download=target/release/examples/download
work=$(mktemp -d "${TMPDIR:-/tmp}/download_vs_curl.XXXXXX")
server=
trap 'test -z "$server" || kill "$server"; rm -rf "$work"' EXIT INT TERM
mkdir "$work/www"
head -c "$((megabytes * 1024 * 1024))" /dev/zero > "$work/www/file.bin"
port=$((20000 + $$ % 20000))
if command -v nginx > /dev/null; then
    cat > "$work/nginx.conf" <<CONF
daemon off;
worker_processes 1;
pid $work/nginx.pid;
error_log $work/error.log;
events { worker_connections 64; }
http { access_log off; sendfile on; server { listen 127.0.0.1:$port; root $work/www; } }
CONF
    chmod -R a+rX "$work"
    nginx -c "$work/nginx.conf" &
else
    # Without ranges, so only one connection: the ratio is then about one connection too.
    python3 -m http.server --directory "$work/www" --bind 127.0.0.1 "$port" > /dev/null 2>&1 &
fi
server=$!
until curl -sfI "http://127.0.0.1:$port/file.bin" > /dev/null; do sleep 0.1; done
round=0
while [ "$round" -lt "$rounds" ]; do
    round=$((round + 1))
    curl_s=$(curl -so "$work/curl.bin" -w '%{time_total}' "http://127.0.0.1:$port/file.bin")
    rm "$work/curl.bin"
    ours=$("$download" "http://127.0.0.1:$port/file.bin" "$work/cache")
    rm -r "$work/cache"
    echo "$ours $curl_s" | awk '{
        printf "ours %.2f s (%.0f MB/s), ", $1, $2 / $1 / 1e6
        printf "curl %.2f s (%.0f MB/s): ", $4, $2 / $4 / 1e6
        printf "ratio %.2f, memory grew by %.1f MiB\n", $4 / $1, $3 / 1024
    }'
done
