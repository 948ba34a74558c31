"""What all SMTP sessions of one server share: settings, who takes the mail, limits, the list of sessions.

`proxy/server.py` makes one and exchanges its parts on reload; sessions look things up here at each step, so that a
change holds from the next command on.
"""

from __future__ import annotations

import asyncio
import ipaddress
from typing import Protocol

from proxy.address import Domains
from proxy.limits import Gate, InFlight
from proxy.settings import Listen
from proxy.tls import ServerTls
from proxy.types import Capabilities, Deliver
from proxy.wire import Smuggling

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Guest(Protocol):
    """A session, as far as the server has to do with it.

    `waiting`: for a command, with nothing of ours to finish, so that it may be dismissed.
    """

    waiting: bool
    task: asyncio.Task[None] | None

    def dismiss(self, reply: bytes) -> None:
        """End a session that is `waiting` with a last reply."""
        ...

    def abort(self) -> None:
        """End the session now, without a word."""
        ...


class Front:
    """The shared state. `paused` refuses new mail with 421 4.3.2; `closing` also ends sessions after their message."""

    def __init__(self, listen: Listen, deliver: Deliver, tls: ServerTls | None = None) -> None:
        """Must be made on the running loop; `ValueError` if a domain, CIDR or policy cannot be understood."""
        self.loop = asyncio.get_running_loop()
        self.deliver = deliver
        self.tls = tls
        self.gate = Gate(listen.limits, self.loop.time)
        self.in_flight = InFlight(listen.limits.bytes_in_flight)
        self.handler_addresses: frozenset[str] = frozenset()
        self.sessions: set[Guest] = set()
        self.paused = False
        self.closing = False
        self.messages = 0
        self._ehlo: dict[tuple[Capabilities, bool], bytes] = {}
        self.configure(listen)

    def configure(self, listen: Listen) -> None:
        """Take new settings; all or, with a `ValueError`, none of them."""
        domains = Domains(listen.domains)
        balancers = tuple(ipaddress.ip_network(cidr) for cidr in listen.proxy_protocol_from)
        smuggling = Smuggling(listen.smuggling)
        hostname = listen.hostname.encode("idna")
        self.listen, self.limits = listen, listen.limits
        self.domains, self.smuggling = domains, smuggling
        self._balancers: tuple[_Network, ...] = balancers
        self.gate.limits = listen.limits
        self.in_flight.cap_bytes = listen.limits.bytes_in_flight
        self.greeting = b"220 %s ESMTP\r\n" % hostname
        self.helo_reply = b"250 %s\r\n" % hostname
        self._ehlo.clear()

    def is_balancer(self, ip: str) -> bool:
        """True if connections from this address begin with a PROXY header."""
        if not self._balancers:
            return False
        address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(ip.partition("%")[0])
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._balancers)

    def size_limit_bytes(self) -> int:
        """The SIZE that EHLO offers: ours, or a handler's smaller one."""
        handler = self.deliver.capabilities().size_bytes
        return min(self.listen.max_message_size_bytes, handler or self.listen.max_message_size_bytes)

    def ehlo_reply(self, *, secure: bool) -> bytes:
        """The whole EHLO reply, in one piece (some clients cannot put it together)."""
        capabilities = self.deliver.capabilities()
        offer_tls = self.tls is not None and not secure
        reply = self._ehlo.get((capabilities, offer_tls))
        if reply is None:
            lines = [self.listen.hostname.encode("idna"), b"PIPELINING", b"SIZE %d" % self.size_limit_bytes()]
            lines += [b"8BITMIME", b"ENHANCEDSTATUSCODES"]
            lines += [b"STARTTLS"] * offer_tls + [b"DSN"] * capabilities.dsn + [b"SMTPUTF8"] * capabilities.smtputf8
            reply = b"".join(b"250-%s\r\n" % line for line in lines[:-1]) + b"250 %s\r\n" % lines[-1]
            self._ehlo = {**self._ehlo, (capabilities, offer_tls): reply} if len(self._ehlo) < 16 else {}
        return reply
