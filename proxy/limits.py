"""Bounds on what one peer, and all peers together, may take: connections, their rate, bytes in flight.

All of it is memory of this process; nothing here waits. Addresses are counted per IPv4 address or IPv6 /64, since
whoever has one address of a /64 has them all.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from proxy.settings import Limits

RATE_WINDOW_S = 60.0
TRACKED_ADDRESSES = 20_000  # above it, those idle for a window are forgotten


def address_key(ip: str) -> str:
    """What an address is counted as: IPv4 itself, also where mapped into IPv6; the /64 of any other IPv6."""
    try:
        address = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError:
        return ip
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Address(int(address) >> 64 << 64)) + "/64"


class _Peer:
    """One address: how many connections it has, and its budget of new ones (a token bucket)."""

    __slots__ = ("connections", "tokens", "updated_s")

    def __init__(self, tokens: float, now_s: float) -> None:
        self.connections = 0
        self.tokens = tokens
        self.updated_s = now_s


class Gate:
    """Admits connections. `limits` may be exchanged while running; it holds for connections from then on."""

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        """Take the limits and a monotonic clock (seconds)."""
        self.limits = limits
        self.connections = 0
        self._clock = clock
        self._peers: dict[str, _Peer] = {}

    def admit_any(self) -> str:
        """Count one more connection; return "" or the reason why it may not be ("connections")."""
        if self.connections >= self.limits.connections:
            return "connections"
        self.connections += 1
        return ""

    def release_any(self) -> None:
        """A connection that `admit_any` let in has ended."""
        self.connections -= 1

    def exempts(self, ip: str) -> bool:
        """Whether an address is not counted: the machine itself, where `loopback_exempt`."""
        return self.limits.loopback_exempt and ipaddress.ip_address(ip.partition("%")[0]).is_loopback

    def admit(self, key: str) -> str:
        """Count one more connection of an address (`address_key`).

        Returns "" or the reason why it may not be: "connections_per_address" or "rate_per_address".
        """
        now = self._clock()
        peer = self._peers.get(key)
        if peer is None:
            if len(self._peers) >= TRACKED_ADDRESSES:
                self._forget_idle(now)
            peer = self._peers[key] = _Peer(self.limits.rate_per_address, now)
        rate = self.limits.rate_per_address
        peer.tokens = min(rate, peer.tokens + (now - peer.updated_s) * rate / RATE_WINDOW_S)
        peer.updated_s = now
        if peer.connections >= self.limits.connections_per_address:
            return "connections_per_address"
        if peer.tokens < 1:
            return "rate_per_address"
        peer.tokens -= 1
        peer.connections += 1
        return ""

    def release(self, key: str) -> None:
        """A connection that `admit` let in has ended."""
        peer = self._peers.get(key)
        if peer is not None:
            peer.connections -= 1

    def _forget_idle(self, now_s: float) -> None:
        """Drop addresses without connections: first those idle for a window, then, in a flood, all of them."""
        for window_s in (RATE_WINDOW_S, 0.0):
            self._peers = {
                key: peer for key, peer in self._peers.items() if peer.connections or now_s - peer.updated_s < window_s
            }
            if len(self._peers) < TRACKED_ADDRESSES:
                return


class InFlight:
    """Bytes of bodies that are being received or delivered, over all sessions."""

    def __init__(self, cap_bytes: int) -> None:
        self.cap_bytes = cap_bytes
        self.bytes = 0

    def fits(self, size_bytes: int) -> bool:
        """True if so many more may come."""
        return self.bytes + size_bytes <= self.cap_bytes

    def add(self, size_bytes: int) -> None:
        """So many more are held (or, negative, fewer)."""
        self.bytes += size_bytes
