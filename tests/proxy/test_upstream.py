"""The transaction with a handler: bytes on the wire, replies, and what is made of nonsense."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.types import Reply
from proxy.upstream.client import Connection, LostError, Timeouts
from proxy.upstream.offers import Offers
from tests.support.inbound import on_both_loops, until


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
