"""The lock that makes sure of one filer: it alone writes message bytes, and deletes them."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from store.errors import StartError


class Locked(StartError):
    """Another filer runs on this state directory."""


@contextlib.contextmanager
def filer_lock(state_dir: Path) -> Iterator[None]:
    """Be the one filer. Raises Locked, OSError."""
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(state_dir / "filer.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Locked(f"another filer runs on {state_dir}") from None
        yield
    finally:
        os.close(descriptor)
