"""The large messages read last: clients fetch those in hundreds of pieces, each of which needs the whole."""

from __future__ import annotations

import threading
from collections import OrderedDict

LARGE_BYTES = 200_000
KEPT_BYTES = 64_000_000


class RecentTexts:
    """Messages of 200 KB or more as they are shown, 64 MB of them at most, by folder and UID. Thread-safe."""

    def __init__(self) -> None:
        self._texts: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, folder: str, uid: int) -> bytes | None:
        """A message, if it is kept."""
        with self._lock:
            text = self._texts.get((folder, uid))
            if text is not None:
                self._texts.move_to_end((folder, uid))
        return text

    def keep(self, folder: str, uid: int, text: bytes) -> None:
        """Keep a message if it is large; those not asked for the longest make room."""
        if not LARGE_BYTES <= len(text) <= KEPT_BYTES:
            return
        with self._lock:
            self._bytes += len(text) - len(self._texts.pop((folder, uid), b""))
            self._texts[folder, uid] = text
            while self._bytes > KEPT_BYTES:
                self._bytes -= len(self._texts.popitem(last=False)[1])
