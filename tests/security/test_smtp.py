"""Breaking in over SMTP: relaying, smuggling, spoofing, floods, memory. The proxy is a process of its own."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import ClassVar

import psutil
import pytest

from proxy.wire import Smuggling, Splitter, inspect, normalized
from tests.e2e.conftest import HandlerProcess
from tests.support.tap import DOMAIN, Tap, wait_for

OURS = DOMAIN.encode()
RELAY_TRICKS = [
    b"<victim@example.org>",
    b"<@" + OURS + b":victim@example.org>",
    b"<@" + OURS + b",@example.org:victim@" + OURS + b">",
    b"<victim@example.org@" + OURS + b">",
    b"<victim@" + OURS + b"@example.org>",
    b'<"victim@example.org"@example.org>',
    b'<"a@' + OURS + b'"@example.org>',
    b"<victim@" + OURS + b".>",
    b"<victim@" + OURS + b".example.org>",
    b"<victim@x" + OURS + b">",
    b"<victim@sub." + OURS + b">",
    b"<victim@[127.0.0.1]>",
    b"<victim@[IPv6:::1]>",
    b"<victim@" + OURS + b"\x00.example.org>",
    b"<victim@example.org\x00@" + OURS + b">",
    b"<victim@" + OURS + b"> <victim@example.org>",
    b"<victim@example.org>,<a@" + OURS + b">",
    b"<victim@" + OURS + b"%example.org>",
    b"<victim@example.org\tx@" + OURS + b">",
    b"victim@" + OURS,
    b"<victim@" + OURS,
    "<victim@bounces。example。org>".encode(),
    "<victim@example.org＠bounces.example.com>".encode(),
    "<victim@bоunces.example.com>".encode(),  # a Cyrillic o
    "<victim@bounces。example。com>".encode(),
    "<victim@ｂounces.example.com>".encode(),
    "<victim@bounces\u00ad.example.com>".encode(),
    "<victim\u0085x@bounces.example.com>".encode(),
    "<victim\u2028x@bounces.example.com>".encode(),
    b"<victim@bounces.example.com\xff>",
    b"<victim@xn--bounces-.example.com>",
    b"<>",
    b"<@>",
    b"<victim@>",
    b"<victim>",
]


class Client:
    opened: ClassVar[list[Client]] = []

    def __init__(self, tap: Tap) -> None:
        self.opened.append(self)
        self.sock = socket.create_connection(("127.0.0.1", tap.smtp_port), timeout=20)
        self.file = self.sock.makefile("rb")

    def reply(self) -> bytes:
        line = whole = self.file.readline()
        while line[3:4] == b"-":
            line = self.file.readline()
            whole += line
        return whole

    def ask(self, *commands: bytes) -> list[bytes]:
        self.sock.sendall(b"".join(command + b"\r\n" for command in commands))
        return [self.reply() for _ in commands]

    def begin(self) -> Client:
        self.reply()
        self.ask(b"EHLO attacker")
        return self

    def close(self) -> None:
        self.file.close()
        self.sock.close()


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while Client.opened:
        Client.opened.pop().close()


@pytest.mark.parametrize("smtputf8", [False, True])
@pytest.mark.parametrize("path", RELAY_TRICKS)
def test_no_relay(tap: Tap, path: bytes, smtputf8: bool) -> None:
    client = Client(tap).begin()
    client.ask(b"MAIL FROM:<>" + (b" SMTPUTF8" if smtputf8 else b""))
    assert client.ask(b"RCPT TO:" + path)[0][:1] == b"5"
    client.close()


def test_the_local_part_is_never_interpreted(tap: Tap, handler: HandlerProcess) -> None:
    """`%`, `!` and quoted `@` go to the handler as they came, at our domain: nobody but it ever routes by them."""
    paths = [p + b"@" + OURS + b">" for p in (b"<victim%example.org", b"<example.org!victim", b'<"v@example.org"')]
    client = Client(tap).begin()
    assert all(r[:3] == b"250" for r in client.ask(b"MAIL FROM:<>", *(b"RCPT TO:" + path for path in paths)))
    assert client.ask(b"DATA")[0][:3] == b"354"
    assert client.ask(b"percent\r\n.")[0][:3] == b"250"
    client.close()
    wait_for(lambda: any(row["rcpts"] == [p.decode() for p in paths] for row in handler.accepted()), "the handler")


@pytest.mark.parametrize(
    "line",
    [
        b"MAIL FROM:<a@b.example>\rRCPT TO:<victim@example.org>",
        b"MAIL FROM:<a@b.example> BODY=8BITMIME\x0b",
        b"MAIL FROM:<> ENVID=x\x00",
        b"MAIL FROM:<> AUTH=<>",
        b"MAIL FROM:<a\x7f@b.example>",
        b"MAIL FROM:<> SIZE=99999999999999999999",
        b"MAIL FROM:<> SIZE=-1",
        b"MAIL FROM:<> SIZE=1 SIZE=1",
        b"MAIL FROM:<> RET=FULL;RCPT",
    ],
)
def test_parameters_smuggle_nothing(tap: Tap, line: bytes) -> None:
    client = Client(tap).begin()
    assert client.ask(line)[0][:1] == b"5"
    assert client.ask(b"RCPT TO:<a@" + OURS + b">")[0][:3] == b"503"
    client.close()


@pytest.mark.parametrize(
    "end", [b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r\n.\r\r\n", b"\n.\r\r\n"]
)
def test_only_one_message_comes_out_of_one(tap: Tap, handler: HandlerProcess, end: bytes) -> None:
    before = len(handler.accepted())
    client = Client(tap).begin()
    client.ask(b"MAIL FROM:<>", b"RCPT TO:<a@" + OURS + b">", b"DATA")
    smuggled = b"MAIL FROM:<evil@example.org>\r\nRCPT TO:<b@" + OURS + b">\r\nDATA\r\nsmuggled\r\n."
    assert client.ask(b"x" + end + smuggled)[0].startswith(b"554 5.6.11")
    assert client.ask(b"NOOP")[0][:3] == b"250"
    client.close()
    assert len(handler.accepted()) == before


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY TCP4 127.0.0.9 127.0.0.1 1 25\r\n",
        b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x7f\x00\x00\x09\x7f\x00\x00\x01\x00\x01\x00\x19",
    ],
)
def test_a_proxy_header_from_anybody_is_an_error(tap: Tap, header: bytes) -> None:
    client = Client(tap)
    client.reply()
    client.sock.sendall(header)
    assert client.reply()[:1] == b"5"
    client.close()
    assert "127.0.0.9" not in tap.log("proxy")


def test_refused_recipients_end(tap: Tap) -> None:
    client = Client(tap).begin()
    client.ask(b"MAIL FROM:<>")
    for _ in range(10):
        assert all(r[:3] == b"550" for r in client.ask(*[b"RCPT TO:<victim@example.org>"] * 100))
    assert client.reply().startswith(b"421")


def test_recipients_of_a_flood_count_as_memory(tap: Tap) -> None:
    """A thousand long recipients a session are megabytes: they stand in the same account as bodies."""
    client = Client(tap).begin()
    client.ask(b"MAIL FROM:<>")
    for _ in range(10):
        client.ask(*[b"RCPT TO:<" + b"v" * 1900 + b"@" + OURS + b">"] * 100)
    assert tap.status("proxy")["in_flight_bytes"] > 1_900_000
    client.ask(b"RSET")
    assert tap.status("proxy")["in_flight_bytes"] == 0
    client.ask(b"MAIL FROM:<>", b"RCPT TO:<a@" + OURS + b">")
    client.close()
    wait_for(lambda: tap.status("proxy")["in_flight_bytes"] == 0, "the transaction to be forgotten")


def test_half_sent_messages_stay_in_bounds(tap: Tap) -> None:
    process = psutil.Process(tap.processes["proxy"].pid)
    before = process.memory_info().rss
    clients = []
    for _ in range(20):
        client = Client(tap).begin()
        client.ask(b"MAIL FROM:<>", b"RCPT TO:<a@" + OURS + b">", b"DATA")
        client.sock.sendall(b"x" * 998 * 2000)
        clients.append(client)
    wait_for(lambda: tap.status("proxy")["in_flight_bytes"] > 20 * 1_800_000, "the bodies to arrive")
    held = tap.status("proxy")["in_flight_bytes"]
    assert process.memory_info().rss - before < 2 * held + 60_000_000
    for client in clients:
        client.close()
    wait_for(lambda: tap.status("proxy")["in_flight_bytes"] == 0, "all of it to be given back")


def test_single_bytes_cost_single_bytes() -> None:
    splitter = Splitter()
    for _ in range(200_000):
        splitter.feed(bytearray(b"x"))
    assert len(splitter._chunks) < 10
    splitter.feed(b"\r\n.\r\n")
    assert splitter.wire() == b"x" * 200_000 + b"\r\n"


@pytest.mark.parametrize("policy", list(Smuggling))
def test_a_lone_dot_is_found_wherever_the_search_is_cut(policy: Smuggling) -> None:
    for at in range((1 << 20) - 4, (1 << 20) + 2):
        wire = b"x" * at + b"\n.\r\r\ny\r\n"
        found = inspect(wire, policy)
        assert (found.bare_lf, found.bare_cr) == (1, 1)
        assert bool(found.refused) == (policy is not Smuggling.NORMALIZE)
        assert found.wire == (normalized(wire) if policy is Smuggling.NORMALIZE else wire)


def test_nobody_waits_for_the_search_of_a_large_body(tap: Tap) -> None:
    """While 40 MB of bare line ends are looked through, another session gets its answers."""
    large = Client(tap).begin()
    large.ask(b"MAIL FROM:<>", b"RCPT TO:<a@" + OURS + b">", b"DATA")
    large.sock.sendall(b"a\n" * 20_000_000 + b".\r\n")  # ends in a dot between bare line ends
    other = Client(tap).begin()
    assert other.ask(b"NOOP")[0][:3] == b"250"
    assert large.ask(b".")[0].startswith(b"554 5.6.11")
    for client in (large, other):
        client.close()
