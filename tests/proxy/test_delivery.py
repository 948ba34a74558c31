"""The hybrid from end to end: what the sender is told, what the handler gets, what the journal holds."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.journal.audit import find
from tests.support.handler import EXTENSIONS, HANG, RESET, Gate, Handler, Later, serving
from tests.support.inbound import on_both_loops
from tests.support.journal import FaultyFiles, Stuck
from tests.support.outbound import BODY, RCPT, Tap, incoming, tapping, unique, until

BODIES = [
    b"",
    b"\r\n",
    b"..\r\n",
    b"Subject: x\r\n\r\n..a\r\n....\r\n.b\r\n",
    b"bare \r and \n, \x00, \xff\xfe, \r\r\n\r\n\r\n",
    b"x" * 200_000 + b"\r\n",
    b"a line\r\n" * 300_000,
]


def wire_forms(count: int) -> Iterator[bytes]:
    """Bodies in wire form made of what could go wrong."""
    source = random.Random(5321)
    while count:
        body = b"".join(source.choices([b"\r", b"\n", b".", b"\r\n", b"a", b"\0", b"\xff", b"\r\n.."], k=12)) + b"\r\n"
        if b"\r\n.\r\n" not in b"\r\n" + body:
            count -= 1
            yield body


@pytest.mark.parametrize("extensions", [EXTENSIONS, ()], ids=["pipelining", "step by step"])
async def test_any_wire_form_arrives_as_it_is(extensions: tuple[str, ...], tmp_path: Path) -> None:
    bodies = list(wire_forms(300))
    async with serving(Handler(extensions=extensions)) as handler, tapping(tmp_path, handler) as tap:
        for body in bodies:
            assert (await tap.delivery.deliver(incoming(body)))[0].code == 250
        assert [message.wire for message in handler.messages] == bodies


@on_both_loops
async def test_bodies_and_envelopes_arrive_as_sent(tmp_path: Path) -> None:
    mail = b'<"odd @ local"@x.example> SIZE=12 RET=HDRS ENVID=aB+2Bc BODY=8BITMIME'
    rcpts = (
        b'<"a b"@bounces.example> NOTIFY=NEVER ORCPT=rfc822;A+40b',
        b"<bounce+x=y.example@Bounces.Example>",
        b"<postmaster>",
    )
    async with serving() as handler, tapping(tmp_path, handler) as tap:
        for body in BODIES:
            assert (await tap.send(body, mail=mail, rcpts=rcpts)).startswith("250 2.0.0 taken as")
        assert [message.wire for message in handler.messages] == BODIES
        assert {message.mail_arg for message in handler.messages} == {mail}
        assert {message.rcpt_args for message in handler.messages} == {rcpts}
        assert handler.connections <= 2  # one may be the question what it offers, asked at the start
        await tap.until(lambda: all(record.answered == 250 for record in tap.records()))
        for record, body in zip(tap.records(), BODIES, strict=True):
            found = find(tmp_path / "journal", record.id)
            assert found is not None
            assert (found[0].wire, found[0].mail_arg, found[0].rcpt_args) == (body, mail, rcpts)


async def test_the_handlers_words_are_passed_on_verbatim(tmp_path: Path) -> None:
    async with (
        serving(Handler(script={"dot": b"250-2.6.0 taken\r\n250-as  no. 7\r\n250 \tbye\r\n"})) as handler,
        tapping(tmp_path, handler) as tap,
    ):
        assert await tap.send() == "250-2.6.0 taken\n250-as  no. 7\n250 \tbye"
        handler.script["dot"] = b"554-5.6.0 no\r\n554 \xe4\r\n"
        client = await tap.sender.begin()
        assert await client.reader.readuntil(b"\r\n") == b"554-5.6.0 no\r\n"
        assert await client.reader.readuntil(b"\r\n") == b"554 \xe4\r\n"


# -- several recipients


async def test_each_recipient_has_its_own_fate_and_only_the_open_ones_are_sent_again(tmp_path: Path) -> None:
    names = (b"<ok@bounces.example>", b"<no@bounces.example>", b"<later@bounces.example>")
    replies = {b"<no@": b"550 5.1.1 nobody\r\n", b"<later@": b"450 4.2.1 busy\r\n"}
    async with serving(Handler(rcpts=replies)) as handler, tapping(tmp_path, handler) as tap:
        assert (await tap.send(rcpts=names)).startswith("250 2.0.0 taken")
        await tap.until(lambda: tap.fates() == ["forwarded", "dead", "open"])
        del replies[b"<later@"]
        await tap.until(lambda: tap.fates() == ["forwarded", "dead", "forwarded"])
        assert [message.rcpt_args for message in handler.messages] == [names[:1], names[2:]]
        assert {message.wire for message in handler.messages} == {BODY}
        assert tap.delivery.status()["dead"] == 1
        dead = (await tap.delivery.command("spool_ls", {"dead": True}))["messages"]
        assert [(row["last_reply"], row["recipients"]) for row in dead] == [("550 5.1.1 nobody", 1)]


@pytest.mark.parametrize("data", [b"354 go on\r\n", b"554 5.5.1 no valid recipients\r\n", b"503 5.5.1 what\r\n"])
async def test_all_refused_is_the_first_refusal_and_no_body_is_sent(data: bytes, tmp_path: Path) -> None:
    replies = {b"<a@": b"550-5.1.1 nobody\r\n550 5.1.1 here\r\n", b"<b@": b"551 5.1.6 gone\r\n"}
    names = (b"<a@bounces.example>", b"<b@bounces.example>")
    async with serving(Handler(rcpts=replies, script={"data": data})) as handler, tapping(tmp_path, handler) as tap:
        assert await tap.send(rcpts=names) == "550-5.1.1 nobody\n550 5.1.1 here"
        assert handler.attempts == []
        await tap.until(lambda: tap.fates() == ["rejected", "rejected"])
        handler.rcpts.clear()  # and the connection is as good as new
        handler.script.clear()
        assert (await tap.send(rcpts=names)).startswith("250 2.0.0 taken")
        assert handler.connections <= 2


async def test_refused_and_deferred_recipients_are_spooled(tmp_path: Path) -> None:
    replies = {b"<a@": b"550 5.1.1 nobody\r\n", b"<b@": b"450 4.2.1 busy\r\n"}
    async with serving(Handler(rcpts=replies)) as handler, tapping(tmp_path, handler) as tap:
        assert "queued as" in await tap.send(rcpts=(b"<a@bounces.example>", b"<b@bounces.example>"))
        await tap.until(lambda: tap.fates() == ["dead", "open"])
    async with serving(Handler(rcpts=replies)) as handler, tapping(tmp_path / "2", handler, on_tempfail="pass") as tap:
        assert await tap.send(rcpts=(b"<a@bounces.example>", b"<b@bounces.example>")) == "450 4.2.1 busy"
        await tap.until(lambda: tap.answered() == 450)
        assert tap.delivery.status()["spool"]["messages"] == 0


# -- the journal fails


async def test_without_room_cut_through_goes_on_alone(tmp_path: Path) -> None:
    async with serving() as handler, tapping(tmp_path, handler, max_backlog_bytes=0, deadline_s=0.05) as tap:
        handler.script["dot"] = Later(0.2)  # the deadline does not apply
        assert await tap.send() == "250 2.0.0 taken as 1"
        handler.script = {"dot": [b"550 5.7.1 no\r\n", b"451 4.2.0 later\r\n", b"421 4.3.2 bye\r\n", RESET, RESET]}
        assert await tap.send() == "550 5.7.1 no"
        assert await tap.send() == "451 4.2.0 later"
        assert (await tap.send())[:3] in {"250", "451"}  # after 421 it is tried once more on a fresh connection
        handler.script = {"dot": RESET}
        assert (await tap.send()).startswith("451 4.3.0")
        assert tap.delivery.status()["untapped"] >= 2
        assert "max_backlog" in tap.delivery.status()["last_error"]
        assert tap.records() == []
        assert tap.delivery.status()["spool"]["messages"] == 0


async def test_without_a_record_a_lost_recipient_is_the_senders(tmp_path: Path) -> None:
    async with (
        serving(Handler(rcpts={b"<b@": b"450 4.2.1 busy\r\n"})) as handler,
        tapping(tmp_path, handler, max_backlog_bytes=0) as tap,
    ):
        reply = await tap.send(rcpts=(RCPT, b"<b@bounces.example>"))
        assert reply.startswith("451 4.3.0")


async def test_a_failed_fsync_is_no_record(tmp_path: Path) -> None:
    files = FaultyFiles()
    async with serving() as handler, tapping(tmp_path, handler, files=files) as tap:
        files.faults["fdatasync"] = [errno.EIO]
        assert await tap.send() == "250 2.0.0 taken as 1"
        assert tap.delivery.status()["untapped"] == 1
        assert await tap.send() == "250 2.0.0 taken as 2"
        await tap.until(lambda: tap.answered() == 250)
        assert len(tap.records()) == 1


@pytest.mark.parametrize("room", [0, 1 << 40])
async def test_defer_answers_452_before_any_byte_goes_upstream(room: int, tmp_path: Path) -> None:
    files = Stuck()
    options = {"on_failure": "defer", "max_backlog_bytes": room, "deadline_s": 0.2}
    async with serving() as handler, tapping(tmp_path, handler, files=files, **options) as tap:
        if room:
            files.release.clear()
        try:
            client = await tap.sender.begin()
            assert (await client.reply()).startswith("452 4.3.1")
            assert not [line for line in handler.commands if line.startswith(b"MAIL")]
        finally:
            files.release.set()
        await asyncio.sleep(0.3)
        assert handler.attempts == []
        assert [record.answered for record in tap.records()] == ([452] if room else [])


async def test_defer_forwards_what_is_on_record(tmp_path: Path) -> None:
    async with serving() as handler, tapping(tmp_path, handler, on_failure="defer") as tap:
        assert await tap.send() == "250 2.0.0 taken as 1"
        await tap.until(lambda: (tap.fates(), tap.answered()) == (["forwarded"], 250))


async def test_an_fsync_that_hangs_does_not_hold_up_the_handlers_word(tmp_path: Path) -> None:
    files = Stuck()
    async with serving() as handler, tapping(tmp_path, handler, files=files, deadline_s=0.2) as tap:
        files.release.clear()
        try:
            assert await tap.send() == "250 2.0.0 taken as 1"
            handler.script["dot"] = b"550 5.7.1 no\r\n"
            assert await tap.send() == "550 5.7.1 no"
            await handler.stop()
            refused = await tap.send()
        finally:
            files.release.set()
        assert refused.startswith("451 4.3.0")
        await tap.until(lambda: tap.answered(2) == 451)
        assert [tap.fates(index) for index in range(3)] == [["forwarded"], ["rejected"], ["open"]]
        assert [tap.answered(index) for index in range(3)] == [250, 550, 451]
        assert tap.delivery.status()["spool"]["messages"] == 0
        assert tap.delivery.status()["untapped"] == 0  # they have their records after all


async def test_a_record_that_comes_late_is_as_good(tmp_path: Path) -> None:
    files = Stuck()
    gate = Gate()
    async with (
        serving(Handler(script={"dot": gate})) as handler,
        tapping(tmp_path, handler, files=files, deadline_s=0.1) as tap,
    ):
        files.release.clear()
        client = await tap.sender.begin()
        await tap.until(lambda: gate.reached == 1)
        await asyncio.sleep(0.2)
        files.release.set()
        assert "queued as" in await client.reply()
        gate.open.set()
        await tap.until(lambda: (tap.fates(), tap.answered()) == (["forwarded"], 250))
        assert handler.accepted == 1


async def test_a_handler_with_a_limit_on_recipients_gets_them_all_in_turn(tmp_path: Path) -> None:
    names = tuple(b"<r%d@bounces.example>" % number for number in range(7))
    late = dict.fromkeys(names[3:], b"552 5.5.3 too many recipients\r\n")
    async with serving(Handler(rcpts=late)) as handler, tapping(tmp_path, handler) as tap:
        assert (await tap.send(rcpts=names)).startswith("250 2.0.0 taken")
        handler.rcpts.clear()
        await tap.until(lambda: tap.fates() == ["forwarded"] * 7)
        assert sorted(arg for message in handler.messages for arg in message.rcpt_args) == sorted(names)


# -- the sender goes


async def gone_during_the_forward(tap: Tap, handler: Handler, wire: bytes) -> Gate:
    """A sender that leaves while the handler thinks about it; returns what holds the handler."""
    gate = Gate()
    handler.script["dot"] = [gate]
    client = await tap.sender.begin(wire)
    await tap.until(lambda: gate.reached == 1)
    client.writer.transport.abort()
    return gate


async def test_a_vanished_client_cancels_nothing_and_its_resend_is_suppressed(tmp_path: Path) -> None:
    async with serving() as handler, tapping(tmp_path, handler) as tap:
        wire = unique()
        gate = await gone_during_the_forward(tap, handler, wire)
        gate.open.set()
        await tap.until(lambda: (tap.fates(), tap.answered()) == (["forwarded"], 0))
        assert "queued as" in await tap.send(wire)
        await tap.until(lambda: len(tap.records()) == 1)
        assert handler.accepted == 1
        assert await tap.send(wire) == "250 2.0.0 taken as 2"  # its resend was answered: this is a new message
        assert len({message.wire for message in handler.messages}) == 1


async def test_a_resend_while_the_first_copy_is_under_way(tmp_path: Path) -> None:
    async with serving() as handler, tapping(tmp_path, handler) as tap:
        wire = unique()
        gate = await gone_during_the_forward(tap, handler, wire)
        await asyncio.sleep(0.05)
        client = await tap.sender.begin(wire)
        await asyncio.sleep(0.05)
        gate.open.set()
        assert await client.reply() == "250 2.0.0 taken as 1"
        await tap.until(lambda: tap.answered() in {0, 250})
        assert handler.accepted == len(tap.records()) == 1
        assert await tap.send(wire) == "250 2.0.0 taken as 2"
        assert len(tap.records()) == 2


async def test_one_lost_answer_suppresses_one_resend_and_no_genuine_message(tmp_path: Path) -> None:
    """Two identical submissions at once, and one first copy that nobody heard of: only one of them is its resend."""
    async with serving() as handler, tapping(tmp_path, handler) as tap:
        wire = unique()
        gate = await gone_during_the_forward(tap, handler, wire)
        gate.open.set()
        await tap.until(lambda: tap.answered() == 0)
        # Neither has heard yet, as a session in the middle of writing its reply.
        first, second = [await tap.delivery.deliver(incoming(wire, rcpt_args=(RCPT,))) for _ in range(2)]
        assert "queued as" in str(first[0])
        assert second[0].lines == (b"2.0.0 taken as 2",)
        tap.delivery.answered(first[1], 250)
        tap.delivery.answered(second[1], 250)
        assert handler.accepted == 2


async def test_a_resend_whose_sender_has_gone_too_leaves_the_answer_to_the_next(tmp_path: Path) -> None:
    async with serving() as handler, tapping(tmp_path, handler) as tap:
        wire = unique()
        gate = await gone_during_the_forward(tap, handler, wire)
        gate.open.set()
        await tap.until(lambda: tap.answered() == 0)
        first = await tap.delivery.deliver(incoming(wire, gone=lambda: True))
        second = await tap.delivery.deliver(incoming(wire))
        assert first[1] == second[1]
        tap.delivery.unanswered(first[1])  # found out late
        tap.delivery.answered(second[1], 250)
        assert await tap.send(wire) == "250 2.0.0 taken as 2"  # the answer has been heard: this is a new message


async def test_a_half_closed_sender_is_still_there(tmp_path: Path) -> None:
    """Another's identical message is no resend of one whose sender has only closed its own side."""
    async with serving() as handler, tapping(tmp_path, handler) as tap:
        wire, gate = unique(), Gate()
        handler.script["dot"] = [gate]
        client = await tap.sender.begin(wire)
        client.writer.write_eof()
        await tap.until(lambda: gate.reached == 1)
        await asyncio.sleep(0.05)
        other = await tap.sender.begin(wire)
        await asyncio.sleep(0.05)
        gate.open.set()
        assert await client.reply() == "250 2.0.0 taken as 1"
        assert await other.reply() == "250 2.0.0 taken as 2"


async def test_a_resend_gets_the_recorded_refusal(tmp_path: Path) -> None:
    async with serving() as handler, tapping(tmp_path, handler) as tap:
        wire = unique()
        await handler.stop()  # keep our connection out of the way of the script
        handler.script["dot"] = [Later(0.2, b"550 5.7.1 not this one\r\n")]
        await handler.start()
        client = await tap.sender.begin(wire)
        await asyncio.sleep(0.05)
        client.writer.transport.abort()
        await tap.until(lambda: (tap.fates(), tap.answered()) == (["rejected"], 0))
        assert await tap.send(wire) == "550 5.7.1 not this one"
        assert len(tap.records()) == 1
        assert handler.accepted == 0


async def test_identical_messages_of_senders_that_stay_are_all_forwarded(tmp_path: Path) -> None:
    async with serving(Handler(script={"dot": Later(0.05)})) as handler, tapping(tmp_path, handler) as tap:
        await asyncio.gather(*(tap.send(BODY) for _ in range(20)))
        assert handler.accepted == 20
        await tap.until(lambda: len(tap.records()) == 20)
        assert tap.delivery.status()["loop_alarms"] == 1


async def test_a_resend_after_a_crash(tmp_path: Path) -> None:
    one, other = unique("one"), unique("other")
    async with serving() as handler:
        async with tapping(tmp_path, handler) as tap:  # answers that never reach a socket, as if we had died there
            assert (await tap.delivery.deliver(incoming(one)))[0].code == 250
            handler.script["dot"] = [b"554 5.6.0 refused\r\n"]
            assert (await tap.delivery.deliver(incoming(other)))[0].code == 554
        async with tapping(tmp_path, handler) as tap:
            assert "queued as" in await tap.send(one)
            assert await tap.send(other) == "554 5.6.0 refused"
            assert handler.accepted == 1
            assert await tap.send(one) == "250 2.0.0 taken as 2"
        async with tapping(tmp_path, handler) as tap:  # that the resend was answered is kept, too
            assert await tap.send(one) == "250 2.0.0 taken as 3"


async def test_an_untapped_message_is_remembered_for_its_resend(tmp_path: Path) -> None:
    async with serving() as handler, tapping(tmp_path, handler, max_backlog_bytes=0) as tap:
        wire = unique()
        gate = await gone_during_the_forward(tap, handler, wire)
        gate.open.set()
        await tap.until(lambda: tap.delivery.status()["untapped"] == 1)
        assert await tap.send(wire) == "250 2.0.0 taken as 1"
        assert handler.accepted == 1
        assert await tap.send(wire) == "250 2.0.0 taken as 2"


async def test_a_passed_tempfail_is_no_duplicate(tmp_path: Path) -> None:
    async with serving() as handler, tapping(tmp_path, handler, on_tempfail="pass") as tap:
        handler.script["dot"] = [b"451 4.2.0 later\r\n"]
        assert await tap.send() == "451 4.2.0 later"
        assert await tap.send() == "250 2.0.0 taken as 1"
        await tap.until(lambda: [tap.answered(0), tap.answered(1)] == [451, 250])


# -- what is ours alone


async def test_smuggling_is_kept_as_evidence_and_not_forwarded(tmp_path: Path) -> None:
    wire = b"a\n.\r\nMAIL FROM:<>\r\n"
    async with serving() as handler, tapping(tmp_path, handler) as tap:
        assert (await tap.send(wire)).startswith("554 5.6.11")
        assert (await tap.send(wire)).startswith("554 5.6.11")
        assert [record.refused[:3] for record in tap.records()] == ["554", "554"]
        assert handler.attempts == []
        assert tap.delivery.status()["spool"]["messages"] == 0


async def test_the_received_field_is_the_same_in_forward_and_replay(tmp_path: Path) -> None:
    async with (
        serving(Handler(script={"dot": [RESET]})) as handler,
        tapping(tmp_path, handler, add_received=True) as tap,
    ):
        assert "queued as" in await tap.send()
        await tap.until(lambda: handler.accepted == 1)
        first, second = handler.attempts
        assert first.wire == second.wire
        field, _, rest = first.wire.partition(b";\r\n\t")
        assert field.startswith(b"Received: from sender.example ([127.0.0.1])\r\n\tby tap.example with ESMTP id ")
        assert rest.partition(b"\r\n")[2] == BODY
        (record,) = tap.records()
        found = find(tmp_path / "journal", record.id)
        assert found is not None
        assert found[0].wire == BODY


async def test_stopping_leaves_what_is_unfinished_to_the_next_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.delivery.STOP_GRACE_S", 0.2)
    wire = unique()
    async with serving(Handler(script={"dot": HANG})) as handler:
        async with tapping(tmp_path, handler, deadline_s=0.1) as tap:
            assert "queued as" in await tap.send(wire)
        assert [len(handler.attempts), handler.accepted] == [1, 0]
        handler.script.clear()
        async with tapping(tmp_path, handler) as tap:
            await until(lambda: handler.accepted == 1)
            assert handler.messages[0].wire == wire


async def test_a_big_message(tmp_path: Path) -> None:
    wire = b"y" * 998 + b"\r\n"
    wire *= 20_000
    async with serving() as handler, tapping(tmp_path, handler, segment_bytes=1 << 25) as tap:
        assert (await tap.send(wire)).startswith("250 2.0.0 taken")
        assert hashlib.sha256(handler.messages[0].wire).digest() == hashlib.sha256(wire).digest()


async def test_large_messages_do_not_wait_for_threads_that_hang(tmp_path: Path) -> None:
    """A disk that hangs may hold every thread that reads or writes files."""
    release = threading.Event()
    async with serving() as handler, tapping(tmp_path, handler) as tap:
        held = [asyncio.get_running_loop().run_in_executor(None, release.wait, 60) for _ in range(40)]
        try:
            assert (await tap.send(b"x\n" * 1_000_000 + b"\r\n")).startswith("250 2.0.0 taken")
        finally:
            release.set()
            await asyncio.gather(*held)
