"""What EHLO may offer to senders: what every host can do, as last heard from each, kept over restarts.

A host that was never asked is taken to know neither SMTPUTF8 nor DSN.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from proxy.types import Capabilities
from proxy.upstream.offers import Offers

_FILE = "capabilities.json"


class Known:
    """The last word of each of `hosts` ("host:port" as configured). `all` is the intersection, made at each change."""

    def __init__(self, state_dir: Path, hosts: Iterable[str]) -> None:
        self._path = state_dir / _FILE
        self._hosts = tuple(hosts)
        self._last: dict[str, Capabilities] = {}
        self.all = self._intersection()

    def load(self) -> None:
        """Read what an earlier life heard; a missing or damaged file counts as nothing heard. Blocks."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            for host, entry in json.loads(self._path.read_text("utf-8")).items():
                if host in self._hosts:
                    self._last[host] = _parsed(entry)
        self.all = self._intersection()

    def asked(self, host: str) -> bool:
        """Whether this host was ever heard."""
        return host in self._last

    def hear(self, host: str, offers: Offers) -> bool:
        """Take note of an EHLO reply; True if it differs from the last one, and `store` should be called."""
        heard = Capabilities(offers.smtputf8, offers.dsn, offers.size_bytes)
        if self._last.get(host) == heard:
            return False
        self._last[host] = heard
        self.all = self._intersection()
        return True

    def store(self) -> None:
        """Write the file anew. Blocks; an error is not worth more than asking again after the next start."""
        entries = {
            host: {"smtputf8": last.smtputf8, "dsn": last.dsn, "size_bytes": last.size_bytes}
            for host, last in self._last.items()
        }
        temporary = self._path.with_name(f".{_FILE}.{os.getpid()}")
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary.write_text(json.dumps(entries), "utf-8")
            temporary.replace(self._path)

    def _intersection(self) -> Capabilities:
        last = [self._last.get(host) for host in self._hosts]
        sizes = [known.size_bytes for known in last if known is not None and known.size_bytes is not None]
        return Capabilities(
            smtputf8=bool(last) and all(known is not None and known.smtputf8 for known in last),
            dsn=bool(last) and all(known is not None and known.dsn for known in last),
            size_bytes=min(sizes, default=None),
        )


def _parsed(entry: dict[str, Any]) -> Capabilities:
    size = entry["size_bytes"]
    return Capabilities(bool(entry["smtputf8"]), bool(entry["dsn"]), None if size is None else int(size))
