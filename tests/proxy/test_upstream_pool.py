"""Connections kept, retired and replaced; slots, who waits for them and who gives up; the breaker."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from proxy.types import Reply
from proxy.upstream.breaker import THRESHOLD, Breaker
from proxy.upstream.pool import GaveUpError, Pool, Ticket
from tests.support.handler import CLOSE, HANG, Gate, Handler, serving
from tests.support.inbound import until
from tests.support.outbound import tapping, unique
from tests.support.upstream import connector, hosts, parcel


async def test_a_dead_pooled_connection_is_replaced_unseen(tmp_path: Path) -> None:
    async with serving() as handler, hosts(tmp_path, handler) as upstream:
        for stage in ("mail", "rcpt", "data", "dot"):
            assert (await upstream.send(parcel(), Ticket(), upstream.claim())).accepted
            before, count = handler.connections, handler.accepted
            if stage == "dot":  # 421: surely not taken
                handler.script[stage] = [b"421 4.4.2 idle\r\n"]
            else:
                handler.script[stage] = [CLOSE]
            outcome = await upstream.send(parcel(), Ticket(), upstream.claim())
            assert outcome.accepted
            assert (handler.connections, handler.accepted) == (before + 1, count + 1)
        assert upstream.all[0].breaker.failures == 0


async def test_a_5xx_to_mail_is_asked_again_on_a_fresh_connection(tmp_path: Path) -> None:
    async with serving() as handler, hosts(tmp_path, handler) as upstream:
        assert (await upstream.send(parcel(), Ticket(), upstream.claim())).accepted
        handler.script["mail"] = [b"550 too many on this connection\r\n"]
        assert (await upstream.send(parcel(), Ticket(), upstream.claim())).accepted
        assert handler.connections == 2
        handler.script["mail"] = b"550 no\r\n"
        outcome = await upstream.send(parcel(), Ticket(), upstream.claim())
        assert outcome.said == (Reply(550, (b"no",)),)
        assert handler.connections == 3


async def test_connections_are_kept_and_retired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.upstream.pool.RETIRE_TRANSACTIONS", 3)
    async with serving() as handler, hosts(tmp_path, handler) as upstream:
        for _ in range(7):
            await upstream.send(parcel(), Ticket(), upstream.claim())
        assert handler.connections == 3
        monkeypatch.setattr("proxy.upstream.pool.RETIRE_IDLE_S", -1.0)
        upstream.retire()
        await until(lambda: not handler.sessions)
        assert handler.commands.count(b"QUIT") == 3


async def test_slots_live_before_replays_and_giving_up(tmp_path: Path) -> None:
    clock = [0.0]
    async with serving() as handler:
        pool = Pool(connector(handler), 2, lambda: clock[0])
        first, second = await pool.enter(Ticket()), await pool.enter(Ticket())
        order: list[str] = []

        async def wait(name: str, ticket: Ticket) -> float:
            started = await pool.enter(ticket)
            order.append(name)
            return started

        replay = asyncio.ensure_future(wait("replay", Ticket(live=False)))
        tickets = [Ticket(), Ticket(), Ticket()]
        live = [asyncio.ensure_future(wait(f"live {i}", ticket)) for i, ticket in enumerate(tickets)]
        await asyncio.sleep(0)
        clock[0] = 10.0
        assert pool.wait_s() == (3 + 1) * 10.0 / 2
        tickets[1].give_up()
        live[2].cancel()
        with pytest.raises(GaveUpError):
            await live[1]
        with pytest.raises(asyncio.CancelledError):
            await live[2]
        with pytest.raises(GaveUpError):
            await pool.enter(tickets[1])
        pool.leave(first, completed=True)
        await live[0]
        pool.leave(second, completed=True)
        await replay
        assert order == ["live 0", "replay"]
        assert pool.status() == {"busy": 2, "idle": 0, "waiting": 0}
        pool.leave(10.0, completed=False)
        pool.leave(10.0, completed=False)
        assert pool.wait_s() == 0.0


async def test_a_forward_that_is_late_stops_waiting_for_a_slot(tmp_path: Path) -> None:
    gate = Gate()
    async with (
        serving(Handler(script={"dot": gate})) as handler,
        tapping(tmp_path, handler, connections=1, deadline_s=0.2) as tap,
    ):
        one = await tap.sender.begin(unique())
        await until(lambda: gate.reached == 1)
        two = await tap.sender.begin(unique())
        assert "queued as" in await one.reply()
        assert "queued as" in await two.reply()
        await until(lambda: tap.delivery.status()["forwarding"] == 1)
        assert tap.delivery.status()["spool"]["messages"] == 1
        gate.open.set()
        await until(lambda: handler.accepted == 2)
        assert len(handler.attempts) == 2


def test_the_breaker() -> None:
    clock = [100.0]
    breaker = Breaker(lambda: clock[0])
    for _ in range(THRESHOLD - 1):
        breaker.failure()
        assert breaker.admit()
    breaker.success()
    for _ in range(THRESHOLD):
        assert not breaker.open
        breaker.failure()
    assert breaker.open
    assert not breaker.admit()
    assert breaker.wait_s() == 1.0
    clock[0] += 1.0
    assert [breaker.admit(), breaker.admit()] == [True, False]
    clock[0] += 1.0  # the first probe hangs: another may go
    assert breaker.admit()
    assert not breaker.admit()
    breaker.untried()
    assert breaker.admit()
    breaker.failure()
    assert not breaker.admit()
    breaker.success()
    assert breaker.admit()
    assert breaker.admit()


async def test_silence_opens_it_too(tmp_path: Path) -> None:
    async with (
        serving(Handler(script={"mail": HANG})) as handler,
        hosts(tmp_path, handler, command_timeout_s=0.1) as upstream,
    ):
        outcomes = [await upstream.send(parcel(), Ticket(), upstream.claim()) for _ in range(THRESHOLD)]
        assert {(outcome.unreached, outcome.error) for outcome in outcomes} == {(False, "timeout")}
        outcome = await upstream.send(parcel(), Ticket(), upstream.claim())
        assert (outcome.unreached, outcome.error) == (True, "every host is down")
        assert upstream.all[0].status()["state"] == "breaker"
