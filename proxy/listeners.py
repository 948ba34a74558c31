"""The listening sockets, and the check that no handler is one of them (that mail would go round for ever)."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable

from proxy.errors import StartError

BACKLOG = 2048


def split_endpoint(text: str, default_port: int | None = None) -> tuple[str, int]:
    """`host:port` or `[v6]:port` as a pair; `StartError` if it is neither."""
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not host.startswith("[")) or text.endswith("]"):
        host, port = text, "" if default_port is None else str(default_port)
    if not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise StartError(f"not host:port: {text!r}")
    return host.strip("[]"), int(port)


def bind(text: str) -> socket.socket:
    """A listening socket for `host:port`; `StartError` says what is wrong with it."""
    host, port = split_endpoint(text)
    try:
        info = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise StartError(f"cannot listen on {text}: {error.strerror or error}") from None
    family, kind, protocol, _, address = info
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setblocking(False)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Inherited by what it accepts: without it a reply waits 40 ms for the other side's delayed ACK.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise StartError(f"cannot listen on {text}: {error.strerror or error}") from None
    return listener


async def resolve(hosts: Iterable[str], timeout_s: float = 5.0) -> dict[str, set[tuple[str, int]]]:
    """The addresses of each handler (`host:port`, port 25 by default); none for a name that does not resolve now."""
    loop = asyncio.get_running_loop()
    found: dict[str, set[tuple[str, int]]] = {}
    for text in hosts:
        host, port = split_endpoint(text, 25)
        try:
            infos = await asyncio.wait_for(loop.getaddrinfo(host, port, type=socket.SOCK_STREAM), timeout_s)
        except (OSError, TimeoutError):
            infos = []
        found[text] = {(str(info[4][0]), port) for info in infos}
    return found


def refuse_own(handlers: dict[str, set[tuple[str, int]]], listeners: Iterable[socket.socket]) -> None:
    """`StartError` if a handler is where we listen ourselves."""
    own = [listener.getsockname()[:2] for listener in listeners]
    for text, addresses in handlers.items():
        for ip, port in addresses:
            for own_ip, own_port in own:
                same = ip == own_ip or (ipaddress.ip_address(own_ip).is_unspecified and _is_local(ip))
                if port == own_port and same:
                    raise StartError(f"legacy host {text} is our own listening address: mail would loop")


def non_loopback(handlers: dict[str, set[tuple[str, int]]]) -> frozenset[str]:
    """The handlers' addresses from which no mail may come to us."""
    addresses = {ip for found in handlers.values() for ip, _ in found}
    return frozenset(ip for ip in addresses if not ipaddress.ip_address(ip.partition("%")[0]).is_loopback)


def _is_local(ip: str) -> bool:
    """True if the address is one of this machine's."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((ip, 0))
        except OSError:
            return False
    return True
