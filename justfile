# The everyday commands; `just` lists them.

default:
    @just --list

# the product with a simulated ComfyUI
run *args:
    cargo run -- demo {{args}}

# everything that is checked before a merge
ci:
    .ci/run

# tests, optionally those whose name holds FILTER
test filter="":
    cargo test --locked {{filter}}

# formatters and linters
lint:
    CI_ONLY="format clippy" .ci/run

# writes what the formatters of Rust, Python and JavaScript want
format:
    cargo fmt --all
    "${TEST_PYTHON:-/opt/comfyui-api-test/venv/bin/python}" -m ruff format .
    git ls-files -z '*.js' '*.mjs' '*.ts' '*.css' '*.html' | xargs -0 \
        node "$(tests/console/packages.sh)/prettier/bin/prettier.cjs" --write --log-level warn

# licences, duplicates and advisories (needs cargo-deny)
deny:
    cargo deny check

# throughput and latency against ComfyUI driven directly, then the codecs
bench:
    BINARY=bin/comfyui-api benches/load.sh
    cargo bench --bench convert

# the examples of the documentation against a dev build
docs:
    cargo build --locked
    python3 tests/docs_examples.py

# the tests that run against the server alone, behind a gateway, a broker and two instances
judge-fleet *args:
    "${TEST_PYTHON:-python3}" tests/judge_fleet.py {{args}}

# the fleet of the compose file and of the Kubernetes manifests, as processes
fleet-manifests:
    cargo build --locked
    "${TEST_PYTHON:-python3}" tests/fleet_manifests.py

# ten minutes of mixed load with faults
soak minutes="10":
    python3 tests/soak.py {{minutes}}

# kill -9 under load, over and over: no recorded job, output, upload or key is lost
soak-jobs rounds="200":
    "${TEST_PYTHON:-python3}" tests/v2_soak.py {{rounds}}

# the binary to ship
binary:
    ./build-binary

# every attack of docs/contract/attack.md that can be repeated from outside, against the built binary
attack *names:
    python3 tests/attack.py {{names}}
