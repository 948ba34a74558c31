"""Messages through the front line: what arrives is what was sent, and the answer is the deliverer's."""

from __future__ import annotations

import asyncio
import errno
import os
import socket

import pytest

from proxy.session import Session
from proxy.types import Capabilities, Reply
from tests.support.inbound import ENVELOPE, Sink, running, until

BODIES = [
    b"",
    b"\r\n",
    b"Subject: plain\r\n\r\ntext\r\n",
    b"..dot\r\n...\r\n.x\r\n",
    b"no header, 8 bit \xff\xfe, NUL \0, bare \r and \n, \r\r\n\r\n",
    b"x" * 200_000 + b"\r\n",
    b"\r\n" * 1000,
    b"y" * 70 + b"\r\n" * 3 + b"z" * 1_000_000 + b"\r\n",
]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
async def test_wire_bytes_and_envelope_arrive_as_sent(body: bytes) -> None:
    async with running() as tap:
        client = await tap.connect()
        await client.say(
            b"EHLO c.example\r\nMAIL FROM:  <A.b@C.example> size=1 ENVID=aB\r\n"
            b'RCPT TO:<"q @x"@bounces.example> NOTIFY=NEVER\r\nRCPT TO:<postmaster>\r\nDATA\r\n'
        )
        for _ in range(5):
            await client.reply()
        await client.say(body + b".\r\n")
        assert await client.reply() == "250 2.0.0 queued as 1"
        (message,) = tap.sink.messages
        assert message.wire == body
        assert message.mail_arg == b"<A.b@C.example> size=1 ENVID=aB"
        assert message.rcpt_args == (b'<"q @x"@bounces.example> NOTIFY=NEVER', b"<postmaster>")
        assert (message.helo, message.tls, message.smtputf8, message.proxied_for) == (b"c.example", "", False, "")
        assert message.peer == "{}:{}".format(*client.writer.get_extra_info("sockname"))
        await until(lambda: tap.sink.marks == [("id1", 250)])


async def test_a_stream_cut_anywhere_gives_the_same() -> None:
    stream = ENVELOPE + b"a\r\n..\r\nb\r\n.\r\nRSET\r\nMAIL FROM:<x@y.example>\r\nNOOP\r\nQUIT\r\n"
    answers = set()
    async with running() as tap:
        for cut in range(1, len(stream), 3):
            client = await tap.connect()
            await client.say(stream[:cut])
            await asyncio.sleep(0)
            await client.say(stream[cut:])
            answers.add(await asyncio.wait_for(client.reader.read(), 30))
        assert len(answers) == 1
        assert {message.wire for message in tap.sink.messages} == {b"a\r\n..\r\nb\r\n"}


async def test_octet_by_octet() -> None:
    async with running() as tap:
        client = await tap.connect()
        client.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for octet in ENVELOPE + b"a\r\n.\r\n":
            await client.say(bytes([octet]))
            await asyncio.sleep(0)
        for wanted in ("250", "250", "250", "354", "250"):
            assert (await client.reply())[:3] == wanted
        assert tap.sink.messages[0].wire == b"a\r\n"


async def test_replies_to_a_batch_come_in_one_piece() -> None:
    async with running() as tap:
        client = await tap.connect()
        await client.say(ENVELOPE)
        piece = await client.reader.read(1 << 16)
        assert piece.count(b"\r\n") == 10  # 7 lines to EHLO, 250, 250, 354
        await client.say(b"x\r\n.\r\n")
        assert (await client.reply()).startswith("250")


async def test_a_reply_is_passed_verbatim() -> None:
    async with running(Sink(reply=Reply(550, (b"5.1.1 no such", b"user \xe9 here")))) as tap:
        client = await tap.connect()
        await client.say(ENVELOPE + b"x\r\n.\r\n")
        for _ in range(4):
            await client.reply()
        raw = await client.reader.readuntil(b"550 user \xe9 here\r\n")
        assert raw == b"550-5.1.1 no such\r\n550 user \xe9 here\r\n"
        await until(lambda: tap.sink.marks == [("id1", 550)])


async def test_a_deliverer_that_fails_is_451_and_tells_nothing() -> None:
    async with running(Sink(fault=OSError(28, "No space left on device"))) as tap:
        client = await tap.connect()
        await client.say(ENVELOPE + b"x\r\n.\r\n")
        for _ in range(4):
            await client.reply()
        assert await client.reply() == "451 4.3.0 Local error, try again later"
        assert tap.sink.marks == []
        assert (await client.ask(b"NOOP")).startswith("250")


@pytest.mark.parametrize("policy", ["refuse", "strict", "normalize"])
async def test_smuggling(policy: str) -> None:
    async with running(smuggling=policy) as tap:
        client = await tap.connect()
        await client.say(ENVELOPE + b"a\n.\r\nMAIL FROM:<>\r\n.\r\n")
        for _ in range(4):
            await client.reply()
        answer = await client.reply()
        (message,) = tap.sink.messages  # never two
        if policy == "normalize":
            assert (answer[:3], message.wire, message.refused) == ("250", b"a\r\n..\r\nMAIL FROM:<>\r\n", "")
        else:
            assert answer.startswith("554 5.6.11 ")
            assert message.wire == b"a\n.\r\nMAIL FROM:<>\r\n"
            assert message.refused == answer


async def test_an_oversized_message_is_read_to_its_end_and_refused() -> None:
    async with running(max_message_size_bytes=10_000) as tap:
        client = await tap.connect()
        await client.say(ENVELOPE + b"x" * 2_000_000 + b"\r\n.\r\nNOOP\r\n")
        for _ in range(4):
            await client.reply()
        assert (await client.reply()).startswith("552 5.3.4")
        assert (await client.reply()).startswith("250")
        assert tap.sink.messages == []
        assert tap.server.status()["in_flight_bytes"] == 0


async def test_a_message_that_went_round_is_refused() -> None:
    async with running() as tap:
        client = await tap.connect()
        await client.say(ENVELOPE + b"Received: x\r\n" * 101 + b"\r\n.\r\n")
        for _ in range(4):
            await client.reply()
        assert (await client.reply()).startswith("554 5.4.6")
        assert tap.sink.messages == []


async def test_a_client_that_goes_away_cancels_nothing_and_counts_as_unanswered() -> None:
    sink = Sink(gate=asyncio.Event())
    async with running(sink) as tap:
        client = await tap.connect()
        await client.say(ENVELOPE + b"x\r\n.\r\n")
        await until(lambda: len(sink.messages) == 1)
        client.writer.transport.abort()
        await asyncio.sleep(0.05)
        assert tap.server.status()["in_flight_bytes"] > 0  # still being delivered
        assert sink.gate is not None
        sink.gate.set()
        await until(lambda: tap.server.status()["connections"] == 0)
        assert sink.marks == []
        assert tap.server.status()["in_flight_bytes"] == 0


async def test_a_client_that_closes_its_side_still_gets_the_reply() -> None:
    async with running() as tap:
        client = await tap.connect()
        await client.say(ENVELOPE + b"x\r\n.\r\nQUIT\r\n")
        client.writer.write_eof()
        everything = await asyncio.wait_for(client.reader.read(), 30)
        assert everything.endswith(b"250 2.0.0 queued as 1\r\n221 2.0.0 Bye\r\n")


@pytest.mark.parametrize("closed", [False, True])
async def test_a_closed_socket_is_told_from_one_that_still_reads(closed: bool) -> None:
    """Both have sent FIN; only the one that reads has its answer, and only the other's resend is a duplicate."""
    sink = Sink(gate=asyncio.Event())
    async with running(sink) as tap:
        client = await tap.connect()
        await client.say(ENVELOPE + b"x\r\n.\r\n")
        await until(lambda: len(sink.messages) == 1)
        if closed:
            client.writer.close()
            await client.writer.wait_closed()
        else:
            client.writer.write_eof()
        await asyncio.sleep(0.05)
        assert sink.gate is not None
        sink.gate.set()
        await until(lambda: tap.server.status()["connections"] == 0)
        assert [code for _, code in sink.marks] == ([] if closed else [250])


async def test_an_answer_for_want_of_a_descriptor_is_said_once_and_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a half-closed sender heard cannot be told then: no second reply follows, and the record is decided."""

    def none_left(fd: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    sink = Sink(gate=asyncio.Event())
    async with running(sink) as tap:
        client = await tap.connect()
        await client.say(ENVELOPE + b"x\r\n.\r\n")
        client.writer.write_eof()
        await until(lambda: len(sink.messages) == 1)
        await asyncio.sleep(0.05)
        monkeypatch.setattr(os, "dup", none_left)
        assert sink.gate is not None
        sink.gate.set()
        everything = await asyncio.wait_for(client.reader.read(), 30)
        assert everything.endswith(b"\r\n250 2.0.0 queued as 1\r\n")
        assert (sink.marks, sink.gone) == ([], ["id1"])


async def test_a_dot_in_the_instant_of_the_timeout_is_not_taken() -> None:
    """The 421 is said already, so the sender keeps the message: it must not go on as well."""
    async with running() as tap:
        client = await tap.connect()
        await client.say(ENVELOPE + b"x\r\n")
        for wanted in ("250", "250", "250", "354"):
            assert (await client.reply())[:3] == wanted
        assert tap.server._front is not None
        (session,) = tap.server._front.sessions
        assert isinstance(session, Session)
        session.data_received(b".\r\n")  # both in one turn of the loop
        session._deadline = 0.0
        session._tick()
        assert await client.reply() == "421 4.4.2 Timeout"
        assert await client.closed()
        assert tap.sink.messages == []


async def test_a_body_behind_a_refused_data_is_not_obeyed() -> None:
    async with running() as tap:
        client = await tap.connect()
        await client.say(
            b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<a@else.example>\r\nDATA\r\nMAIL FROM:<evil@x.example>\r\n.\r\n"
        )
        for wanted in ("250", "250", "550", "554", "421"):
            assert (await client.reply())[:3] == wanted
        assert await client.closed()


async def test_offers_follow_the_handler() -> None:
    sink = Sink(offer=Capabilities(smtputf8=False, dsn=False, size_bytes=1000))
    async with running(sink) as tap:
        client = await tap.connect()
        offer = await client.ask(b"EHLO c")
        assert "SIZE 1000" in offer
        assert "SMTPUTF8" not in offer
        assert "DSN" not in offer
        assert (await client.ask(b"MAIL FROM:<a@b.example> SIZE=1001")).startswith("552")
        assert (await client.ask("MAIL FROM:<ü@b.example> SMTPUTF8".encode())).startswith("555")
        sink.offer = Capabilities(smtputf8=True, dsn=False, size_bytes=None)
        assert "SMTPUTF8" in await client.ask(b"EHLO c")
        assert (await client.ask("MAIL FROM:<ü@b.example> SMTPUTF8".encode())).startswith("250")
        assert (await client.ask("RCPT TO:<ü@bounces.example>".encode())).startswith("250")
        assert (await client.ask(b"DATA")).startswith("354")
        assert (await client.ask(b".")).startswith("250")
        assert sink.messages[0].smtputf8
