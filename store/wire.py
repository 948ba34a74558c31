"""Length-prefixed messages over a socket, between the filer and its worker."""

from __future__ import annotations

import socket
import struct

_LENGTH = struct.Struct("<Q")


def send(link: socket.socket, data: bytes) -> None:
    """Raises OSError, TimeoutError where the other end takes nothing for the socket's timeout."""
    link.sendall(_LENGTH.pack(len(data)))
    view = memoryview(data)
    while view:
        view = view[link.send(view) :]


def receive(link: socket.socket) -> bytes:
    """Raises EOFError at the end, OSError, TimeoutError where nothing comes for the socket's timeout."""
    (length,) = _LENGTH.unpack(_exactly(link, _LENGTH.size))
    return bytes(_exactly(link, length))


def _exactly(link: socket.socket, size: int) -> bytearray:
    data = bytearray(size)
    view, done = memoryview(data), 0
    while done < size:
        count = link.recv_into(view[done:])
        if not count:
            raise EOFError
        done += count
    return data
