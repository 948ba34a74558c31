"""What the store must be told: frozen dataclasses with the defaults of the documented configuration."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from classifier.context import Patterns

DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Retention:
    """`[retention]`: seconds a message stays in a folder. Keys are folder names (`Bounces/Hard`)."""

    default_s: int = 14 * DAY_S
    by_folder_s: dict[str, int] = field(
        default_factory=lambda: {
            "Bounces/Hard": 30 * DAY_S,
            "Bounces/Soft": 30 * DAY_S,
            "Bounces/Blocked": 30 * DAY_S,
            "Bounces/Admin": 30 * DAY_S,
            "Replies": 90 * DAY_S,
            "Unsubscribes": 365 * DAY_S,
            "Complaints": 365 * DAY_S,
        }
    )

    def for_folder(self, folder: str) -> int:
        """Seconds that a message stays in `folder`."""
        return self.by_folder_s.get(folder, self.default_s)


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """All that the filer, expiry and the quarantine need.

    `reserve_bytes` is the disk space kept free for the journal: below it the filer stops filing and waits. `workers`
    are processes that classify; 0: one less than there are CPUs, at most four.
    """

    state_dir: Path = Path("var")
    journal_dir: Path = Path("var/journal")
    index_url: str = "sqlite:///var/index.db"
    reserve_bytes: int = 1_000_000_000
    retention: Retention = field(default_factory=Retention)
    patterns: Patterns = field(default_factory=Patterns)
    expire_interval_s: float = 600.0
    poll_interval_s: float = 0.1
    batch_messages: int = 500
    segment_bytes: int = 64 * 1024 * 1024
    workers: int = 0

    @property
    def worker_count(self) -> int:
        """How many processes classify."""
        return self.workers or min(4, max(1, len(os.sched_getaffinity(0)) - 1))


@dataclass(frozen=True, slots=True)
class ImapSettings:
    """`[imap]`: where analysts log in. Without `tls_cert` no LOGIN is offered on a non-loopback address."""

    listen: tuple[str, ...] = ("127.0.0.1:1143",)
    listen_tls: tuple[str, ...] = ()
    tls_cert: Path | None = None
    tls_key: Path | None = None
    connections: int = 500
    connections_per_address: int = 50
    idle_timeout_s: float = 1800.0  # RFC 3501 section 5.4: at least 30 minutes
    login_timeout_s: float = 60.0
    poll_interval_s: float = 0.25
    store: StoreSettings = field(default_factory=StoreSettings)
