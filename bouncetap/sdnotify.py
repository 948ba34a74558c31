"""systemd's readiness and watchdog protocol (sd_notify): a datagram to $NOTIFY_SOCKET, nothing where it is unset."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket


def _send(state: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK  # a systemd that does not read must not stop our loop
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, kind) as notify:
        notify.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)


def ready() -> None:
    """Start-up is complete."""
    _send("READY=1")


def stopping() -> None:
    """An orderly stop has begun."""
    _send("STOPPING=1")


async def keep_watchdog_fed() -> None:
    """Tells systemd that the loop turns, twice in each `WatchdogSec`, until cancelled."""
    usec = os.environ.get("WATCHDOG_USEC")
    if not usec:
        return
    while True:
        _send("WATCHDOG=1")
        await asyncio.sleep(int(usec) / 2_000_000)
