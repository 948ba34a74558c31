"""`bouncetap run`: parts that die return, a supervisor that dies takes its parts with it in an orderly way."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import threading
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bouncetap.config import Config
from bouncetap.supervise import Supervisor
from tests.support.smtp import Mail, send_all
from tests.support.tap import Tap, free_port, wait_for

PARTS = ("proxy", "filer", "imap")


def batch(name: str, count: int = 10) -> list[Mail]:
    return [Mail(b"Subject: %s %d\r\n\r\nbody\r\n" % (name.encode(), n)) for n in range(count)]


def send(tap: Tap, mails: list[Mail]) -> None:
    assert all(reply.startswith(b"250") for reply in asyncio.run(send_all(tap.smtp_port, mails)))


def pids(tap: Tap) -> dict[str, int]:
    """Of the parts that answer."""
    return {part: pid for part in PARTS if (pid := tap.status(part).get("pid"))}


def start(tap: Tap) -> dict[str, int]:
    tap.spawn("run")
    wait_for(lambda: len(pids(tap)) == len(PARTS), "all parts to answer")
    return pids(tap)


def gone(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text("ascii", "replace").rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def assert_filed_once(tap: Tap, mails: list[Mail]) -> None:
    wait_for(lambda: len(tap.exported()) >= len(mails), "the filer to catch up")
    assert Counter(row["sha256"] for row in tap.exported()) == Counter(mail.sha256 for mail in mails)


def test_parts_that_die_return(tap: Tap, handler: Any) -> None:
    before = start(tap)
    mails = batch("before")
    send(tap, mails)
    for part in ("filer", "imap"):
        os.kill(before[part], signal.SIGKILL)
    mails += (meanwhile := batch("meanwhile"))
    send(tap, meanwhile)
    wait_for(lambda: not set(before.values()) & {pids(tap).get(part) for part in ("filer", "imap")}, "the old to go")
    wait_for(lambda: len(pids(tap)) == len(PARTS), "filer and imap to return")
    assert pids(tap)["proxy"] == before["proxy"], "the proxy is left alone"
    os.kill(before["proxy"], signal.SIGKILL)
    wait_for(lambda: pids(tap).get("proxy") not in {None, before["proxy"]}, "the proxy to return")
    mails += (after := batch("after"))
    send(tap, after)
    assert_filed_once(tap, mails)
    assert {row["sha256"] for row in handler.accepted()} == {mail.wire_sha256 for mail in mails}
    last = pids(tap)
    assert tap.stop() == {"run": 0}
    assert all(gone(pid) for pid in last.values())


def test_a_supervisor_that_is_killed(tap: Tap, handler: Any) -> None:
    before = start(tap)
    mails = batch("before")
    send(tap, mails)
    tap.kill("run")
    wait_for(lambda: all(gone(pid) for pid in before.values()), "the parts to stop")
    assert tap.log("run").count('"stopped"') == len(PARTS), "in an orderly way"
    tap.start("proxy", "filer")
    mails += (after := batch("after"))
    send(tap, after)
    assert_filed_once(tap, mails)
    assert len(handler.accepted()) == len(mails)


class Hurried(Supervisor):
    """Is told to stop in the very moment in which a part is being started."""

    async def _spawn(self, part: str) -> asyncio.subprocess.Process:
        if part == "filer":
            self.stop()
        return await super()._spawn(part)


def test_a_stop_while_a_part_is_being_started(tap: Tap) -> None:
    config: Config = tap.config

    async def run() -> int:
        async with asyncio.timeout(60):
            return await Hurried(config).run()

    assert asyncio.run(run()) == 0


def test_a_part_that_cannot_start_is_tried_again_and_the_mail_goes_on(tap: Tap, handler: Any) -> None:
    blocked = tap.state_dir / "index.db"
    blocked.mkdir(parents=True)
    tap.spawn("run")
    wait_for(lambda: tap.log("run").count('"part_died"') >= 4, "filer and imap to fail more than once")
    mails = batch("meanwhile")
    send(tap, mails)
    assert len(handler.accepted()) == len(mails)
    with urllib.request.urlopen(f"http://127.0.0.1:{tap.http_port}/readyz", timeout=10) as answer:
        assert answer.status == 200
    pauses = [json.loads(line)["pause_s"] for line in tap.log("run").splitlines() if '"died": "filer"' in line]
    assert pauses == [0.5 * 2**n for n in range(len(pauses))]
    blocked.rmdir()
    wait_for(lambda: len(pids(tap)) == len(PARTS), "filer and imap to come")
    assert_filed_once(tap, mails)
    assert tap.stop() == {"run": 0}


def test_systemd_hears_of_readiness_watchdog_and_stop_from_the_supervisor_alone(
    tap: Tap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", f"@bouncetap-test-{tap.smtp_port}")
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(f"\0bouncetap-test-{tap.smtp_port}")
        heard: list[bytes] = []
        systemd = threading.Thread(target=lambda: heard.extend(iter(lambda: notify.recv(100), b"the end")))
        systemd.start()
        tap.spawn("run")
        wait_for(lambda: len(pids(tap)) == len(PARTS), "all parts to answer")
        wait_for(lambda: heard.count(b"WATCHDOG=1") > 1, "the watchdog to be fed")
        code = tap.stop()["run"]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"the end", notify.getsockname())
        systemd.join()
    assert code == 0
    assert [word for word in heard if word != b"WATCHDOG=1"] == [b"READY=1", b"STOPPING=1"]


def test_a_second_one_on_the_same_state_directory_is_refused_in_one_line(tap: Tap, handler: Any) -> None:
    start(tap)
    text = tap.config_path.read_text(encoding="utf-8")
    other = tap.directory / "other.toml"
    for port in (tap.smtp_port, tap.imap_port, tap.http_port):
        text = text.replace(f":{port}", f":{free_port()}")
    other.write_text(text, encoding="utf-8")
    for command in ("run", "proxy", "filer", "imap"):
        done = tap.cli("--config", str(other), command)
        part = "proxy" if command == "run" else command
        assert done.returncode == 1
        assert done.stderr.count(b"\n") == 1
        assert f"another {part} runs on {tap.state_dir}" in done.stderr.decode()
    assert len(pids(tap)) == len(PARTS), "the first is not disturbed"


def test_what_keeps_it_from_starting_is_one_line(tap: Tap) -> None:
    with socket.create_server(("127.0.0.1", tap.smtp_port)):
        done = tap.cli("run")
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert f"cannot listen on 127.0.0.1:{tap.smtp_port}: Address already in use" in done.stderr.decode()
    (tap.directory / "file").touch()
    text = tap.config_path.read_text(encoding="utf-8")
    tap.config_path.write_text(text.replace("/var", "/file/var"), encoding="utf-8")
    for command in ("run", "proxy", "filer", "imap"):
        done = tap.cli(command)
        assert (done.returncode, done.stderr.count(b"\n")) == (1, 1), done.stderr
        assert b"Not a directory" in done.stderr


def test_a_taken_metrics_port_keeps_no_mail_waiting(tap: Tap, handler: Any) -> None:
    with socket.create_server(("127.0.0.1", tap.http_port)):
        start(tap)
        send(tap, mails := batch("without metrics"))
        assert len(handler.accepted()) == len(mails)
    assert '"http_not_started"' in tap.log("run")
