"""The server around the sessions: TLS, balancers, start and stop, pause, drain, reload; on asyncio and on uvloop."""

from __future__ import annotations

import asyncio
import ssl
import struct
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import StartError
from proxy.listeners import split_endpoint
from proxy.proxyproto import V2_SIGNATURE, ProxyHeader, ProxyHeaderError, parse
from proxy.server import ProxyServer
from proxy.trace import received_field
from tests.support.inbound import ENVELOPE, Sink, on_both_loops, running, settings, until


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


def certificate(ca: trustme.CA, folder: Path, name: str) -> Path:
    path = folder / "tls.pem"
    ca.issue_cert(name, "localhost").private_key_and_cert_chain_pem.write_to_path(str(path))
    return path


@pytest.fixture
def trusting(ca: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    ca.configure_trust(context)
    return context


@on_both_loops
async def test_starttls(ca: trustme.CA, trusting: ssl.SSLContext, tmp_path: Path) -> None:
    async with running(tls_cert=certificate(ca, tmp_path, "one.example")) as tap:
        client = await tap.connect()
        assert "STARTTLS" in await client.ask(b"EHLO c")
        await client.ask(b"MAIL FROM:<>")
        assert (await client.ask(b"STARTTLS")).startswith("220")
        await client.start_tls(trusting)
        assert (await client.ask(b"RCPT TO:<a@bounces.example>")).startswith("503")
        assert (await client.ask(b"MAIL FROM:<>")).startswith("503")  # forgotten: EHLO anew
        await client.say(ENVELOPE + b"x" * 300_000 + b"\r\n.\r\n")
        assert "STARTTLS" not in await client.reply()
        for wanted in ("250", "250", "354", "250"):
            assert (await client.reply())[:3] == wanted
        assert tap.sink.messages[0].tls.startswith("TLSv1.3 TLS_")
        await until(lambda: tap.sink.marks == [("id1", 250)])
        assert (await client.ask(b"QUIT")).startswith("221")


@on_both_loops
async def test_what_follows_starttls_in_the_clear_is_dropped(
    ca: trustme.CA, trusting: ssl.SSLContext, tmp_path: Path
) -> None:
    async with running(tls_cert=certificate(ca, tmp_path, "one.example")) as tap:
        client = await tap.connect()
        await client.ask(b"EHLO c")
        await client.say(b"STARTTLS\r\nEHLO injected\r\nMAIL FROM:<evil@x.example>\r\n")
        assert (await client.reply()).startswith("220")
        await client.start_tls(trusting)
        assert (await client.ask(b"NOOP")).startswith("250 2.0.0")  # and nothing before it
        assert (await client.ask(b"RCPT TO:<a@bounces.example>")).startswith("503")


@on_both_loops
async def test_a_bad_handshake_ends_only_its_session(ca: trustme.CA, tmp_path: Path) -> None:
    async with running(tls_cert=certificate(ca, tmp_path, "one.example")) as tap:
        client = await tap.connect()
        assert (await client.ask(b"STARTTLS")).startswith("220")
        await client.say(b"this is not a ClientHello\r\n" * 10)
        await client.closed()
        gone = await tap.connect()
        assert (await gone.ask(b"STARTTLS")).startswith("220")
        await gone.close()
        await until(lambda: tap.server.status()["connections"] == 0)
        await tap.connect()


@on_both_loops
async def test_reload(ca: trustme.CA, trusting: ssl.SSLContext, tmp_path: Path) -> None:
    cert = certificate(ca, tmp_path, "one.example")
    async with running(tls_cert=cert) as tap:
        kept = await tap.connect()
        await kept.ask(b"EHLO c")
        certificate(ca, tmp_path, "two.example")
        await tap.server.reload(settings(tls_cert=cert, domains=("new.example",)))
        await kept.ask(b"MAIL FROM:<>")
        assert (await kept.ask(b"RCPT TO:<a@new.example>")).startswith("250")
        assert (await kept.ask(b"RCPT TO:<a@bounces.example>")).startswith("550")
        await kept.ask(b"STARTTLS")
        await kept.start_tls(trusting)
        names = kept.writer.get_extra_info("peercert")["subjectAltName"]
        assert ("DNS", "two.example") in names
        cert.write_bytes(b"rubbish")
        for bad in (settings(tls_cert=cert), settings(domains=("a b",)), settings(smuggling="perhaps")):
            with pytest.raises(StartError):
                await tap.server.reload(bad)
        assert "STARTTLS" in await (await tap.connect()).ask(b"EHLO c")


@on_both_loops
async def test_a_balancers_header_names_the_client() -> None:
    async with running(proxy_protocol_from=("127.0.0.0/8",)) as tap:
        client = await tap.connect(greeted=False)
        await client.say(b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 25\r\n")
        assert (await client.reply()).startswith("220")
        await client.say(ENVELOPE + b"x\r\n.\r\n")
        for _ in range(5):
            await client.reply()
        message = tap.sink.messages[0]
        assert message.peer == "192.0.2.7:4711"
        assert message.proxied_for.startswith("127.0.0.1:")
        silent = await tap.connect(greeted=False)
        await silent.say(b"EHLO c\r\n")
        assert await silent.closed()


@on_both_loops
async def test_a_header_from_anyone_else_is_a_bad_command() -> None:
    async with running(proxy_protocol_from=("192.0.2.0/24",)) as tap:
        client = await tap.connect()
        assert (await client.ask(b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 25")).startswith("500")


V2 = V2_SIGNATURE + b"\x21\x11\x00\x0c" + bytes([192, 0, 2, 7, 192, 0, 2, 1]) + struct.pack("!HH", 4711, 25)


def test_proxy_headers() -> None:
    assert parse(V2 + b"EHLO") == ProxyHeader(("192.0.2.7", 4711), len(V2))
    assert parse(V2_SIGNATURE + b"\x20\x00\x00\x00") == ProxyHeader(None, 16)
    assert parse(b"PROXY UNKNOWN\r\n") == ProxyHeader(None, 15)
    assert parse(b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n") == ProxyHeader(("2001:db8::1", 1), 32)
    for whole in (V2, b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 25\r\n"):
        assert all(parse(whole[:size]) is None for size in range(len(whole)))
    for bad in (b"EHLO c", b"PROXY TCP4 a b 1 2\r\n", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 99999\r\n", b"PROXY " + b"x" * 120,
                V2_SIGNATURE + b"\x31\x11\x00\x0c", V2_SIGNATURE + b"\x21\x11\xff\xff", V2[:14] + b"\0\0"):  # fmt: skip
        with pytest.raises(ProxyHeaderError):
            parse(bad)


@given(st.one_of(st.binary(max_size=60), st.binary(max_size=60).map(lambda tail: V2_SIGNATURE + tail),
                 st.binary(max_size=60).map(lambda tail: b"PROXY " + tail)))  # fmt: skip
def test_proxy_headers_raise_nothing_else(data: bytes) -> None:
    try:
        header = parse(data)
    except ProxyHeaderError:
        return
    assert header is None or 0 < header.size_bytes <= len(data)


@on_both_loops
async def test_pause_resume_drain() -> None:
    sink = Sink(gate=asyncio.Event())
    async with running(sink, drain_timeout_s=20.0) as tap:
        assert sink.gate is not None
        idle, busy = await tap.connect(), await tap.connect()
        await idle.ask(b"EHLO c")
        await busy.say(ENVELOPE + b"x\r\n.\r\n")
        await until(lambda: len(sink.messages) == 1)
        await tap.server.command("pause", {})
        assert (await idle.ask(b"MAIL FROM:<>")).startswith("421 4.3.2")
        fresh = await tap.connect(greeted=False)
        assert (await fresh.reply()).startswith("421 4.3.2")
        await tap.server.command("resume", {})
        waiting = await tap.connect()
        drain = asyncio.create_task(tap.server.command("drain", {}))
        assert (await waiting.reply()).startswith("421 4.3.2")
        sink.gate.set()
        for wanted in ("250", "250", "250", "354", "250", "421"):
            assert (await busy.reply())[:3] == wanted
        assert (await drain)["connections"] == 0
        await tap.server.command("retry", {})
        assert sink.commands == ["retry"]
        await tap.server.command("resume", {})
        await tap.connect()


@on_both_loops
async def test_stop_finishes_what_runs() -> None:
    sink = Sink(gate=asyncio.Event())
    async with running(sink, drain_timeout_s=20.0) as tap:
        assert sink.gate is not None
        idle, busy, receiving = await tap.connect(), await tap.connect(), await tap.connect()
        await busy.say(ENVELOPE + b"x\r\n.\r\n")
        await receiving.say(ENVELOPE + b"first half, ")
        await until(lambda: len(sink.messages) == 1)
        stopping = asyncio.create_task(tap.server.stop())
        assert (await idle.reply()).startswith("421 4.3.2")
        await receiving.say(b"second half\r\n.\r\n")
        sink.gate.set()
        for client in (busy, receiving):
            for wanted in ("250", "250", "250", "354", "250", "421"):
                assert (await client.reply())[:3] == wanted
        await stopping
        assert sink.stopped
        assert len(sink.marks) == 2


@on_both_loops
async def test_stop_is_bounded() -> None:
    sink = Sink()
    async with running(sink, drain_timeout_s=0.1) as tap:
        client = await tap.connect()
        await client.say(ENVELOPE + b"never ending")
        for _ in range(4):
            await client.reply()
        await tap.server.stop()
        await client.closed()
        assert sink.messages == []
        assert tap.server.status()["state"] == "stopping"


@on_both_loops
async def test_a_handler_that_is_ourselves_is_refused_at_start() -> None:
    async with running() as tap:
        port = tap.port
    for listen in (f"127.0.0.1:{port}", f"0.0.0.0:{port}"):
        server = ProxyServer(settings(listen=(listen,), hosts=(f"127.0.0.1:{port}",)), deliver=Sink())
        with pytest.raises(StartError, match="mail would loop"):
            await server.start()


@pytest.mark.parametrize(
    "bad",
    [{"listen": ("nonsense",)}, {"listen": ("203.0.113.1:2525",)}, {"listen": ()}, {"domains": ("a b",)},
     {"tls_cert": Path("absent.pem")}, {"tls_key": Path("k")}, {"proxy_protocol_from": ("x/y",)}, {"hostname": "a..b"}],
)  # fmt: skip
@on_both_loops
async def test_bad_settings_are_one_clear_line(bad: dict[str, Any]) -> None:
    server = ProxyServer(settings(**bad), deliver=Sink())
    with pytest.raises(StartError) as caught:
        await server.start()
    assert len(str(caught.value).splitlines()) == 1


@on_both_loops
async def test_a_taken_port_is_one_clear_line() -> None:
    async with running() as tap:
        server = ProxyServer(settings(listen=(f"127.0.0.1:{tap.port}",)), deliver=Sink())
        with pytest.raises(StartError, match="Address already in use"):
            await server.start()


@on_both_loops
async def test_mail_from_the_handler_itself_is_turned_away() -> None:
    async with running() as tap:
        assert tap.server._front is not None
        tap.server._front.handler_addresses = frozenset({"127.0.0.1"})
        client = await tap.connect(greeted=False)
        assert (await client.reply()).startswith("421 4.4.6")


def test_endpoints() -> None:
    assert split_endpoint("[::1]:25") == ("::1", 25)
    assert split_endpoint("h", 25) == ("h", 25)
    assert split_endpoint("[::1]", 25) == ("::1", 25)
    for bad in ("h", "::1:25", "h:x", "h:99999"):
        with pytest.raises(StartError):
            split_endpoint(bad)


def test_the_received_field_is_plain_ascii_whatever_helo_was() -> None:
    field = received_field(hostname="tap.example", peer="[2001:db8::1]:25", helo=b"a\r\nb (x)\xff", tls="TLSv1.3 X",
                           smtputf8=False, id="01H", received_ns=0)  # fmt: skip
    assert field == (
        b"Received: from a??b??x?? ([IPv6:2001:db8::1])\r\n"
        b"\tby tap.example with ESMTPS id 01H;\r\n\tThu, 01 Jan 1970 00:00:00 +0000\r\n"
    )
