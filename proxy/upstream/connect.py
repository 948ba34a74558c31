"""From a host's name to a session ready for mail: TCP, PROXY header, greeting, EHLO, STARTTLS, AUTH.

aiosmtplib does all that speaks SMTP here. Whatever goes wrong means that the host is down, never that it refused a
message: only replies within a transaction are verdicts.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import ssl
from dataclasses import dataclass
from typing import cast

import aiosmtplib
import structlog

from proxy.errors import StartError
from proxy.listeners import split_endpoint
from proxy.settings import Legacy
from proxy.upstream.client import Connection, LostError, Timeouts
from proxy.upstream.identity import Client, proxy_header
from proxy.upstream.offers import Offers

_BLOCK_FACTOR = 3  # RFC 5321 section 4.5.3.2.5: 3 min a data block, by the default command timeout of 60 s
_FAULTS = (aiosmtplib.SMTPException, OSError, ValueError, LostError, ssl.SSLError)
_UNKNOWN_COMMAND = frozenset({500, 502})

log = structlog.get_logger("proxy")


class DownError(Exception):
    """The host cannot be talked to; one line says why.

    `begun`: it had heard of the message already, and failed before the dot.
    """

    def __init__(self, text: str, *, begun: bool = False) -> None:
        super().__init__(text)
        self.begun = begun


class NoTlsError(Exception):
    """STARTTLS was offered and did not work, where it is only opportunistic (RFC 7435): do without."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """For AUTH."""

    user: str
    password: str


class Connector:
    """Makes connections to one host, all in the same way."""

    def __init__(self, text: str, legacy: Legacy, hostname: str, credentials: Credentials | None) -> None:
        """`text` is "host:port" (port 25 by default); `hostname` is what we say in EHLO. Raises StartError."""
        self.host, self.port = split_endpoint(text, 25)
        self._legacy = legacy
        self._hostname = hostname.encode("idna").decode("ascii")
        self._credentials = credentials
        self._tls = _tls_context(legacy.tls)
        self._timeouts = Timeouts(
            legacy.command_timeout_s, legacy.reply_timeout_s, legacy.command_timeout_s * _BLOCK_FACTOR
        )

    async def connect(self, client: Client | None = None) -> Connection:
        """A connection on which a transaction may begin; raises DownError.

        With `client_address = "proxy"`, it speaks for `client`; None means for ourselves.
        """
        try:
            return await self._session(client, tls=self._legacy.tls)
        except NoTlsError as error:
            log.warning("handler_tls_failed", host=self.host, error=str(error))
            return await self._session(client, tls="off")

    async def _session(self, client: Client | None, *, tls: str) -> Connection:
        sock = await self._socket(client)
        smtp = aiosmtplib.SMTP(
            sock=sock,
            hostname=self.host,
            local_hostname=self._hostname,
            start_tls=False,
            tls_context=self._tls,
            timeout=self._legacy.greeting_timeout_s,
        )
        try:
            return await self._introduce(smtp, client, tls)
        except _FAULTS as error:
            raise DownError(_one_line(error)) from None
        finally:
            smtp.close()  # what has become a Connection is not its own any more

    async def _introduce(self, smtp: aiosmtplib.SMTP, client: Client | None, tls: str) -> Connection:
        await smtp.connect()
        await self._ehlo(smtp)
        secure = tls == "verify" or (tls == "may" and smtp.supports_extension("starttls"))
        if secure:
            try:
                await smtp.starttls()
                await smtp.ehlo()
            except _FAULTS as error:
                if tls == "may" and self._credentials is None:  # no password in the clear
                    raise NoTlsError(_one_line(error)) from None
                raise
        if self._credentials is not None:
            await smtp.login(self._credentials.user, self._credentials.password)
        transport = cast("asyncio.Transport", smtp.transport)  # uvloop's has no such base class
        if transport is None or transport.is_closing():
            raise LostError("connection closed")
        connection = Connection(
            Offers.parse(smtp.esmtp_extensions), self._timeouts, self._hostname.encode("ascii"), secure=secure
        )
        connection.take_over(transport)
        smtp.transport = smtp.protocol = None
        if self._legacy.client_address == "proxy":
            connection.client = client
        return connection

    async def _ehlo(self, smtp: aiosmtplib.SMTP) -> None:
        try:
            await smtp.ehlo()
        except aiosmtplib.SMTPHeloError as error:
            if error.code not in _UNKNOWN_COMMAND:
                raise
            await smtp.helo()  # RFC 5321 section 3.2: an old one

    async def _socket(self, client: Client | None) -> socket.socket:
        """A connected socket, past the PROXY header if there is one to send. Raises DownError."""
        try:
            async with asyncio.timeout(self._legacy.connect_timeout_s):
                return await self._connected(client)
        except TimeoutError:
            raise DownError("connect: timeout") from None
        except socket.gaierror as error:
            raise DownError(f"connect: {error.strerror}") from None
        except OSError as error:
            raise DownError(f"connect: {os.strerror(error.errno) if error.errno else error}") from None

    async def _connected(self, client: Client | None) -> socket.socket:
        loop = asyncio.get_running_loop()
        fault: OSError = OSError("no address")
        for family, address in await self._addresses(loop):
            # With its protocol named, asyncio too sets TCP_NODELAY; uvloop always does.
            sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            try:
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await loop.sock_connect(sock, address)
                if self._legacy.client_address == "proxy":
                    await loop.sock_sendall(sock, proxy_header(client, str(address[0]), self.port))
                return sock
            except OSError as error:
                sock.close()
                fault = error
            except BaseException:
                sock.close()
                raise
        raise fault

    async def _addresses(self, loop: asyncio.AbstractEventLoop) -> list[tuple[int, tuple[str, int]]]:
        try:
            version = ipaddress.ip_address(self.host).version
        except ValueError:
            infos = await loop.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
            return [(info[0], (str(info[4][0]), self.port)) for info in infos]
        return [(socket.AF_INET if version == 4 else socket.AF_INET6, (self.host, self.port))]


def _tls_context(mode: str) -> ssl.SSLContext | None:
    if mode == "off":
        return None
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
    if mode == "may":  # opportunistic: better encrypted to anyone than in the clear
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def credentials(legacy: Legacy) -> Credentials | None:
    """User and password of the settings; blocks on a small file. Raises StartError."""
    if not legacy.user:
        return None
    if legacy.password_file is None:
        raise StartError("legacy.user is set but legacy.password_file is not")
    try:
        lines = legacy.password_file.read_text("utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise StartError(f"cannot read legacy.password_file {legacy.password_file}: {error}") from None
    return Credentials(legacy.user, lines[0] if lines else "")
