"""The commands of the contract, run as an operator runs them, against a tap of real processes."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bouncetap.cli import COMMANDS
from tests.support.handler import Handler
from tests.support.smtp import Mail, send_all
from tests.support.tap import Tap, free_port, wait_for

ROOT = Path(__file__).parents[2]
BOUNCE = b"""\
From: Mail Delivery System <MAILER-DAEMON@mx.example.net>\r
To: return@bounces.example.com\r
Subject: Undelivered Mail Returned to Sender\r
MIME-Version: 1.0\r
Content-Type: multipart/report; report-type=delivery-status; boundary=b\r
\r
--b\r
\r
<anna@example.org>: host mx.example.org said: 550 5.1.1 User unknown\r
--b\r
Content-Type: message/delivery-status\r
\r
Reporting-MTA: dns; mx.example.net\r
\r
Final-Recipient: rfc822; anna@example.org\r
Action: failed\r
Status: 5.1.1\r
Diagnostic-Code: smtp; 550 5.1.1 User unknown\r
\r
--b--\r
"""


def bouncetap(*arguments: str, stdin: bytes = b"", cwd: Path = ROOT) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "bouncetap", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, check=False, cwd=cwd, timeout=60)


@pytest.fixture(scope="module")
def tap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tap]:
    """One tap for all commands, with one bounce in its quarantine and a handler that refuses RCPT for "dead"."""
    directory = tmp_path_factory.mktemp("cli")
    port = free_port()
    handler = subprocess.Popen([sys.executable, "-m", "tests.support.handler", "--port", str(port), "--log",
                                str(directory / "handler.jsonl")], stdout=subprocess.PIPE, cwd=ROOT)  # fmt: skip
    assert handler.stdout is not None
    handler.stdout.readline()
    tap = Tap(directory, handler_port=port, extra='[journal]\nreserve = "10MB"\n')
    try:
        tap.start("proxy", "filer", "imap")
        asyncio.run(send_all(tap.smtp_port, [Mail(BOUNCE)]))
        wait_for(lambda: len(tap.exported()) == 1, "the bounce to be filed")
        yield tap
    finally:
        tap.stop()
        handler.kill()
        handler.wait()
        handler.stdout.close()


def test_every_command_has_help() -> None:
    listing = bouncetap("--help").stdout.decode()
    for command in COMMANDS:
        assert f"  {command} " in listing
        done = bouncetap(command, "--help")
        assert done.returncode == 0, done.stderr


def test_status(tap: Tap) -> None:
    done = tap.cli("status", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0
    assert all(found[part]["running"] for part in ("proxy", "filer", "imap"))
    assert b"proxy   running" in tap.cli("status").stdout


def test_config_stands_before_or_after(tap: Tap) -> None:
    after = bouncetap("config", "check", "--config", str(tap.config_path))
    assert after.returncode == 0
    assert b"good" in after.stdout
    assert b"smtp" not in tap.cli("config", "show").stderr


def test_message_and_raw(tap: Tap) -> None:
    ident = tap.exported()[0]["id"]
    shown = tap.cli("message", ident).stdout.decode()
    assert "bounce" in shown
    assert "bad_mailbox" in shown
    assert tap.cli("message", ident, "--raw").stdout == BOUNCE
    missing = tap.cli("message", "01JZZZZZZZZZZZZZZZZZZZZZZZ")
    assert missing.returncode == 1
    assert missing.stderr.count(b"\n") == 1


def test_resend_sends_the_same_bytes_again(tap: Tap) -> None:
    ident = tap.exported()[0]["id"]
    done = tap.cli("message", ident, "--resend")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tap.directory / "handler.jsonl").read_text().splitlines()]
    assert [row["sha256"] for row in rows].count(Mail(BOUNCE).wire_sha256) == 2


def test_export_csv_and_cursor(tap: Tap) -> None:
    rows = list(csv.DictReader(io.StringIO(tap.cli("export", "--format", "csv", "--kind", "bounce").stdout.decode())))
    assert rows[0]["address"] == "anna@example.org"
    assert rows[0]["category"] == "hard"
    assert tap.cli("export", "--cursor", "lists").stdout.count(b"\n") == 1
    assert tap.cli("export", "--cursor", "lists").stdout == b""
    assert tap.cli("export", "--kind", "human").stdout == b""
    assert tap.exported()[0]["sha256"] == hashlib.sha256(BOUNCE).hexdigest()


def test_pause_resume_drain(tap: Tap) -> None:
    assert tap.cli("pause").returncode == 0
    assert tap.status("proxy")["state"] == "paused"
    assert tap.cli("resume").returncode == 0
    assert tap.cli("drain").returncode == 0
    assert tap.cli("resume").returncode == 0
    assert tap.status("proxy")["state"] == "running"


def test_reload_takes_a_good_file_and_refuses_a_bad_one(tap: Tap) -> None:
    assert tap.cli("reload").returncode == 0
    good = tap.config_path.read_text(encoding="utf-8")
    tap.config_path.write_text(good + "\n[nonsense]\nx = 1\n", encoding="utf-8")
    bad = tap.cli("reload")
    tap.config_path.write_text(good, encoding="utf-8")
    assert bad.returncode == 2
    assert b"nonsense" in bad.stderr
    assert tap.status("proxy")["state"] == "running"


def test_journal_and_spool(tap: Tap) -> None:
    assert tap.cli("journal", "verify").returncode == 0
    listing = tap.cli("journal", "ls").stdout
    ident = tap.exported()[0]["id"]
    if ident.encode() in listing:  # its segment is still there
        assert b"answered 250" in tap.cli("journal", "show", ident).stdout
    assert tap.cli("spool", "ls").returncode == 0
    assert tap.cli("spool", "ls", "--dead").returncode == 0
    assert tap.cli("spool", "retry", "--all").returncode == 0
    assert tap.cli("spool", "retry").returncode == 2
    assert tap.cli("spool", "drop", "nothing").returncode == 1


def test_accounts(tap: Tap) -> None:
    assert (
        tap.cli("account", "add", "alice", "--role", "analyst", "--password-stdin", stdin=b"secret\n").returncode == 0
    )
    assert b"analyst" in tap.cli("account", "list").stdout
    assert tap.cli("account", "add", "bob", "--role", "king", "--password-stdin", stdin=b"x\n").returncode == 2
    assert tap.cli("account", "add", "bob", "--role", "reader", "--password-stdin", stdin=b"\n").returncode == 1
    assert tap.cli("account", "remove", "alice").returncode == 0
    assert tap.cli("account", "remove", "alice").returncode == 1


def test_expire_dry_run(tap: Tap) -> None:
    done = tap.cli("expire", "--dry-run")
    assert (done.returncode, done.stdout) == (0, b"nothing would go\n"), done.stderr
    assert len(tap.exported()) == 1


def test_unknowns(tap: Tap) -> None:
    assert b"nothing" in tap.cli("unknowns").stdout
    odd = BOUNCE.replace(b"User unknown", b"Qwzx plonk 77").replace(b"5.1.1", b"5.0.0")
    path = tap.directory / "odd.eml"
    path.write_bytes(odd)
    shown = tap.cli("unknowns", str(path)).stdout.decode()
    assert "[[rule]]" in shown


def test_classify_files_directories_mbox_and_stdin(tmp_path: Path) -> None:
    (tmp_path / "a.eml").write_bytes(BOUNCE)
    (tmp_path / "b.mbox").write_bytes(
        b"From x@y Mon Nov 24 10:00:00 2026\n" + BOUNCE + b"\r\nFrom x@y Mon Nov 24 10:00:01 2026\n" + BOUNCE
    )
    rows = [
        json.loads(line) for line in bouncetap("classify", "--jsonl", str(tmp_path), cwd=tmp_path).stdout.splitlines()
    ]
    assert [Path(row["file"]).name for row in rows] == ["a.eml", "b.mbox:1", "b.mbox:2"]
    assert rows[0]["sha256"] == hashlib.sha256(BOUNCE).hexdigest()
    for row in rows:
        person = row["recipients"][0]
        assert (row["kind"], person["status"], person["reason"], person["category"]) == (
            "bounce",
            "5.1.1",
            "bad_mailbox",
            "hard",
        )
    assert json.loads(bouncetap("classify", "-", stdin=BOUNCE, cwd=tmp_path).stdout)["file"] == "-"
    explained = bouncetap("classify", "--explain", str(tmp_path / "a.eml"), cwd=tmp_path).stdout.decode()
    assert "anna@example.org" in explained
    assert "rule " in explained
    missing = bouncetap("classify", str(tmp_path / "none"), str(tmp_path / "a.eml"), cwd=tmp_path)
    assert missing.returncode == 1
    assert missing.stderr.decode() == f"bouncetap: {tmp_path / 'none'}: No such file or directory\n"
    assert len(missing.stdout.splitlines()) == 1  # the rest is classified all the same


def test_init_check_and_wrong_configurations(tmp_path: Path) -> None:
    async def checked() -> tuple[int, bytes]:
        handler = Handler()
        await handler.start()
        done = await asyncio.to_thread(
            bouncetap, "init", "--domain", "bounces.example.com", "--handler", f"127.0.0.1:{handler.port}", cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        found = await asyncio.to_thread(bouncetap, "check", cwd=tmp_path)
        await handler.stop()
        return found.returncode, found.stdout

    code, said = asyncio.run(checked())
    assert code == 0, said
    assert b"would get through" in said
    assert bouncetap("init", cwd=tmp_path).returncode == 1  # the file is there
    gone = bouncetap("check", cwd=tmp_path)
    assert gone.returncode == 1
    (tmp_path / "bouncetap.toml").write_text("[proxy]\nlisten = 1\nodd = 2\n", encoding="utf-8")
    wrong = bouncetap("run", cwd=tmp_path)
    assert wrong.returncode == 2
    assert wrong.stderr.count(b"\n") >= 4
    assert b"Traceback" not in wrong.stderr


@pytest.mark.parametrize(
    "command", ["run", "check", "export", "expire", "unknowns", "account list", "journal ls", "message X", "status"]
)
def test_without_a_configuration_nothing_is_made_up(tmp_path: Path, command: str) -> None:
    done = bouncetap(*command.split(), cwd=tmp_path)
    assert done.returncode == 2
    assert b"no configuration file" in done.stderr
    assert not list(tmp_path.iterdir())


def test_init_writes_the_file_that_config_names(tmp_path: Path) -> None:
    named = tmp_path / "named.toml"
    done = bouncetap("init", "--config", str(named), "--domain", "a.example", "--handler", "127.0.0.1:1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert bouncetap("config", "--config", str(named), "check", cwd=tmp_path).returncode == 0


def test_parts_take_no_modules_from_the_current_directory(tmp_path: Path) -> None:
    (tmp_path / "bouncetap").mkdir()  # as where somebody has just cloned it
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (tmp_path / "bouncetap.toml").write_text(
            f'[proxy]\nlisten = ["127.0.0.1:{port}"]\ndomains = ["a.example"]\n[legacy]\nhosts = ["127.0.0.1:1"]\n'
        )
        command = [sys.executable, "-P", "-m", "bouncetap", "run"]
        done = subprocess.run(command, capture_output=True, check=False, cwd=tmp_path, timeout=60)
    assert b"ImportError" not in done.stderr
    assert str(port).encode() in done.stderr


def test_a_part_that_does_not_run_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "bouncetap.toml").write_text('[proxy]\ndomains = ["a.example"]\n[legacy]\nhosts = ["127.0.0.1:1"]\n')
    done = bouncetap("pause", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
