"""From a host's name to a session: offers, HELO, TLS, AUTH, XCLIENT, PROXY, and whom we speak for."""

from __future__ import annotations

import ssl
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme

from proxy.errors import StartError
from proxy.proxyproto import parse as parse_proxy_header
from proxy.upstream.connect import Connector, DownError
from proxy.upstream.hosts import Hosts
from proxy.upstream.identity import Client, proxy_header, xclient
from proxy.upstream.offers import Offers
from tests.support.handler import Handler, serving
from tests.support.inbound import on_both_loops, until
from tests.support.outbound import BODY, QUICK, RCPT, incoming, tapping, unique
from tests.support.upstream import connector


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


async def test_tls_that_fails_is_done_without_where_it_may_be(tmp_path: Path) -> None:
    context, _ = server_context("other.example")
    refusing = Handler(tls=context, script={"starttls": b"454 4.7.0 not now\r\n"})
    too_old, _ = server_context("other.example")
    too_old.set_ciphers("AES128-SHA")
    too_old.maximum_version = ssl.TLSVersion.TLSv1_2
    for number, broken in enumerate((refusing, Handler(tls=too_old))):
        async with serving(broken) as handler, tapping(tmp_path / str(number), handler, tls="may") as tap:
            assert (await tap.send()).startswith("250 2.0.0 taken")
            assert not handler.messages[0].secure
    (tmp_path / "password").write_text("s3cret\n", "utf-8")
    login: dict[str, Any] = {"user": "tap", "password_file": tmp_path / "password"}
    async with serving(refusing) as handler, tapping(tmp_path / "login", handler, tls="may", **login) as tap:
        assert "queued as" in await tap.send()  # no password in the clear, though
        assert not [line for line in handler.commands if line.startswith(b"AUTH")]


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
