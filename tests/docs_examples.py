#!/usr/bin/env python3
"""Runs every command and example of README.md and docs/ against a running demo, so that they cannot
rot.

Each fenced block says in an HTML comment on the line above it what becomes of it:

    <!-- run -->                  a shell script, run to its end; it must succeed
    <!-- run: server -->          a shell script that starts the server; the one before is stopped
    <!-- run: background -->      a program that runs until the end
    <!-- run: javascript -->      a Node.js program (`as NAME.mjs`: its file)
    <!-- file: NAME -->           the content of a file that later blocks use
    <!-- output -->               what the block before it must print; an ellipsis is anything
    <!-- not run: REASON -->      cannot be run here

`; needs: s3` starts an S3 server with a bucket "outputs", `; expect: TEXT` waits for TEXT in the
output of a background program. A json block without a comment must only be JSON. Every other block
without one is an error.

Usage: python tests/docs_examples.py [PAGE...] (default: all pages); BINARY names the server
(default: the dev build); relative links are checked too. Ports are replaced by free ones. Needs the
packages of tests/peers/requirements.txt in the Python that runs it, node, jq, curl, file.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BINARY = Path(os.environ.get("BINARY", ROOT / "target/debug/comfyui-api")).resolve()
NODE_MODULES = Path(os.environ.get("TEST_NODE_MODULES", "/opt/comfyui-api-test/node_modules"))
FENCE = re.compile(
    r"^(?:<!-- (?P<mark>.*?) -->\n)?```(?P<language>\w*)\n(?P<body>.*?)^```$", re.M | re.S
)


class Failed(Exception):
    """An example that is not as its page says."""


class Block:
    def __init__(self, match, line):
        self.line = line
        self.language = match["language"]
        self.body = match["body"]
        mark = match["mark"] or ""
        # A reason may hold any text.
        mark, *options = (
            [mark] if mark.startswith("not run") else [part.strip() for part in mark.split(";")]
        )
        self.kind, _, rest = mark.partition(":")
        self.kind, self.rest = self.kind.strip(), rest.strip()
        self.options = dict(
            tuple(text.strip() for text in option.split(":", 1)) for option in options
        )


def blocks(text):
    for match in FENCE.finditer(text):
        yield Block(match, text.count("\n", 0, match.start("body")) + 1)


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Stage:
    """A directory, the ports, and the programs that run."""

    def __init__(self, directory):
        self.directory = directory
        named = [3000, 4000, 4001, 9000]
        self.ports = dict(zip(named, free_ports(len(named))))
        self.server, self.servers, self.background, self.output = None, 0, [], ""
        (directory / "bin").mkdir()
        (directory / "bin/comfyui-api").symlink_to(BINARY)
        (directory / "node_modules").symlink_to(NODE_MODULES)
        self.environment = {
            "PATH": f"{directory}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": os.environ.get("HOME", "/root"),
            "LANG": "C.UTF-8",
            "PORT": str(self.ports[3000]),
            "LOG_FORMAT": "json",
            **{
                name: os.environ[name]
                for name in ("CARGO_HOME", "RUSTUP_HOME", "CARGO_TARGET_DIR", "TMPDIR")
                if name in os.environ
            },
        }

    def placed(self, text):
        """The text with the ports of this run."""
        for named, port in self.ports.items():
            text = re.sub(
                rf"(localhost[:\"', ]+|port in .*|listen\(){named}\b",
                lambda m: m[0][: -len(str(named))] + str(port),
                text,
            )
        # A loop over two ports.
        return re.sub(
            r"for port in ([\d ]+);",
            lambda m: (
                "for port in "
                + " ".join(str(self.ports.get(int(p), p)) for p in m[1].split())
                + ";"
            ),
            text,
        )

    def shell(self, body):
        return ["bash", "-euo", "pipefail", "-c", body]

    def start(self, command, directory, log):
        with open(log, "wb") as out:
            return subprocess.Popen(
                command,
                cwd=directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def start_server(self, block):
        self.stop_server()
        if block.options.get("needs") == "s3":
            self.start_s3()
        self.servers += 1
        log = self.directory / f"server-{self.servers}.log"
        body = self.placed(block.body)
        # What is built is built from the repository; everything else happens in the directory of
        # the examples.
        directory = ROOT if "cargo run" in body else self.directory
        self.server = self.start(self.shell(body), directory, log)
        # A cold build takes its time.
        deadline = time.monotonic() + (900 if "cargo" in body else 120)
        while not self.answers(f"http://127.0.0.1:{self.ports[3000]}/ready"):
            if self.server.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"the server did not become ready:\n{log.read_text()[-3000:]}")
            time.sleep(0.05)

    @staticmethod
    def answers(url):
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                return answer.status == 200
        except (OSError, urllib.error.URLError):
            return False

    def start_s3(self):
        port = self.ports[9000]
        program = f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"
        self.background.append(
            (
                self.start(
                    [sys.executable, "-c", program], self.directory, self.directory / "s3.log"
                ),
                None,
                None,
                None,
            )
        )
        deadline = time.monotonic() + 60
        while not self.answers(f"http://127.0.0.1:{port}/moto-api/"):
            if time.monotonic() > deadline:
                raise Failed(
                    "the S3 server (moto) did not start: "
                    + (self.directory / "s3.log").read_text()[-2000:]
                )
            time.sleep(0.1)
        signature = (
            "AWS4-HMAC-SHA256 Credential=trial/20260101/us-east-1/s3/aws4_request, "
            "SignedHeaders=host, Signature=0"
        )
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/outputs", method="PUT", headers={"authorization": signature}
        )
        urllib.request.urlopen(request, timeout=10).close()

    def run(self, block):
        result = self.finish(self.shell(self.placed(block.body)))
        self.output = result

    def run_javascript(self, block):
        name = block.rest.partition(" as ")[2] or f"line{block.line}.mjs"
        (self.directory / name).write_text(self.placed(block.body))
        self.output = self.finish(["node", name])

    def finish(self, command):
        done = subprocess.run(
            command,
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=120,
            check=False,
        )
        output = done.stdout.decode()
        if done.returncode:
            raise Failed(f"it ended with {done.returncode}:\n{output}")
        return output

    def start_background(self, block):
        name = (
            block.rest.partition(" as ")[2]
            or f"line{block.line}.{'py' if block.language == 'python' else 'mjs'}"
        )
        (self.directory / name).write_text(self.placed(block.body))
        program = sys.executable if block.language == "python" else "node"
        log = self.directory / f"{name}.log"
        self.background.append(
            (
                self.start([program, name], self.directory, log),
                block,
                log,
                block.options.get("expect"),
            )
        )

    def check_background(self):
        """Whatever was expected of the programs in the background has come."""
        for _, block, log, expected in self.background:
            deadline = time.monotonic() + 20
            while expected and expected not in log.read_text():
                if time.monotonic() > deadline:
                    raise Failed(
                        f'line {block.line}: "{expected}" did not come:\n{log.read_text()[-2000:]}'
                    )
                time.sleep(0.05)

    def stop_server(self):
        if self.server:
            self.end(self.server, "the server")
            self.server = None

    @staticmethod
    def end(process, name):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired as late:
                os.killpg(process.pid, signal.SIGKILL)
                raise Failed(f"{name} did not end within 60 s after SIGTERM") from late

    def close(self):
        self.stop_server()
        for process, *_ in self.background:
            self.end(process, "a program in the background")


def check_output(expected, printed):
    pattern = ".*?".join(re.escape(part) for part in expected.strip().split("…"))
    if not re.fullmatch(pattern, printed.strip(), re.S):
        raise Failed(f"the page says:\n{expected}\nbut it printed:\n{printed}")


def play(stage, block):
    kind = block.kind
    if kind == "output":
        check_output(block.body, stage.output)
    elif kind == "file":
        path = stage.directory / block.rest
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.body)
        if block.language == "json":
            json.loads(block.body)
    elif kind == "not run" and block.rest:
        pass
    elif kind == "run" and block.rest.startswith("server"):
        stage.start_server(block)
    elif kind == "run" and block.rest.startswith("background"):
        stage.start_background(block)
    elif kind == "run" and block.language == "javascript":
        stage.run_javascript(block)
    elif kind == "run" and block.language == "shell":
        stage.run(block)
    elif block.language == "json":
        json.loads(block.body)
    else:
        raise Failed(
            f"nothing says how to run this block ({block.language}); see tests/docs_examples.py"
        )


# The guide in the order in which a reader takes it: a page may use files and the server of the
# pages before it. Every other page starts what it needs.
FIRST = ["README.md"] + [
    f"docs/guide/{name}.md"
    for name in (
        "prompts inputs-and-models webhooks storage queue workflow-endpoints deployment security"
    ).split()
]


def pages():
    others = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))
    # The contract describes; its blocks are no examples.
    others = [
        page for page in others if page not in FIRST and not page.startswith("docs/contract/")
    ]
    return [ROOT / page for page in FIRST + others]


def broken_links(page):
    """Relative links of a page that lead nowhere."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        name, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        file = (page.parent / name) if name else page
        if not file.exists():
            yield target
        elif anchor and file.suffix == ".md" and anchor not in anchors(file):
            yield target


def anchors(page):
    return {
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    }


def play_page(stage, page):
    name = page.relative_to(ROOT)
    count = 0
    for block in blocks(page.read_text()):
        started = time.monotonic()
        try:
            play(stage, block)
        except (Failed, subprocess.TimeoutExpired, json.JSONDecodeError) as failure:
            raise Failed(f"{name}:{block.line}: {failure}") from failure
        if block.kind == "run":
            count += 1
            print(
                f"{name}:{block.line}: {block.language} ran in {time.monotonic() - started:.1f} s",
                flush=True,
            )
        elif block.kind == "not run":
            print(f"{name}:{block.line}: not run: {block.rest}")
    return count


def main():
    if not BINARY.exists():
        sys.exit(f"{BINARY} is missing: cargo build, or name another one by BINARY")
    every = [ROOT / name for name in sys.argv[1:]] or pages()
    broken = [
        f"{page.relative_to(ROOT)}: {link} leads nowhere"
        for page in [*every, *(ROOT / "docs/contract").glob("*.md")]
        for link in broken_links(page)
    ]
    if broken:
        sys.exit("\n".join(broken))
    count = 0
    with tempfile.TemporaryDirectory(prefix="docs-") as directory:
        stage = Stage(Path(directory))
        try:
            for page in every:
                count += play_page(stage, page)
            stage.check_background()
        except Failed as failure:
            print(failure, file=sys.stderr)
            for log in sorted(
                stage.directory.glob("server-*.log"), key=lambda log: log.stat().st_mtime
            )[-1:]:
                print(f"--- the server's log\n{log.read_text()[-2000:]}", file=sys.stderr)
            return 1
        finally:
            stage.close()
    if len(sys.argv) == 1 and count < 20:
        sys.exit(f"only {count} examples were found: the marks in the documentation are broken")
    print(f"{count} examples of the documentation ran")
    return 0


sys.exit(main())
