"""Replay: order, bounds, back-off, breakers and fail-over, restarts, and the operator's hand."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from proxy.errors import CommandError
from tests.support.handler import CLOSE, HANG, RESET, Gate, Handler, Later, serving
from tests.support.outbound import BODY, incoming, tapping, unique, until

NOWHERE = "127.0.0.1:1"  # nobody listens there


async def test_down_then_up_replays_everything_once(tmp_path: Path) -> None:
    bodies = [unique(str(index)) for index in range(30)]
    async with serving() as handler, tapping(tmp_path, handler) as tap:
        await handler.stop()
        for body in bodies:
            assert "queued as" in await tap.send(body)
        status = tap.delivery.status()
        assert status["spool"]["messages"] == 30
        assert status["spool"]["bytes"] == sum(map(len, bodies))
        assert status["hosts"][0]["state"] == "breaker"
        assert "refused" in status["hosts"][0]["last_error"]
        await handler.start()
        await tap.until(lambda: tap.delivery.status()["spool"]["messages"] == 0)
        assert sorted(message.wire for message in handler.messages) == sorted(bodies)
        await tap.until(lambda: all(tap.fates(index) == ["forwarded"] for index in range(30)))
        assert tap.delivery.status()["hosts"][0]["state"] == "up"


async def test_oldest_first(tmp_path: Path) -> None:
    bodies = [unique(str(index)) for index in range(12)]
    async with serving() as handler, tapping(tmp_path, handler, replay_connections=1) as tap:
        await handler.stop()
        for body in bodies:
            await tap.send(body)
        await handler.start()
        await tap.until(lambda: handler.accepted == 12)
        assert [message.wire for message in handler.messages] == bodies


async def test_no_more_replays_at_once_than_configured(tmp_path: Path) -> None:
    gate = Gate()
    async with serving() as handler, tapping(tmp_path, handler, replay_connections=3) as tap:
        await handler.stop()
        for _ in range(10):
            await tap.send(unique())
        handler.script["dot"] = gate
        await handler.start()
        await tap.until(lambda: gate.reached == 3)
        rows = (await tap.delivery.command("spool_ls", {"dead": False}))["messages"]
        assert [row["state"] for row in rows].count("sending") == 3
        await asyncio.sleep(0.1)
        assert gate.reached == 3
        handler.script.clear()
        gate.open.set()
        await tap.until(lambda: handler.accepted == 10)


async def test_one_message_that_breaks_the_handler_does_not_hold_up_the_others(tmp_path: Path) -> None:
    async with serving(Handler(rcpts={})) as handler, tapping(tmp_path, handler, retry_max_s=0.1) as tap:
        handler.script["dot"] = [CLOSE]
        assert "queued as" in await tap.send(unique("poison"))
        handler.script["data"] = [CLOSE, CLOSE, CLOSE]
        for _ in range(5):
            await tap.send(unique())
        await tap.until(lambda: handler.accepted == 6)


async def test_what_is_spooled_survives_a_restart(tmp_path: Path) -> None:
    bodies = [unique(str(index)) for index in range(5)]
    async with serving() as handler:
        await handler.stop()
        async with tapping(tmp_path, handler) as tap:
            for body in bodies:
                assert "queued as" in await tap.send(body)
        async with tapping(tmp_path, handler) as tap:
            assert tap.delivery.status()["spool"]["messages"] == 5
            await handler.start()
            await tap.until(lambda: handler.accepted == 5)
            await tap.until(lambda: tap.delivery.status()["spool"]["messages"] == 0)
        async with tapping(tmp_path, handler) as tap:
            assert tap.delivery.status()["spool"]["messages"] == 0
        assert sorted(message.wire for message in handler.messages) == sorted(bodies)


async def test_4xx_is_tried_again_until_it_is_settled(tmp_path: Path) -> None:
    later = b"451 4.2.0 later\r\n"
    async with (
        serving(Handler(script={"dot": [later] * 4 + [b"550 5.7.1 no\r\n"]})) as handler,
        tapping(tmp_path, handler) as tap,
    ):
        assert "queued as" in await tap.send()
        await tap.until(lambda: tap.fates() == ["dead"])
        assert len(handler.attempts) == 5
        assert tap.delivery.status()["dead"] == 1


# -- several hosts


async def test_fail_over_and_back(tmp_path: Path) -> None:
    async with serving() as first, serving() as second, tapping(tmp_path, first, second) as tap:
        assert await tap.send() == "250 2.0.0 taken as 1"
        assert (first.accepted, second.accepted) == (1, 0)
        await first.stop()
        for _ in range(8):
            assert (await tap.send()).startswith("250 2.0.0 taken as")
        assert (first.accepted, second.accepted) == (1, 8)
        await first.start()
        while first.accepted == 1:  # within a second, by real traffic
            await tap.send()
        assert [host["state"] for host in tap.delivery.status()["hosts"]] == ["up", "up"]


@pytest.mark.parametrize("stage", ["greeting", "ehlo", "mail", "rcpt", "data", "dot"])
async def test_a_421_goes_on_to_the_next_host(stage: str, tmp_path: Path) -> None:
    script = {stage: b"421 4.3.2 going down\r\n"}
    async with (
        serving(Handler(script=dict(script))) as first,
        serving() as second,
        tapping(tmp_path, first, second) as tap,
    ):
        assert await tap.send() == "250 2.0.0 taken as 1"
        assert (first.accepted, second.accepted) == (0, 1)


@pytest.mark.parametrize("stage", ["mail", "rcpt", "data", "dot"])
async def test_a_4xx_is_that_hosts_answer(stage: str, tmp_path: Path) -> None:
    async with (
        serving(Handler(script={stage: [b"451 4.2.0 later\r\n"]})) as first,
        serving() as second,
        tapping(tmp_path, first, second) as tap,
    ):
        assert "queued as" in await tap.send()
        await tap.until(lambda: first.accepted == 1)
        assert second.accepted == 0


async def test_an_in_doubt_message_returns_to_its_own_host(tmp_path: Path) -> None:
    async with serving() as first, serving(Handler(script={"dot": [RESET]})) as second:
        await first.stop()
        async with tapping(tmp_path, first, second, retry_min_s=0.5) as tap:
            assert "queued as" in await tap.send()
            await tap.until(lambda: tap.fates() == ["in_doubt"])
            rows = (await tap.delivery.command("spool_ls", {"dead": False}))["messages"]
            assert [row["state"] for row in rows] == ["in doubt"]
            assert tap.delivery.status()["spool"]["in_doubt"] == 1
            await first.start()
            await tap.until(lambda: second.accepted == 1)
            assert first.accepted == 0


async def test_an_in_doubt_message_finds_its_host_after_a_restart(tmp_path: Path) -> None:
    async with serving() as first, serving(Handler(script={"dot": [RESET]})) as second:
        await first.stop()
        async with tapping(tmp_path, first, second, retry_min_s=60.0) as tap:
            assert "queued as" in await tap.send()
            await tap.until(lambda: tap.fates() == ["in_doubt"])
        await first.start()
        async with tapping(tmp_path, first, second) as tap:
            await tap.until(lambda: second.accepted + first.accepted == 1)
            assert second.accepted == 1


async def test_the_dead_host_is_not_waited_for(tmp_path: Path) -> None:
    async with serving() as handler, tapping(tmp_path, NOWHERE, handler) as tap:
        for _ in range(20):
            assert (await tap.send()).startswith("250 2.0.0 taken as")
        assert [host["state"] for host in tap.delivery.status()["hosts"]] == ["breaker", "up"]


# -- the breaker


async def test_more_than_the_slots_can_take_goes_to_the_spool_at_once(tmp_path: Path) -> None:
    async with (
        serving(Handler(script={"dot": HANG})) as handler,
        tapping(tmp_path, handler, deadline_s=0.3, connections=2, reply_timeout_s=2.0) as tap,
    ):
        replies = await asyncio.gather(*(tap.send(unique()) for _ in range(12)))
        assert all("queued as" in reply for reply in replies)
        assert len(handler.attempts) == 2
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.sleep(0.5)
        assert "queued as" in await tap.send(unique())
        assert loop.time() - began < 5  # no more than a sanity check: it did not wait for the handler
        handler.script.clear()
        await tap.until(lambda: handler.accepted == 13)


async def test_waiting_for_a_slot_is_no_overload(tmp_path: Path) -> None:
    async with (
        serving(Handler(script={"dot": Later(0.02)})) as handler,
        tapping(tmp_path, handler, connections=2) as tap,
    ):
        replies = await asyncio.gather(*(tap.send(unique()) for _ in range(40)))
        assert all(reply.startswith("250 2.0.0 taken") for reply in replies)
        assert tap.delivery._hosts.all[0].pool.wait_s() == 0.0


async def test_a_slow_reply_is_awaited_and_makes_no_duplicate(tmp_path: Path) -> None:
    async with (
        serving(Handler(script={"dot": Later(0.4)})) as handler,
        tapping(tmp_path, handler, deadline_s=0.1) as tap,
    ):
        replies = await asyncio.gather(*(tap.send(unique()) for _ in range(10)))
        assert all("queued as" in reply for reply in replies)
        await tap.until(lambda: not tap.delivery.status()["forwarding"])
        assert handler.accepted == len({message.wire for message in handler.messages}) == 10
        await tap.until(lambda: all(tap.fates(index) == ["forwarded"] for index in range(10)))


# -- SMTPUTF8


async def test_smtputf8_waits_for_a_host_that_offers_it(tmp_path: Path) -> None:
    mail, rcpts = "<é@x.example> SMTPUTF8".encode(), ("<ü@bounces.example>".encode(),)
    async with (
        serving(Handler(extensions=("PIPELINING",))) as first,
        serving() as second,
        tapping(tmp_path, first, second) as tap,
    ):
        message = incoming(mail_arg=mail, rcpt_args=rcpts, smtputf8=True)
        assert (await tap.delivery.deliver(message))[0].lines == (b"2.0.0 taken as 1",)
        await second.stop()
        assert b"queued as" in (await tap.delivery.deliver(message))[0].lines[0]
        await asyncio.sleep(0.2)
        assert tap.delivery.status()["spool"]["messages"] == 1
        assert first.accepted == 0
        await second.start()
        await tap.until(lambda: second.accepted == 2)
        assert second.messages[1].mail_arg == mail


async def test_waiting_for_smtputf8_holds_up_nobody(tmp_path: Path) -> None:
    async with serving(Handler(extensions=("PIPELINING",))) as handler, tapping(tmp_path, handler, NOWHERE) as tap:
        await handler.stop()
        assert (await tap.delivery.deliver(incoming(mail_arg=b"<> SMTPUTF8", smtputf8=True)))[0].code == 250
        for _ in range(10):
            assert "queued as" in await tap.send(unique())
        await handler.start()
        # The handler has taken a message a moment before we have its answer.
        await tap.until(lambda: handler.accepted == 10 and tap.delivery.status()["spool"]["messages"] == 1)


async def test_smtputf8_that_nobody_takes_is_a_dead_letter(tmp_path: Path) -> None:
    async with (
        serving(Handler(extensions=("PIPELINING",))) as handler,
        tapping(tmp_path, handler, smtputf8_wait_s=0.0) as tap,
    ):
        message = incoming(mail_arg=b"<> SMTPUTF8", smtputf8=True)
        reply, ident = await tap.delivery.deliver(message)
        assert reply.code == 250
        tap.delivery.answered(ident, 250)
        await tap.until(lambda: tap.fates() == ["dead"])
        (row,) = (await tap.delivery.command("spool_ls", {"dead": True}))["messages"]
        assert row["last_reply"].startswith("550 5.6.7")
        assert handler.attempts == []


# -- the operator


async def test_list_retry_drop(tmp_path: Path) -> None:
    async with (
        serving(Handler(script={"dot": b"451 4.2.0 later\r\n"})) as handler,
        tapping(tmp_path, handler, retry_min_s=60.0, retry_max_s=60.0) as tap,
    ):
        command = tap.delivery.command
        for index in range(3):
            await tap.send(unique(str(index)))
        rows = (await command("spool_ls", {"dead": False}))["messages"]
        assert [row["id"] for row in rows] == [record.id for record in tap.records()]
        assert {(row["recipients"], row["state"], row["last_reply"]) for row in rows} == {
            (1, "waiting", "451 4.2.0 later")
        }
        assert await command("spool_drop", {"id": rows[0]["id"]}) == {"dropped": rows[0]["id"]}
        await tap.until(lambda: tap.fates(0) == ["dropped"])
        handler.script.clear()
        assert await command("spool_retry", {"id": rows[2]["id"]}) == {"retried": 1}
        await tap.until(lambda: tap.fates(2) == ["forwarded"])
        assert tap.fates(1) == ["open"]
        assert await command("spool_retry", {"id": None}) == {"retried": 1}
        await tap.until(lambda: tap.fates(1) == ["forwarded"])
        for name, args in (
            ("spool_drop", {"id": "x"}),
            ("spool_retry", {"id": "x"}),
            ("spool_drop", {}),
            ("y", {}),
        ):
            with pytest.raises(CommandError):
                await command(name, args)


async def test_what_a_slow_handler_still_thinks_about_is_not_sent_again(tmp_path: Path) -> None:
    """Its sender was answered long ago, and it shows as pending: an operator's resend would be a second copy."""
    gate = Gate()
    async with (
        serving(Handler(script={"dot": [gate]})) as handler,
        tapping(tmp_path, handler, deadline_s=0.1) as tap,
    ):
        assert "queued as" in await tap.send()
        (record,) = tap.records()
        path = tmp_path / "wire"
        path.write_bytes(BODY)
        args = {"id": record.id, "path": str(path), "mail_arg": "<>", "rcpt_args": ["<a@bounces.example>"]}
        with pytest.raises(CommandError, match="being sent"):
            await tap.delivery.command("resend", args)
        gate.open.set()
        await tap.until(lambda: tap.fates() == ["forwarded"])
        assert handler.accepted == 1
        assert (await tap.delivery.command("resend", args))["replies"] == ["250 2.0.0 taken as 2"]


async def test_resend(tmp_path: Path) -> None:
    async with (
        serving(Handler(script={"dot": [b"451 4.2.0 later\r\n"]})) as handler,
        tapping(tmp_path, handler, retry_min_s=60.0, retry_max_s=60.0) as tap,
    ):
        await tap.send()
        (record,) = tap.records()
        answer = await tap.delivery.command("resend", {"id": record.id})
        assert answer == {"replies": ["250 2.0.0 taken as 1"]}
        await tap.until(lambda: tap.fates() == ["forwarded"])
        with pytest.raises(CommandError, match="not in the spool"):
            await tap.delivery.command("resend", {"id": record.id})
        kept = tmp_path / "kept"
        kept.write_bytes(BODY)
        args = {"id": record.id, "path": str(kept), "mail_arg": "<>", "rcpt_args": ["<a@bounces.example>"]}
        assert await tap.delivery.command("resend", args) == {"replies": ["250 2.0.0 taken as 2"]}
        for argument in ({"mail_arg": "<>\r\nRCPT TO:<x@y.example>"}, {"rcpt_args": ["<a@bounces.example>\nDATA"]}):
            with pytest.raises(CommandError, match="line end"):
                await tap.delivery.command("resend", {**args, **argument})
        assert [message.wire for message in handler.messages] == [BODY, BODY]
        await handler.stop()
        (error,) = (await tap.delivery.command("resend", args))["replies"]
        assert "refused" in error
        with pytest.raises(CommandError, match="cannot read"):
            await tap.delivery.command("resend", {**args, "path": str(tmp_path / "none")})


async def test_the_spool_holds_no_bodies(tmp_path: Path) -> None:
    async with tapping(tmp_path, NOWHERE) as tap:
        for _ in range(5):
            assert "queued as" in await tap.send(b"x" * 1_000_000 + b"\r\n")
        await until(lambda: not tap.delivery.status()["forwarding"])
        spool = tap.delivery._spool
        assert spool.bytes == 5_000_010
        held = [value for item in spool._items.values() for value in (getattr(item, name) for name in item.__slots__)]
        assert not [value for value in held if isinstance(value, bytes)]
