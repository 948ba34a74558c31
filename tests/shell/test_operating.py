"""The operator's commands on a tap in trouble: spooled and dead mail, a handler that is away, refuses, or hangs up."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.smtp import Mail, Session, send_all
from tests.support.tap import Tap, free_port, wait_for

ROOT = Path(__file__).parents[2]


class Legacy:
    """The handler: a process that can go away and come back, with a script."""

    def __init__(self, directory: Path) -> None:
        self.port, self._log = free_port(), directory / "handler.jsonl"
        self._process: subprocess.Popen[bytes] | None = None

    def come(self, **script: str) -> None:
        command = [sys.executable, "-m", "tests.support.handler", "--port", str(self.port), "--log", str(self._log)]
        self._process = subprocess.Popen([*command, "--script", json.dumps(script)], stdout=subprocess.PIPE, cwd=ROOT)
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def go(self) -> None:
        if self._process is not None and self._process.stdout is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()
            self._process = None

    def got(self, mail: Mail) -> int:
        lines = self._log.read_text(encoding="utf-8").splitlines() if self._log.exists() else []
        return [json.loads(line)["sha256"] for line in lines].count(mail.wire_sha256)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("operating")


@pytest.fixture(scope="module")
def legacy(directory: Path) -> Iterator[Legacy]:
    legacy = Legacy(directory)
    yield legacy
    legacy.go()


@pytest.fixture(scope="module")
def tap(directory: Path, legacy: Legacy) -> Iterator[Tap]:
    """Its handler is away: whoever needs it lets it come."""
    tap = Tap(directory, handler_port=legacy.port, extra='[journal]\nreserve = "10MB"\n')
    text = tap.config_path.read_text(encoding="utf-8")
    patient = '[legacy]\nretry_min = "10m"\nretry_max = "1h"\n'
    tap.config_path.write_text(text.replace("[legacy]\n", patient), encoding="utf-8")
    tap.start("proxy", "filer", "imap")
    yield tap
    tap.stop()


def mail(name: str) -> Mail:
    return Mail(b"Subject: %s\r\n\r\nbody\r\n" % name.encode())


def send(tap: Tap, *mails: Mail) -> None:
    assert all(reply.startswith(b"250") for reply in asyncio.run(send_all(tap.smtp_port, list(mails))))


def spooled(tap: Tap, *arguments: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in tap.cli("spool", "ls", "--json", *arguments).stdout.splitlines()]


def said(done: subprocess.CompletedProcess[bytes], code: int = 0) -> str:
    assert done.returncode == code, done
    assert b"Traceback" not in done.stderr
    if code == 1:
        assert done.stderr.count(b"\n") == 1
        assert done.stderr.startswith(b"bouncetap: ")
    return (done.stdout or done.stderr).decode()


def test_spooled_mail_is_listed_retried_dropped_and_resent(tap: Tap, legacy: Legacy) -> None:
    first, second = mail("first"), mail("second")
    send(tap, first, second)
    wait_for(lambda: [row["state"] for row in spooled(tap)] == ["waiting"] * 2, "both to be spooled")
    one, two = (str(row["id"]) for row in spooled(tap))
    assert "Connection refused" in said(tap.cli("spool", "ls"))
    assert said(tap.cli("spool", "ls", "--dead")) == ""

    shown = said(tap.cli("status"))
    assert "spool: 2 messages" in shown
    assert "! handler" in shown
    assert "open" in said(tap.cli("journal", "ls"))
    assert "rcpt to    <return@bounces.example.com>" in said(tap.cli("journal", "show", one))
    wait_for(lambda: "folder:" in said(tap.cli("message", one)), "it to be filed")
    assert "$Spooled" in said(tap.cli("message", one))
    assert "did not take" in tap.cli("message", one, "--resend").stderr.decode()

    assert "stays in the quarantine" in said(tap.cli("spool", "drop", one))
    assert [row["id"] for row in spooled(tap)] == [two]
    wait_for(lambda: "handler:   dropped\n" in said(tap.cli("message", one)), "the fate to be known")

    legacy.come()
    assert said(tap.cli("spool", "retry", two)) == "retrying 1 message\n"
    wait_for(lambda: not spooled(tap), "it to leave")
    assert (legacy.got(first), legacy.got(second)) == (0, 1)
    assert "250" in said(tap.cli("message", one, "--resend"))
    assert legacy.got(first) == 1
    legacy.go()


def test_dead_letters(tap: Tap, legacy: Legacy) -> None:
    dead = mail("dead")
    send(tap, dead)
    wait_for(lambda: len(spooled(tap)) == 1, "it to be spooled")
    legacy.come(dot="554 5.7.1 not wanted")
    assert said(tap.cli("spool", "retry", "--all")) == "retrying 1 message\n"
    wait_for(lambda: len(spooled(tap, "--dead")) == 1, "it to be refused")
    ident = str(spooled(tap, "--dead")[0]["id"])
    assert "554 5.7.1 not wanted" in said(tap.cli("spool", "ls", "--dead"))
    assert "! 1 message refused by the handler" in said(tap.cli("status"))
    wait_for(lambda: "$Dead" in said(tap.cli("message", ident)), "the quarantine to show it")
    tap.kill("proxy")
    tap.start("proxy")
    assert [row["id"] for row in spooled(tap, "--dead")] == [ident]  # the quarantine knows it
    assert "--resend" in tap.cli("spool", "drop", ident).stderr.decode()  # it waits for nothing
    assert "554" in tap.cli("message", ident, "--resend").stdout.decode()
    legacy.go()
    legacy.come()
    assert said(tap.cli("message", ident, "--resend")).startswith("250")
    assert legacy.got(dead) == 1
    legacy.go()


@pytest.mark.parametrize(
    "command",
    [("spool", "retry", "01JZZ"), ("spool", "drop", "01JZZ"), ("message", "01JZZ"), ("message", "01JZZ", "--raw"),
     ("message", "01JZZ", "--resend"), ("journal", "show", "01JZZ"), ("account", "remove", "nobody")],
    ids=" ".join,
)  # fmt: skip
def test_what_is_not_there_is_one_clear_line(tap: Tap, command: tuple[str, ...]) -> None:
    done = tap.cli(*command)
    assert done.stdout == b""
    assert command[-1] in said(done, 1) or command[1] in said(done, 1)


@pytest.mark.parametrize(
    "command",
    [("nonsense",), ("spool", "retry"), ("spool", "retry", "x", "--all"), ("export", "--since", "yesterday"),
     ("export", "--kind", "nonsense"), ("message", "x", "--raw", "--resend"), ("account", "add", "x"), ("message",),
     ("init", "--domain", "two words"), ("check", "--to", "nobody"), ("status", "--nonsense")],
    ids=" ".join,
)  # fmt: skip
def test_wrong_usage_is_code_2(tap: Tap, command: tuple[str, ...]) -> None:
    assert "Error: " in said(tap.cli(*command), 2)


def ready(tap: Tap) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{tap.http_port}/readyz", timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


async def greeted(port: int) -> bool:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    line = await reader.readline()
    writer.close()
    return line.startswith(b"220")


def test_pause_resume_and_drain_are_felt_by_senders_and_balancers(tap: Tap) -> None:
    assert (ready(tap), asyncio.run(greeted(tap.smtp_port))) == (200, True)
    for command in ("pause", "drain"):
        assert said(tap.cli(command)) == f"{'paused' if command == 'pause' else 'drained'}\n"
        assert (ready(tap), asyncio.run(greeted(tap.smtp_port))) == (503, False)
        assert "proxy   paused" in said(tap.cli("status"))
        assert said(tap.cli("resume")) == "resumed\n"
        assert (ready(tap), asyncio.run(greeted(tap.smtp_port))) == (200, True)


async def taken(tap: Tap, domain: bytes) -> bool:
    session = await Session(tap.smtp_port).open()
    await session.say(b"MAIL FROM:<>\r\n")
    reply = await session.say(b"RCPT TO:<a@%s>\r\n" % domain)
    session.close()
    return reply.startswith(b"250")


def test_a_reload_is_felt_and_what_needs_a_restart_is_told(tap: Tap) -> None:
    good = tap.config_path.read_text(encoding="utf-8")
    assert not asyncio.run(taken(tap, b"new.example"))
    changed = good.replace('"bounces.example.com"', '"bounces.example.com", "new.example"')
    tap.config_path.write_text(changed, encoding="utf-8")
    assert "restart" not in said(tap.cli("reload"))
    assert asyncio.run(taken(tap, b"new.example"))
    tap.config_path.write_text(good.replace('reserve = "10MB"', 'reserve = "11MB"'), encoding="utf-8")
    tap.send_signal("proxy", signal.SIGHUP)
    wait_for(lambda: '"needs_restart": ["journal.reserve"]' in tap.log("proxy"), "SIGHUP to be heard")
    assert not asyncio.run(taken(tap, b"new.example"))
    assert said(tap.cli("reload")).endswith("only a restart takes over: journal.reserve\n")
    tap.config_path.write_text(good, encoding="utf-8")


def test_status_as_json_has_every_part(tap: Tap) -> None:
    found = json.loads(said(tap.cli("status", "--json")))
    assert {part: state["running"] for part, state in found.items()} == {"proxy": True, "filer": True, "imap": True}
    assert found["proxy"]["delivery"]["untapped"] == 0


def test_status_of_a_part_that_is_away(tap: Tap) -> None:
    tap.kill("imap")
    done = tap.cli("status")
    assert done.returncode == 1
    assert b"imap    NOT RUNNING" in done.stdout
    assert not json.loads(tap.cli("status", "--json").stdout)["imap"]["running"]
    tap.start("imap")


def typed(tap: Tap, lines: list[str], *arguments: str) -> tuple[int, str]:
    """What a command shows on a terminal where somebody types these lines, and its exit code."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, [sys.executable, "-m", "bouncetap", "--config", str(tap.config_path), *arguments],
                  tap.environment())  # fmt: skip
    shown = b""
    for line in lines:
        while not shown.endswith(b": "):
            shown += os.read(terminal, 1024)
        os.write(terminal, line.encode() + b"\n")
        shown += b"|"
    try:
        while piece := os.read(terminal, 1024):
            shown += piece
    except OSError:  # EIO: its end
        pass
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()


def test_a_password_from_the_terminal_is_asked_twice_and_never_shown(tap: Tap) -> None:
    code, shown = typed(tap, ["s3cret word", "s3cret word"], "account", "add", "terminal", "--role", "reader")
    assert code == 0, shown
    assert "s3cret" not in shown
    assert "terminal  reader" in said(tap.cli("account", "list"))
    assert "--password " not in said(tap.cli("account", "add", "--help"))
