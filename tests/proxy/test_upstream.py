"""Connections to a handler: bytes on the wire, replies, reuse, TLS, AUTH, XCLIENT, PROXY, capabilities."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import StartError
from proxy.proxyproto import parse as parse_proxy_header
from proxy.types import Capabilities, Reply
from proxy.upstream.breaker import THRESHOLD, Breaker
from proxy.upstream.capabilities import Known
from proxy.upstream.client import Connection, LostError, Timeouts
from proxy.upstream.connect import Connector, DownError
from proxy.upstream.hosts import Hosts, Parcel
from proxy.upstream.identity import Client, proxy_header, xclient
from proxy.upstream.offers import Offers
from proxy.upstream.pool import GaveUpError, Pool, Ticket
from tests.support.handler import CLOSE, HANG, Gate, Handler, serving
from tests.support.inbound import on_both_loops, until
from tests.support.outbound import BODY, QUICK, RCPT, incoming, tapping, unique

CLIENT = Client("192.0.2.7", 4321, b"sender.example")


def connector(handler: Handler, **legacy: Any) -> Connector:
    return Connector(handler.host, replace(QUICK, hosts=(handler.host,), **legacy), "tap.example", None)


@asynccontextmanager
async def hosts(path: Path, *handlers: Handler, **legacy: Any) -> AsyncIterator[Hosts]:
    names = tuple(handler.host for handler in handlers)
    made = Hosts(replace(QUICK, hosts=names, **legacy), "tap.example", path)
    try:
        yield made
    finally:
        made.close()


def parcel(body: bytes = BODY, **fields: Any) -> Parcel:
    values = {
        "id": "id",
        "mail_arg": b"<>",
        "rcpt_args": (RCPT,),
        "smtputf8": False,
        "body": (body,),
        "client": CLIENT,
    }
    return Parcel(**{**values, **fields})


# -- the wire


@asynccontextmanager
async def talking(
    *answers: bytes, offers: Offers | None = None, timeouts: Timeouts | None = None
) -> AsyncIterator[tuple[Connection, list[bytes]]]:
    """A connection to a server that answers the n-th piece it gets with the n-th answer; those pieces."""
    pieces: list[bytes] = []
    left = list(answers)

    class Server(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast("asyncio.Transport", transport)
            ends.append(self.transport)

        def data_received(self, data: bytes) -> None:
            pieces.append(data)
            answer = left.pop(0) if left else b""
            if answer == b"close":
                self.transport.close()
            else:
                self.transport.write(answer)

        def connection_lost(self, error: Exception | None) -> None:
            ends.remove(self.transport)

    ends: list[asyncio.Transport] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Server, "127.0.0.1", 0)
    transport, _ = await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname()[:2])
    chosen = timeouts or Timeouts(10.0, 10.0, 10.0)
    connection = Connection(offers or Offers(pipelining=True), chosen, b"tap.example", secure=False)
    connection.take_over(transport)
    try:
        yield connection, pieces
    finally:
        connection.abort()
        for end in ends:
            end.abort()
        server.close()
        await until(lambda: not ends)


@on_both_loops
async def test_the_envelope_is_one_write_and_the_body_another() -> None:
    async with talking(b"250 a\r\n250 b\r\n251 c\r\n354 d\r\n", b"250 e\r\n") as (connection, pieces):
        said = await connection.transact(b"<x@y.example>", (b"<a@b>", b"<c@d>"), (b"Received: x\r\n", b"..\r\n"))
        assert pieces == [
            b"MAIL FROM:<x@y.example>\r\nRCPT TO:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n",
            b"Received: x\r\n..\r\n.\r\n",
        ]
        assert (said.mail, said.end) == (Reply(250, (b"a",)), Reply(250, (b"e",)))
        assert [reply.code for reply in said.rcpts] == [250, 251]


async def test_a_354_without_a_recipient_is_ended_by_a_lone_dot() -> None:
    answers = (b"250 a\r\n550 b\r\n354 d\r\n", b"554 none\r\n", b"250 a\r\n250 b\r\n354 c\r\n", b"250 d\r\n")
    async with talking(*answers) as (connection, pieces):
        said = await connection.transact(b"<>", (b"<a@b>",), (b"secret\r\n",))
        assert (said.rcpts[0].code, said.end) == (550, None)
        await connection.transact(b"<>", (b"<a@b>",), (b"x\r\n",))
        assert pieces[1] == b".\r\n"
        assert pieces[2].startswith(b"MAIL")


async def test_after_an_error_the_next_batch_begins_with_rset() -> None:
    answers = (b"550 a\r\n503 b\r\n503 d\r\n", b"250 r\r\n250 a\r\n250 b\r\n354 c\r\n", b"250 d\r\n")
    async with talking(*answers) as (connection, pieces):
        said = await connection.transact(b"<>", (b"<a@b>",), (b"x\r\n",))
        assert (said.mail.code, said.end) == (550, None)
        await connection.transact(b"<>", (b"<a@b>",), (b"x\r\n",))
        assert pieces[1] == b"RSET\r\nMAIL FROM:<>\r\nRCPT TO:<a@b>\r\nDATA\r\n"


async def test_step_by_step_where_pipelining_is_not_offered() -> None:
    answers = (b"250 a\r\n", b"550 b\r\n", b"250 c\r\n", b"354 d\r\n", b"250 e\r\n")
    async with talking(*answers, offers=Offers()) as (connection, pieces):
        said = await connection.transact(b"<>", (b"<a@b>", b"<c@d>"), (b"x\r\n",))
        assert pieces == [b"MAIL FROM:<>\r\n", b"RCPT TO:<a@b>\r\n", b"RCPT TO:<c@d>\r\n", b"DATA\r\n", b"x\r\n.\r\n"]
        assert [reply.code for reply in said.rcpts] == [550, 250]


@pytest.mark.parametrize("answers", [(b"550 a\r\n",), (b"250 a\r\n", b"550 b\r\n")])
async def test_step_by_step_goes_no_further_than_makes_sense(answers: tuple[bytes, ...]) -> None:
    async with talking(*answers, b"250 reset\r\n", b"451 a\r\n", offers=Offers()) as (connection, pieces):
        assert (await connection.transact(b"<>", (b"<a@b>",), (b"x\r\n",))).end is None
        assert (await connection.transact(b"<>", (b"<a@b>",), (b"x\r\n",))).mail.code == 451
        assert pieces[-2:] == [b"RSET\r\n", b"MAIL FROM:<>\r\n"]


@pytest.mark.parametrize(
    "answer",
    [
        b"what\r\n",
        b"2 0\r\n",
        b"199 x\r\n",
        b"600 x\r\n",
        b"250x\r\n",
        b"\r\n",
        b"250 " + b"x" * 9000 + b"\r\n",
        b"x" * 9000,
        b"250-x\r\n" * 200,
        b"334 x\r\n250 x\r\n354 x\r\n",
        b"250 x\r\n250 x\r\n250 x\r\n",
        b"250 x\r\n250 x\r\n354 x\r\n250 too much\r\n",
        b"250 x\r\n250 x\r\n",
        b"close",
    ],
    ids=lambda answer: answer[:12].decode(),
)
async def test_nonsense_before_the_dot_is_a_lost_connection(answer: bytes) -> None:
    async with talking(answer, b"close", timeouts=Timeouts(0.3, 0.3, 0.3)) as (connection, _):
        with pytest.raises(LostError) as lost:
            await connection.transact(b"<>", (b"<a@b>",), (b"x\r\n",))
        assert not lost.value.maybe_accepted or answer.endswith(b"much\r\n")
        assert not connection.usable


@pytest.mark.parametrize("answer", [b"what\r\n", b"354 again\r\n", b"250-x\r\n", b"close"])
async def test_nonsense_after_the_dot_is_doubt(answer: bytes) -> None:
    async with talking(b"250 a\r\n250 b\r\n354 c\r\n", answer, timeouts=Timeouts(1.0, 1.0, 1.0)) as (connection, _):
        with pytest.raises(LostError) as lost:
            await connection.transact(b"<>", (b"<a@b>",), (b"x\r\n",))
        assert lost.value.maybe_accepted


@given(data=st.binary(max_size=300), cuts=st.lists(st.integers(0, 300), max_size=5))
def test_replies_do_not_depend_on_how_they_arrive(data: bytes, cuts: list[int]) -> None:
    def told(pieces: list[bytes]) -> tuple[list[Reply], bool]:
        class Transport(asyncio.Transport):
            def abort(self) -> None:
                pass

        async def run() -> tuple[list[Reply], bool]:
            connection = Connection(Offers(), Timeouts(1, 1, 1), b"t", secure=False)
            connection._transport = Transport()
            connection._waiter = asyncio.get_running_loop().create_future()
            connection._wanted = 1000
            for piece in pieces:
                if connection._fault:
                    break
                connection.data_received(piece)
            return connection._replies, bool(connection._fault)

        return asyncio.run(run())

    stream = b"250-a\r\n250 b\r\n451 c\r\n" + data.replace(b"1", b"\r\n250 x\r\n")
    places = sorted({min(cut, len(stream)) for cut in cuts})
    pieces = [stream[start:end] for start, end in zip([0, *places], [*places, len(stream)], strict=True)]
    assert told(pieces) == told([stream])


async def test_control_characters_of_the_handler_are_not_passed_on() -> None:
    async with talking(b"250 a\r\n250 b\r\n354 c\r\n", b"250 a\rb\x00c\td\r\n") as (connection, _):
        said = await connection.transact(b"<>", (b"<a@b>",), (b"x\r\n",))
        assert said.end == Reply(250, (b"a?b?c\td",))


async def test_an_unsolicited_reply_ends_an_idle_connection() -> None:
    async with talking(b"250 a\r\n250 b\r\n354 c\r\n", b"250 d\r\n421 idle too long\r\n") as (connection, _):
        await connection.transact(b"<>", (b"<a@b>",), (b"x\r\n",))
        await until(lambda: not connection.usable)


# -- connecting


async def test_what_the_handler_offers(tmp_path: Path) -> None:
    async with serving(Handler(extensions=("SIZE 1234", "pipelining", "Dsn", "XCLIENT NAME ADDR"))) as handler:
        connection = await connector(handler).connect()
        assert connection.offers == Offers(
            pipelining=True, dsn=True, size=True, size_bytes=1234, xclient=frozenset({"NAME", "ADDR"})
        )
        assert handler.commands == [b"EHLO tap.example"]
        connection.quit()
        await until(lambda: not connection.usable)


async def test_helo_where_ehlo_is_unknown() -> None:
    async with serving(Handler(script={"ehlo": b"500 what?\r\n"})) as handler:
        connection = await connector(handler).connect()
        assert connection.offers == Offers()
        said = await connection.transact(b"<> SIZE=10 BODY=8BITMIME", (RCPT + b" NOTIFY=NEVER",), (BODY,))
        assert said.end is not None
        assert [handler.messages[0].mail_arg, handler.messages[0].rcpt_args] == [b"<>", (RCPT,)]
        connection.quit()


@pytest.mark.parametrize("host", ["127.0.0.1:1", "no.such.host.invalid:25", "[::1]:1"])
async def test_nobody_there(host: str) -> None:
    with pytest.raises(DownError, match="connect"):
        await Connector(host, replace(QUICK, connect_timeout_s=2.0), "tap.example", None).connect()


def test_a_host_that_makes_no_sense(tmp_path: Path) -> None:
    with pytest.raises(StartError):
        Connector("host:port", QUICK, "tap.example", None)
    with pytest.raises(StartError, match="password_file is not"):
        Hosts(replace(QUICK, user="u"), "tap.example", tmp_path)
    with pytest.raises(StartError, match="cannot read"):
        Hosts(replace(QUICK, user="u", password_file=tmp_path / "none"), "tap.example", tmp_path)


def server_context(name: str) -> tuple[ssl.SSLContext, trustme.CA]:
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(name).configure_cert(context)
    return context, ca


@on_both_loops
async def test_tls_if_offered(tmp_path: Path) -> None:
    context, _ = server_context("other.example")
    async with serving(Handler(tls=context)) as handler, tapping(tmp_path, handler, tls="may") as tap:
        big = b"x" * 70 + b"\r\n"
        assert (await tap.send(big * 50_000)).startswith("250 2.0.0 taken")
        assert handler.messages[0].secure
        assert handler.messages[0].wire == big * 50_000
    async with serving() as handler, tapping(tmp_path / "2", handler, tls="may") as tap:
        assert (await tap.send()).startswith("250 2.0.0 taken")
        assert not handler.messages[0].secure


async def test_tls_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context, ca = server_context("127.0.0.1")
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    async with serving(Handler(tls=context)) as handler:
        with pytest.raises(DownError, match="certificate"):
            await connector(handler, tls="verify").connect()
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        connection = await connector(handler, tls="verify").connect()
        assert (await connection.transact(b"<>", (RCPT,), (BODY,))).end is not None
        assert handler.messages[0].secure
        connection.quit()
    async with serving() as handler:
        with pytest.raises(DownError, match="STARTTLS"):
            await connector(handler, tls="verify").connect()


async def test_auth(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("s3cret\n", "utf-8")
    login: dict[str, Any] = {"user": "tap", "password_file": tmp_path / "password"}
    async with serving(Handler(login=("tap", "s3cret"))) as handler, tapping(tmp_path, handler, **login) as tap:
        assert (await tap.send()).startswith("250 2.0.0 taken")
        assert handler.messages[0].user == b"tap"
    async with serving(Handler(login=("tap", "other"))) as handler, tapping(tmp_path / "2", handler, **login) as tap:
        assert "queued as" in await tap.send()  # a 5xx to AUTH means down
        assert "535" in tap.delivery.status()["hosts"][0]["last_error"]
        assert "s3cret" not in str(tap.delivery.status())


# -- whom we speak for


async def test_xclient(tmp_path: Path) -> None:
    extensions = ("PIPELINING", "XCLIENT NAME ADDR PORT PROTO HELO")
    async with (
        serving(Handler(extensions=extensions)) as handler,
        tapping(tmp_path, handler, client_address="xclient") as tap,
    ):
        await tap.delivery.deliver(incoming())
        await tap.delivery.deliver(incoming(unique()))
        await tap.delivery.deliver(incoming(peer="[2001:db8::1]:25", helo="é x".encode()))
        assert [message.xclient for message in handler.messages] == [
            b"NAME=[UNAVAILABLE] ADDR=192.0.2.7 PORT=4321 PROTO=ESMTP HELO=sender.example",
            b"NAME=[UNAVAILABLE] ADDR=192.0.2.7 PORT=4321 PROTO=ESMTP HELO=sender.example",
            b"NAME=[UNAVAILABLE] ADDR=IPV6:2001:db8::1 PORT=25 PROTO=ESMTP HELO=+C3+A9+20x",
        ]
        assert len([line for line in handler.commands if line.startswith(b"XCLIENT")]) == 2
        # as the sender calls itself, where that is a name at all
        assert [message.helo for message in handler.messages] == [b"sender.example", b"sender.example", b"tap.example"]


async def test_a_name_that_displeases_the_handler_keeps_nothing_up(tmp_path: Path) -> None:
    async with (
        serving(Handler(extensions=("PIPELINING", "XCLIENT ADDR HELO"))) as handler,
        tapping(tmp_path, handler, client_address="xclient") as tap,
    ):
        await until(lambda: handler.connections == 1)  # the question what it offers
        handler.script["ehlo"] = [b"550 5.7.1 odd name\r\n"]
        assert (await tap.send()).startswith("250 2.0.0 taken")
        assert handler.messages[0].helo == b"tap.example"
        await tap.delivery.deliver(incoming(unique(), helo=b"x" * 300))  # no name, and too long to pass on
        assert handler.messages[1].xclient == b"ADDR=192.0.2.7 HELO=[UNAVAILABLE]"
        assert handler.messages[1].helo == b"tap.example"


async def test_xclient_that_is_not_offered_or_refused(tmp_path: Path) -> None:
    async with serving() as handler, tapping(tmp_path, handler, client_address="xclient") as tap:
        assert (await tap.send()).startswith("250 2.0.0 taken")
    refusing = Handler(extensions=("XCLIENT ADDR",), script={"xclient": b"550 not you\r\n"})
    async with serving(refusing) as handler, tapping(tmp_path / "2", handler, client_address="xclient") as tap:
        assert "queued as" in await tap.send()


async def test_proxy_protocol(tmp_path: Path) -> None:
    async with serving(Handler(proxy=True)) as handler, tapping(tmp_path, handler, client_address="proxy") as tap:
        await until(lambda: handler.connections == 1)  # the question what it offers
        for peer in ("192.0.2.7:4321", "192.0.2.7:4321", "[2001:db8::1]:25"):
            await tap.delivery.deliver(incoming(unique(), peer=peer))
        headers = [parse_proxy_header(message.proxy) for message in handler.messages]
        assert [header and header.source for header in headers] == [
            ("192.0.2.7", 4321),
            ("192.0.2.7", 4321),
            ("2001:db8::1", 25),
        ]


def test_headers_that_speak_for_us_or_nobody() -> None:
    for client in (None, Client("", 0, b"")):
        header = parse_proxy_header(proxy_header(client, "127.0.0.1", 25))
        assert header is not None
        assert header.source is None
    assert xclient(Client("", 0, b""), {"ADDR", "HELO"}) == b"XCLIENT ADDR=[UNAVAILABLE] HELO=[UNAVAILABLE]\r\n"
    assert Client.of("[fe80::1%eth0]:25", b"") == Client("fe80::1", 25, b"")


# -- reuse


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


# -- the breaker


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


# -- what may be offered


def test_parameters_that_a_host_lacks_are_dropped() -> None:
    mail = b'<"a> b"@c.example> SIZE=1 body=8BITMIME SMTPUTF8 RET=FULL ENVID=x=y'
    assert Offers().mail(mail) == b'<"a> b"@c.example>'
    assert Offers(size=True, dsn=True).mail(mail) == b'<"a> b"@c.example> SIZE=1 RET=FULL ENVID=x=y'
    full = Offers(size=True, dsn=True, smtputf8=True, eight_bit=True)
    assert full.mail(mail) is mail
    assert Offers().mail(b"<>  SIZE=1") == b"<>"
    assert Offers(size=True).mail(b"<>  SIZE=1") == b"<>  SIZE=1"  # nothing to drop: as received
    rcpts = [b"<a@b> NOTIFY=NEVER ORCPT=rfc822;x", b"<a@b>"]
    assert Offers().rcpts(rcpts) == [b"<a@b>", b"<a@b>"]
    assert Offers(dsn=True).rcpts(rcpts) == rcpts
    assert Offers().mail(b"<broken SIZE=1") == b"<broken SIZE=1"


@pytest.mark.parametrize("text", ["", "0", "x", "-1", "1" * 30, "٣"])
def test_sizes_that_say_nothing(text: str) -> None:
    assert Offers.parse({"size": text}).size_bytes in {None, int("1" * 30)}


def test_the_intersection_over_all_hosts(tmp_path: Path) -> None:
    known = Known(tmp_path, ("a:25", "b:25"))
    known.load()
    assert known.all == Capabilities(smtputf8=False, dsn=False, size_bytes=None)
    assert known.hear("a:25", Offers(smtputf8=True, dsn=True, size=True, size_bytes=1000))
    assert known.all == Capabilities(smtputf8=False, dsn=False, size_bytes=1000)
    assert known.hear("b:25", Offers(smtputf8=True, size=True, size_bytes=500))
    assert not known.hear("b:25", Offers(smtputf8=True, size=True, size_bytes=500))
    assert known.all == Capabilities(smtputf8=True, dsn=False, size_bytes=500)
    known.store()
    again = Known(tmp_path, ("a:25", "b:25"))
    again.load()
    assert again.all == known.all
    other = Known(tmp_path, ("a:25", "c:25"))
    other.load()
    assert other.all == Capabilities(smtputf8=False, dsn=False, size_bytes=1000)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"a:25": 3}', '{"a:25": {"smtputf8": 1}}', "\xff"])
def test_a_damaged_file_is_no_file(text: str, tmp_path: Path) -> None:
    (tmp_path / "capabilities.json").write_bytes(text.encode("latin-1"))
    known = Known(tmp_path, ("a:25",))
    known.load()
    assert known.all == Capabilities(smtputf8=False, dsn=False, size_bytes=None)


async def test_every_host_is_asked_and_the_answer_kept(tmp_path: Path) -> None:
    async with serving() as first, serving(Handler(extensions=("SMTPUTF8", "SIZE 5000"))) as second:
        async with tapping(tmp_path, first, second) as tap:
            await until(lambda: tap.delivery.capabilities().smtputf8)
            assert tap.delivery.capabilities() == Capabilities(smtputf8=True, dsn=False, size_bytes=5000)
            await until((tmp_path / "capabilities.json").exists)
            await until(lambda: len(json.loads((tmp_path / "capabilities.json").read_text())) == 2)
        await second.stop()
        async with tapping(tmp_path, first, second) as tap:
            assert tap.delivery.capabilities() == Capabilities(smtputf8=True, dsn=False, size_bytes=5000)
