"""The tap as its users run it: real processes, a state directory of their own, free ports.

`Tap(tmp_path).start("proxy", "filer", "imap")` runs the parts singly, so that a test can kill or freeze one of them.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bouncetap.config import load
from bouncetap.control import Unreachable, ask

DOMAIN = "bounces.example.com"
START_TIMEOUT_S = 60.0
PORT_MIN, PORT_MAX = 12_000, 32_000


_claims: list[socket.socket] = []


def free_port() -> int:
    """A port for a server that is still to come, ours for as long as this process lives.

    Below the range that connections get theirs from; an abstract Unix socket says so to the tests that run beside us.
    """
    for port in random.sample(range(PORT_MIN, PORT_MAX), 1000):
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            claim.bind(f"\0bouncetap-tests-{port}")
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            claim.close()
            continue
        _claims.append(claim)
        return port
    raise OSError("no free port")


class Tap:
    def __init__(self, directory: Path, *, handler_port: int, extra: str = "", domains: str = f'"{DOMAIN}"') -> None:
        self.directory = directory
        self.smtp_port, self.imap_port, self.http_port = free_port(), free_port(), free_port()
        self.config_path = directory / "bouncetap.toml"
        self.config_path.write_text(
            f"""\
state_dir = "{directory}/var"
[proxy]
listen = ["127.0.0.1:{self.smtp_port}"]
hostname = "tap.test"
domains = [{domains}]
[legacy]
hosts = ["127.0.0.1:{handler_port}"]
[imap]
listen = ["127.0.0.1:{self.imap_port}"]
[http]
listen = "127.0.0.1:{self.http_port}"
{extra}""",
            encoding="utf-8",
        )
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.state_dir = directory / "var"
        self.config = load(self.config_path, serving=True, environment={})

    def environment(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if not name.startswith("BOUNCETAP_")}

    def spawn(self, *parts: str) -> None:
        for part in parts:
            with (self.directory / f"{part}.log").open("ab") as log:
                self.processes[part] = subprocess.Popen(
                    [sys.executable, "-m", "bouncetap", "--config", str(self.config_path), part],
                    stderr=log, stdin=subprocess.DEVNULL, env=self.environment(),
                )  # fmt: skip

    def start(self, *parts: str) -> None:
        self.spawn(*parts)
        try:
            for part in parts:
                self.await_part(part)
        except BaseException:
            self.stop()  # a fixture that fails has no end of its own
            raise

    def await_part(self, part: str) -> None:
        pid = self.processes[part].pid

        def ready() -> bool:
            assert self.processes[part].poll() is None, f"{part} ended: {self.log(part)[-2000:]}"
            return bool(self.status(part).get("pid") == pid)

        wait_for(ready, f"{part} to answer", START_TIMEOUT_S)

    def status(self, part: str) -> dict[str, Any]:
        try:
            return dict(asyncio.run(ask(self.state_dir, part, "status", timeout_s=2)))
        except Unreachable:
            return {}

    def log(self, part: str) -> str:
        return (self.directory / f"{part}.log").read_text(encoding="utf-8", errors="replace")

    def send_signal(self, part: str, number: signal.Signals) -> None:
        self.processes[part].send_signal(number)

    def kill(self, part: str) -> None:
        self.processes[part].kill()
        self.processes[part].wait()

    def stop(self) -> dict[str, int]:
        """Stops all parts in an orderly way; their exit codes. Use as a finalizer too: it never raises."""
        for process in self.processes.values():
            process.send_signal(signal.SIGCONT)
            process.terminate()
        codes = {}
        for part, process in self.processes.items():
            try:
                codes[part] = process.wait(90)
            except subprocess.TimeoutExpired:
                process.kill()
                codes[part] = process.wait()
        return codes

    def cli(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "bouncetap", "--config", str(self.config_path), *arguments],
            input=stdin, capture_output=True, env=self.environment(), check=False, timeout=120,
        )  # fmt: skip

    def exported(self) -> list[dict[str, Any]]:
        """Everything in the quarantine, as `bouncetap export --format jsonl` tells it."""
        done = self.cli("export", "--format", "jsonl")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]


def wait_for(condition: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s in vain for {what}"
        time.sleep(0.05)
