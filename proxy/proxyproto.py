"""The PROXY protocol header, versions 1 and 2: who is really behind a load balancer's connection.

A pure function over the bytes that have arrived; the session decides whom to believe (`proxy_protocol_from`).
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

V1_LIMIT_BYTES = 107  # the specification's worst case, CRLF included
V2_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
V2_LIMIT_BYTES = 16 + 2048  # addresses and as many TLVs as anyone sends
_V2_ADDRESSES = {0x11: ("4s4sHH", ipaddress.IPv4Address), 0x21: ("16s16sHH", ipaddress.IPv6Address)}


class ProxyHeaderError(Exception):
    """What arrived is not a PROXY header."""


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """`source` is (ip, port) of the client, None where the balancer speaks for itself (LOCAL, UNKNOWN).

    `size_bytes` is the length of the header.
    """

    source: tuple[str, int] | None
    size_bytes: int


def parse(data: bytes) -> ProxyHeader | None:
    """The header at the front of `data`, None if more bytes are needed; `ProxyHeaderError` if it is none."""
    if data.startswith(b"PROXY"):
        return _parse_v1(data)
    if data.startswith(V2_SIGNATURE):
        return _parse_v2(data)
    if b"PROXY".startswith(data) or V2_SIGNATURE.startswith(data):
        return None
    raise ProxyHeaderError


def _parse_v1(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, V1_LIMIT_BYTES)
    if end < 0:
        if len(data) >= V1_LIMIT_BYTES:
            raise ProxyHeaderError
        return None
    try:
        words = data[:end].decode("ascii").split(" ")
        if words[:2] == ["PROXY", "UNKNOWN"]:
            return ProxyHeader(None, end + 2)
        _, family, source, destination, source_port, destination_port = words
        kind = {"TCP4": ipaddress.IPv4Address, "TCP6": ipaddress.IPv6Address}[family]
        if "%" in source:  # a zone may hold anything, line ends too, and means nothing here
            raise ProxyHeaderError
        address, _ = kind(source), kind(destination)
        return ProxyHeader((str(address), _port(source_port, destination_port)), end + 2)
    except (KeyError, ValueError):
        raise ProxyHeaderError from None


def _port(source: str, destination: str) -> int:
    if not (source.isdigit() and destination.isdigit() and int(source) < 65536 and int(destination) < 65536):
        raise ValueError
    return int(source)


def _parse_v2(data: bytes) -> ProxyHeader | None:
    if len(data) < 16:
        return None
    command, family, length = struct.unpack_from("!BBH", data, 12)
    size = 16 + length
    if command not in {0x20, 0x21} or size > V2_LIMIT_BYTES:
        raise ProxyHeaderError
    if len(data) < size:
        return None
    if command == 0x20 or family not in _V2_ADDRESSES:  # LOCAL, or neither TCP over IPv4 nor over IPv6
        return ProxyHeader(None, size)
    layout, kind = _V2_ADDRESSES[family]
    if length < struct.calcsize("!" + layout):
        raise ProxyHeaderError
    source, _, port, _ = struct.unpack_from("!" + layout, data, 16)
    return ProxyHeader((str(kind(source)), port), size)
