"""What lies on disk, in logs, in [http] and in exports: nobody reads more there than is meant for them."""

from __future__ import annotations

import csv
import io
import json
import os
import smtplib
import stat
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from bouncetap.harmless import json_line, printable
from bouncetap.logs import redact_address, redact_text
from store.export import flat
from tests.support.tap import DOMAIN, Tap, wait_for


def test_files_are_their_owners_alone(tap: Tap) -> None:
    """Even in a state directory that others may enter, and under a careless umask."""
    with smtplib.SMTP("127.0.0.1", tap.smtp_port) as smtp:
        smtp.sendmail("", [f"a@{DOMAIN}"], b"Subject: x\r\n\r\nhi\r\n")
    wait_for(lambda: bool(tap.exported()), "the message to be filed")
    open_to_others = [
        str(path.relative_to(tap.state_dir))
        for path in tap.state_dir.rglob("*")
        if stat.S_IMODE(path.lstat().st_mode) & 0o077
    ]
    assert not open_to_others


def test_no_addresses_in_logs(tap: Tap) -> None:
    with smtplib.SMTP("127.0.0.1", tap.smtp_port) as smtp:
        smtp.ehlo("x")
        smtp.docmd("MAIL", "FROM:<secretsender@example.net> ENVID=secretenvid@example.net")
        smtp.docmd("RCPT", f"TO:<secretrcpt@{DOMAIN}> ORCPT=rfc822;secretorcpt+40example.com NOTIFY=NEVER")
        assert smtp.data(b"Subject: secretsubject\r\n\r\nsecretbody\r\n")[0] == 250
    wait_for(lambda: '"event": "message"' in tap.log("proxy"), "the log")
    logs = "".join(tap.log(part) for part in ("proxy", "filer", "imap"))
    assert not [w for w in ("sender", "envid", "rcpt", "orcpt", "subject", "body") if f"secret{w}" in logs]


SCRIPT = """
from bouncetap import logs
logs.configure("proxy", fmt="{fmt}")
import logging, structlog
log = structlog.get_logger()
log.info("spooled", why="550 5.1.1 <secretname@example.com>: no such user", text="a\\nforged: line \\x1b[2J")
try:
    raise ValueError("cannot do it for secretname@example.org")
except ValueError:
    log.exception("failed")
    logging.getLogger("library").exception("it was secretname@example.net")
"""


@pytest.mark.parametrize("fmt", ["json", "console"])
def test_no_addresses_in_replies_and_exceptions(fmt: str) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT.format(fmt=fmt)], capture_output=True, check=True)
    assert b"secretname" not in done.stderr
    assert b"example.com" in done.stderr
    assert b"\x1b" not in done.stderr
    assert b"\nforged" not in done.stderr
    assert fmt == "console" or json.loads(done.stderr.splitlines()[0])["event"] == "spooled"


def test_redaction_is_linear() -> None:
    assert redact_address('<"a>b@secret"@d.example> ORCPT=rfc822;secret+40e.example') == "…"
    assert redact_text('550 <"anna smith"@b.example> is "no" user') == '550 a…@b.example is "no" user'
    assert len(redact_text("@" * 1_000_000)) < 10
    assert len(redact_text('"' * 1_000_000 + "@")) < 10
    assert redact_text("x " * 500_000 + "ann@b.example").endswith("a…@b.example")


def test_http_shows_no_addresses(tap: Tap) -> None:
    for page in ("status", "metrics", "livez", "readyz"):
        with urllib.request.urlopen(f"http://127.0.0.1:{tap.http_port}/{page}", timeout=20) as answer:
            assert answer.status == 200
            assert b"secret" not in answer.read()


@pytest.mark.parametrize("cell", ["=cmd|' /C calc'!A0", "+1@x", "-1@x", "@SUM(1)", "\t=1", "\r=1"])
def test_no_formulas_in_csv(cell: str) -> None:
    person = {"address": f"{cell}", "original": None}
    row = {"id": "1", "recipients": [person], "envelope_from": cell, "envelope_to": [cell], "confidence": 1.0}
    (line,) = flat(row)
    out = io.StringIO()
    csv.DictWriter(out, line).writerow(line)
    shown = next(csv.DictReader(io.StringIO(out.getvalue(), newline=""), list(line)))
    assert all(shown[name] == "'" + cell for name in ("address", "envelope_from", "envelope_to"))


def test_nothing_steers_the_terminal() -> None:
    assert printable("\x1b]0;x\x07\u009b2J\u202ea\nb") == "\\x1b]0;x\\x07\\x9b2J\\u202ea\\nb"
    evil = "é\x1b\x7f\x9b2J\u202e\u2028\ud800"
    line = json_line({evil: evil})
    assert line[:-1].isprintable()
    assert "é" in line
    assert json.loads(line) == {evil: evil}
    (cells,) = flat({"recipients": [], "envelope_from": "é\x1b\x9b2J\u202e", "envelope_to": []})
    assert cells["envelope_from"] == "é\ufffd\ufffd2J\ufffd"


@pytest.mark.parametrize("how", ["--jsonl", "--explain"])
def test_nothing_that_a_report_says_steers_the_terminal(tmp_path: Path, how: str) -> None:
    evil = "\x9b2J\x7f\x1b[31m\u202e\u2028"
    report = (
        "From: MAILER-DAEMON@x.example\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; m@.example\n\n"
        "Final-Recipient: rfc822; a@b.example\nRemote-MTA: dns; @\nDiagnostic-Code: smtp; 550 5.1.1 @ no such user\n"
    ).replace("@", evil)
    (tmp_path / "\udcff\x1b[2J.eml").write_bytes(report.encode())
    command = [sys.executable, "-m", "bouncetap", "classify", how, str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, check=True, env=os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    )
    assert all(line.isprintable() for line in done.stdout.decode().split("\n"))


def test_names_lead_nowhere(tap: Tap) -> None:
    for name in ("../../../etc/passwd", "/etc/passwd", "..", "a\nb", "'; DROP TABLE messages; --"):
        done = tap.cli("message", name, "--raw")
        assert done.returncode == 1
        assert not done.stdout
        assert tap.cli("export", "--cursor", name).returncode == 0
    assert not [p for p in os.listdir(tap.state_dir) if ".." in p]  # noqa: PTH208
