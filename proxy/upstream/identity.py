"""On whose behalf we speak to the handler: as an XCLIENT command or as a PROXY protocol v2 header."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from proxy.proxyproto import V2_SIGNATURE

_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._:[]@")


@dataclass(frozen=True, slots=True)
class Client:
    """The sender: its address, port and HELO argument."""

    ip: str
    port: int
    helo: bytes

    @classmethod
    def of(cls, peer: str, helo: bytes) -> Client:
        """From "ip:port" or "[ip]:port", as `Entry.peer` has it."""
        ip, _, port = peer.rpartition(":")
        return cls(ip.strip("[]").partition("%")[0], int(port) if port.isdigit() else 0, helo)


def xclient(client: Client, attributes: AbstractSet[str]) -> bytes:
    """The XCLIENT command with those of our attributes that the handler takes (Postfix XCLIENT_README)."""
    address = f"IPV6:{client.ip}" if ":" in client.ip else client.ip
    known = {
        "NAME": b"[UNAVAILABLE]",
        "ADDR": address.encode() or b"[UNAVAILABLE]",
        "PORT": b"%d" % client.port,
        "PROTO": b"ESMTP",
        "HELO": _bounded(xtext(client.helo)),
    }
    words = [b"%s=%s" % (name.encode(), value) for name, value in known.items() if name in attributes]
    return b" ".join([b"XCLIENT", *words]) + b"\r\n"


def xtext(value: bytes) -> bytes:
    """RFC 3461 section 4, with everything encoded that is not plainly harmless."""
    return b"".join(bytes([octet]) if octet in _SAFE else b"+%02X" % octet for octet in value)


def _bounded(value: bytes) -> bytes:
    """A sender must not be able to make our command too long for the handler."""
    return value if 0 < len(value) <= 255 else b"[UNAVAILABLE]"


def proxy_header(client: Client | None, to_ip: str, to_port: int) -> bytes:
    """A PROXY v2 header; LOCAL where we speak for ourselves, or where the sender's address is unknown."""
    try:
        source = ipaddress.ip_address(client.ip if client else "")
        target = ipaddress.ip_address(to_ip.partition("%")[0])
    except ValueError:
        return V2_SIGNATURE + struct.pack("!BBH", 0x20, 0x00, 0)
    assert client is not None
    if source.version == target.version == 4:
        addresses = struct.pack("!4s4sHH", source.packed, target.packed, client.port, to_port)
        return V2_SIGNATURE + struct.pack("!BBH", 0x21, 0x11, len(addresses)) + addresses
    addresses = struct.pack("!16s16sHH", _v6(source), _v6(target), client.port, to_port)
    return V2_SIGNATURE + struct.pack("!BBH", 0x21, 0x21, len(addresses)) + addresses


def _v6(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bytes:
    return address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed
