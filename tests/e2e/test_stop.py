"""SIGTERM: what runs is finished, the idle get 421, nothing acknowledged is lost, the exit code is 0."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections import Counter
from typing import Any

from tests.support.smtp import Mail, Session
from tests.support.tap import Tap, wait_for

SENDERS = 20


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


async def stopping(tap: Tap) -> None:
    """SIGTERM has been heard."""
    await asyncio.to_thread(wait_for, lambda: not listens(tap.smtp_port), "the port to close")


async def send_until_sent_away(tap: Tap, number: int, acknowledged: list[Mail]) -> bytes:
    """One message after the other; returns the last word of the tap, "" if it was none."""
    session = await Session(tap.smtp_port).open()
    count = 0
    try:
        while True:
            mail = Mail(b"Subject: stop %d.%d\r\n\r\nbody\r\n" % (number, count))
            reply = await session.send(mail)
            if not reply.startswith(b"250"):
                return reply
            acknowledged.append(mail)
            count += 1
    except (OSError, EOFError):
        return b""
    finally:
        session.close()


async def stop_under_load(tap: Tap) -> tuple[list[Mail], bytes]:
    acknowledged: list[Mail] = []
    idle = await Session(tap.smtp_port).open()
    senders = [asyncio.create_task(send_until_sent_away(tap, n, acknowledged)) for n in range(SENDERS)]
    while len(acknowledged) < SENDERS * 5:  # noqa: ASYNC110  other tasks fill it
        await asyncio.sleep(0.01)
    tap.send_signal("proxy", signal.SIGTERM)
    last_word = await idle.reply()
    idle.close()
    await asyncio.gather(*senders)
    return acknowledged, last_word


def test_under_load(tap: Tap, handler: Any) -> None:
    tap.start("proxy", "filer", "imap")
    acknowledged, last_word = asyncio.run(stop_under_load(tap))
    assert last_word.startswith(b"421 4.3.2")
    assert tap.processes["proxy"].wait(60) == 0
    tap.start("proxy")
    wait_for(lambda: tap.status("proxy")["delivery"]["spool"]["messages"] == 0, "the spool to drain")
    at_handler = Counter(row["sha256"] for row in handler.accepted())
    assert {mail.wire_sha256 for mail in acknowledged} <= at_handler.keys()
    assert set(at_handler.values()) == {1}, "an orderly stop makes no duplicate"
    wait_for(lambda: len(tap.exported()) >= len(acknowledged), "the filer to catch up")
    filed = Counter(row["sha256"] for row in tap.exported())
    assert all(filed[mail.sha256] == 1 for mail in acknowledged)
    assert tap.stop() == {"proxy": 0, "filer": 0, "imap": 0}


async def finish_a_message_that_has_begun(tap: Tap) -> tuple[bytes, bytes]:
    session = await Session(tap.smtp_port).open()
    for command in (b"MAIL FROM:<>\r\n", b"RCPT TO:<a@bounces.example.com>\r\n"):
        assert (await session.say(command)).startswith(b"250")
    assert (await session.say(b"DATA\r\n")).startswith(b"354")
    await session.write(b"Subject: half\r\n\r\nfirst ")
    tap.send_signal("proxy", signal.SIGTERM)
    await stopping(tap)
    tap.send_signal("proxy", signal.SIGTERM)  # once more changes nothing
    reply = await session.say(b"second half\r\n.\r\n")
    last_word = await session.reply()
    session.close()
    return reply, last_word


def test_a_message_that_has_begun_is_finished(tap: Tap, handler: Any) -> None:
    tap.start("proxy")
    reply, last_word = asyncio.run(finish_a_message_that_has_begun(tap))
    assert reply.startswith(b"250")
    assert last_word.startswith(b"421 4.3.2")
    assert tap.processes["proxy"].wait(60) == 0
    mail = Mail(b"Subject: half\r\n\r\nfirst second half\r\n")
    assert [row["sha256"] for row in handler.accepted()] == [mail.wire_sha256]


async def never_finish(tap: Tap) -> None:
    session = await Session(tap.smtp_port).open()
    for command in (b"MAIL FROM:<>\r\n", b"RCPT TO:<a@bounces.example.com>\r\n", b"DATA\r\n"):
        await session.say(command)
    await session.write(b"Subject: never\r\n")
    tap.send_signal("proxy", signal.SIGTERM)
    await asyncio.to_thread(tap.processes["proxy"].wait, 60)
    session.close()


def test_a_message_that_never_ends_is_cut_off(tap: Tap, handler: Any) -> None:
    text = tap.config_path.read_text(encoding="utf-8")
    tap.config_path.write_text(text.replace("[legacy]", 'drain_timeout = "300ms"\n[legacy]'), encoding="utf-8")
    tap.start("proxy")
    asyncio.run(never_finish(tap))
    assert tap.processes["proxy"].returncode == 0
    assert handler.accepted() == []
