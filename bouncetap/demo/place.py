"""Where a demo runs: a state directory and ports that no other demo has, however many are started at once.

The state directory is locked by its marker file for as long as the demo and its tap live. A port is claimed by an
abstract Unix socket named after it, which vanishes with its process: between the choice of a port and the moment in
which the tap listens on it, no second demo can choose the same.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
from dataclasses import dataclass, field
from pathlib import Path

HOST = "127.0.0.1"
MARKER = ".bouncetap-demo"
DEMOS_AT_ONCE = 9


class NoPlace(Exception):
    """There is nowhere to run a demo, and why."""


@dataclass(frozen=True, slots=True)
class StateDir:
    """A state directory that is ours; `lock` is the descriptor that says so."""

    path: Path
    lock: int


def take_state_dir(wanted: Path) -> StateDir:
    """`wanted`, emptied of an earlier demo's state; `wanted-2` ... while a demo runs there. Raises NoPlace, OSError."""
    for number in range(1, DEMOS_AT_ONCE + 1):
        path = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        if (lock := _locked(path)) is None:
            continue
        for entry in path.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name != MARKER:
                entry.unlink()
        return StateDir(path, lock)
    raise NoPlace(f"{DEMOS_AT_ONCE} demos run at {wanted}; name another place with --state")


def _locked(path: Path) -> int | None:
    """A descriptor that holds the lock, None if a running demo has it. Raises NoPlace where no demo has ever been."""
    if path.exists() and any(path.iterdir()) and not (path / MARKER).exists():
        raise NoPlace(f"{path} is not an earlier demo's state; name another place with --state")
    path.mkdir(parents=True, mode=0o700, exist_ok=True)
    descriptor = os.open(path / MARKER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


@dataclass
class Ports:
    """The ports of one demo: the usual ones, or free ones where those are taken."""

    smtp: int = 0
    handler: int = 0
    imap: int = 0
    http: int = 0
    _claims: list[socket.socket] = field(default_factory=list)

    @classmethod
    def claim(cls) -> Ports:
        """Four ports that nobody listens on and no other demo has claimed."""
        ports = cls()
        ports.smtp, ports.handler = ports._one(2525), ports._one(2526)
        ports.imap, ports.http = ports._one(1143), ports._one(9025)
        return ports

    def release(self) -> None:
        """Gives the claims up."""
        for claim in self._claims:
            claim.close()

    def _one(self, usual: int) -> int:
        for port in (usual, *([0] * 100)):
            with contextlib.suppress(OSError), socket.create_server((HOST, port)) as listener:
                found = int(listener.getsockname()[1])
                claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                self._claims.append(claim)
                claim.bind(f"\0bouncetap-demo-{found}")
                return found
        raise NoPlace(f"no free port on {HOST}")
