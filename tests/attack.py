#!/usr/bin/env python3
"""Attacks a server of its own as a hostile client, file server and operator's bad luck would, and
says what held.

    python3 tests/attack.py            all of it (`just attack`)
    python3 tests/attack.py --quick    the part that runs in .ci/run
    python3 tests/attack.py NAME...    only these

The server is the built-in demo of $BINARY (default: the dev build), on loopback, in a directory
that is thrown away. While an attack runs, another client asks for /health all the time: no answer
may take longer than 250 ms (dev build: 1 s), and a prompt of that client must go through
afterwards. Every attack ends by itself and is bounded in count and time. The rules are those of
docs/contract/attack.md; the limits stand in docs/reference/limits.md. The attacks themselves:
tests/attacks/.
"""

import argparse
import shutil
import sys
import time

from attacks import clients, connections, luck, servers  # noqa: F401
from attacks.stage import ATTACKS, BINARY, Bystander, Origin, Server, graph


def run(name):
    """Runs one; `True` when it held."""
    function, _, alone, environment = ATTACKS[name]
    server, origin = Server(**environment), Origin()
    bystander = Bystander(server)
    began = time.monotonic()
    try:
        if not alone:
            bystander.start()
        seen = function(server, origin)
        beside = "" if alone else "; " + bystander.verdict()
        status, _ = server.prompt({"prompt": graph("after")})
        assert status == 200, f"a prompt afterwards was answered {status}"
        server.stop()
        print(f"held    {name} ({time.monotonic() - began:.0f} s): {seen}{beside}", flush=True)
        return True
    except AssertionError as failure:
        bystander.over.set()
        print(f"FAILED  {name}: {failure}", flush=True)
        server.kill()
        return False
    finally:
        origin.close()
        shutil.rmtree(server.directory, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="only what runs in .ci/run")
    parser.add_argument("names", nargs="*", help="only these")
    chosen = parser.parse_args()
    if not BINARY.exists():
        sys.exit(f"{BINARY} is missing: cargo build, or name another one by BINARY")
    unknown = [name for name in chosen.names if name not in ATTACKS]
    if unknown:
        sys.exit(f"there is no attack {', '.join(unknown)}; these are: {', '.join(ATTACKS)}")
    names = chosen.names or [
        name for name, (_, quick, *_) in ATTACKS.items() if quick or not chosen.quick
    ]
    failed = len([name for name in names if not run(name)])
    sys.exit(f"{failed} of {len(names)} attacks did not hold" if failed else 0)


if __name__ == "__main__":
    main()
