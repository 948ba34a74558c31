"""The demo, as `make run` starts it: on a terminal and without one, several at once, killed, and in the wrong place."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
from pathlib import Path

from tests.support.tap import wait_for

ROOT = Path(__file__).parents[2]
COLUMNS = 80


def demo(state: Path, *arguments: str, stdout: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "bouncetap", "demo", "--state", str(state), *arguments]
    return subprocess.Popen(command, stdout=stdout, stderr=subprocess.STDOUT, cwd=ROOT)


def terminal() -> tuple[int, int]:
    reading, writing = pty.openpty()
    fcntl.ioctl(writing, termios.TIOCSWINSZ, struct.pack("HHHH", 25, COLUMNS, 0, 0))
    return reading, writing


def until_its_end(reading: int) -> str:
    shown = b""
    with contextlib.suppress(OSError):  # EIO: the last writer has gone
        while piece := os.read(reading, 1 << 16):
            shown += piece
    os.close(reading)
    return shown.decode()


def running(state: Path) -> list[int]:
    """Processes that name this state directory on their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and f"{state}/".encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


def test_two_at_once_with_the_usual_ports_taken(tmp_path: Path) -> None:
    with contextlib.ExitStack() as taken:
        for port in (2525, 2526, 1143, 9025):
            with contextlib.suppress(OSError):  # somebody else's is as good
                taken.enter_context(socket.create_server(("127.0.0.1", port)))
        demos = [demo(tmp_path / "demo", "--once", "--config", "my.toml") for _ in range(2)]
        said = [process.communicate(timeout=100)[0].decode() for process in demos]
    assert [process.returncode for process in demos] == [0, 0], said
    for text in said:
        sent, at_handler, identical, filed = map(int, re.findall(r"\d+", text[text.index("\nsent ") :])[:4])
        assert sent == at_handler == identical == filed > 60
        assert "\r" not in text
        assert "my.toml is not used" in text
    assert {path.name for path in tmp_path.iterdir()} == {"demo", "demo-2"}
    assert not running(tmp_path)


def test_on_a_terminal_nothing_is_wider_than_it(tmp_path: Path) -> None:
    reading, writing = terminal()
    process = demo(tmp_path / "demo", stdout=writing)
    os.close(writing)
    shown = b""
    while b"its log" not in shown:
        shown += (piece := os.read(reading, 1 << 16))
        assert piece
    process.send_signal(signal.SIGINT)
    rest = until_its_end(reading)
    assert process.wait(30) == 0
    assert "stopping" in rest
    lines = [line.rpartition("\r")[2] for line in (shown.decode() + rest).split("\r\n")]
    rows = [line for line in lines if str(tmp_path) not in line]  # this directory's name is long
    assert max(map(len, rows)) <= COLUMNS, max(rows, key=len)
    assert not running(tmp_path)


def test_a_demo_that_is_killed_leaves_nothing_running(tmp_path: Path) -> None:
    process = demo(tmp_path / "demo", stdout=subprocess.DEVNULL)
    wait_for(lambda: len(running(tmp_path)) >= 4, "the parts to start")
    process.kill()
    process.wait()
    wait_for(lambda: not running(tmp_path), "the tap to stop")


def test_it_empties_no_directory_that_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x", encoding="utf-8")
    process = demo(tmp_path, "--once")
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 1
    assert said.count(b"\n") == 1
    assert (tmp_path / "precious").exists()
