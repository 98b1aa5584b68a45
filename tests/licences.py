#!/usr/bin/env python3
"""Every dependency may be shipped inside a closed binary: its licence is one of ALLOWED, or it is a
known exception.

Reads `cargo metadata` for the target that is shipped. Standard library only.
"""

import json
import re
import subprocess
import sys

ALLOWED = {
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "IJG",
    "ISC",
    "MIT",
    "MIT-0",
    "OpenSSL",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Unlicense",
    "WTFPL",
    "Zlib",
}
# Weak copyleft by file: the crate is used unchanged, its source is on crates.io.
MPL = {"MPL-2.0"}


def permitted(expression, allowed):
    """Whether an SPDX expression leaves a choice that is allowed. AND binds tighter than OR; old
    crates write / for OR."""
    tokens = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))

    def alternatives():
        result = conjunction()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            result = conjunction() or result
        return result

    def conjunction():
        result = term()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            result = term() and result
        return result

    def term():
        token = tokens.pop(0)
        if token == "(":
            result = alternatives()
            tokens.pop(0)
            return result
        if tokens and tokens[0] == "WITH":
            tokens.pop(0)
            token += " WITH " + tokens.pop(0)
        return token in allowed

    return alternatives()


def host():
    """The triple of the machine that this runs on."""
    told = subprocess.run(["rustc", "-vV"], check=True, stdout=subprocess.PIPE, text=True).stdout
    return next(line.split()[1] for line in told.splitlines() if line.startswith("host:"))


def main():
    command = [
        "cargo",
        "metadata",
        "--format-version",
        "1",
        "--locked",
        "--filter-platform",
        host(),
    ]
    metadata = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    used = {node["id"] for node in metadata["resolve"]["nodes"]}
    refused, exceptions, count = [], [], 0
    for package in metadata["packages"]:
        if package["id"] not in used:
            continue
        count += 1
        name, licence = f"{package['name']} {package['version']}", package["license"]
        if not licence:
            refused.append(f"{name}: names no licence")
        elif permitted(licence, ALLOWED):
            continue
        elif permitted(licence, ALLOWED | MPL):
            exceptions.append(f"{name}: {licence}")
        else:
            refused.append(f"{name}: {licence}")
    for line in exceptions:
        print(f"exception (MPL-2.0): {line}")
    for line in refused:
        print(f"not permitted: {line}", file=sys.stderr)
    print(f"{count} crates, {len(exceptions)} exceptions, {len(refused)} refused")
    return bool(refused)


sys.exit(main())
