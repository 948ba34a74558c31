"""Logging: JSON lines, addresses redacted, a stuck reader never blocks."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from bouncetap.logs import QUEUE_EVENTS, QueuedSink, redact_address

SCRIPT = """
import logging, structlog
from bouncetap import logs
logs.configure("proxy", redact={redact})
log = structlog.get_logger("proxy")
log.info("message", id="01X", mail_from="<anna@example.org> SIZE=1", rcpt_to=["<a@b.example>", "c@d.example"])
logging.getLogger("mail.log").info("secret@example.org")
logging.getLogger("asyncio").warning("odd")
"""


def events(*, redact: bool) -> list[dict[str, object]]:
    done = subprocess.run([sys.executable, "-c", SCRIPT.format(redact=redact)], capture_output=True, check=True)
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_one_json_object_a_line_with_part_and_id() -> None:
    first, second = events(redact=False)
    assert first["part"] == "proxy"
    assert first["id"] == "01X"
    assert first["level"] == "info"
    assert first["mail_from"] == "<anna@example.org> SIZE=1"
    assert second["event"] == "odd"  # libraries speak up only when something is wrong


def test_addresses_are_redacted() -> None:
    first = events(redact=True)[0]
    assert "anna" not in json.dumps(first)
    assert "example.org" in json.dumps(first)


@pytest.mark.parametrize(
    ("address", "shown"), [("anna@example.org", "a…@example.org"), ("", ""), ("<>", "<>"), ("postmaster", "…")]
)
def test_redact_address(address: str, shown: str) -> None:
    assert redact_address(address) == shown


def test_a_stuck_reader_never_blocks() -> None:
    reading, writing = os.pipe()
    sink = QueuedSink(os.fdopen(writing, "w"))
    for _ in range(QUEUE_EVENTS * 2):  # far more than pipe and queue hold; nobody reads
        sink.write("x" * 100 + "\n")
    assert sink.dropped > 0
    os.close(reading)
