"""What the proxy must be told: frozen dataclasses with the defaults of the documented configuration.

`bouncetap/config` fills them from the TOML file; tests and benchmarks fill them directly. Durations are seconds,
sizes bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Limits:
    """`[proxy.limits]`: bounds on what one peer, and all peers together, may take."""

    connections: int = 2000
    connections_per_address: int = 50  # concurrent, per IPv4 address or IPv6 /64
    rate_per_address: int = 300  # new connections a minute, per IPv4 address or IPv6 /64
    loopback_exempt: bool = False  # from those two
    recipients: int = 1000
    messages_per_connection: int = 10_000
    bytes_in_flight: int = 256 * 1024 * 1024
    command_timeout_s: float = 300.0  # RFC 5321 section 4.5.3.2.7
    data_timeout_s: float = 180.0  # without a byte, RFC 5321 section 4.5.3.2.5
    data_total_timeout_s: float = 1800.0
    min_rate_bytes_s: int = 500  # averaged over 60 s
    bad_commands: int = 10
    command_line_bytes: int = 2048


@dataclass(frozen=True, slots=True)
class Listen:
    """`[proxy]`: where and for whom mail is accepted."""

    listen: tuple[str, ...] = ("127.0.0.1:2525",)  # "host:port"; "[::1]:2525" for IPv6
    hostname: str = "localhost"
    domains: tuple[str, ...] = ()
    max_message_size_bytes: int = 50 * 1000 * 1000
    tls_cert: Path | None = None
    tls_key: Path | None = None
    smuggling: str = "refuse"  # refuse | strict | normalize
    add_received: bool = False
    proxy_protocol_from: tuple[str, ...] = ()  # CIDRs
    drain_timeout_s: float = 60.0
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Legacy:
    """`[legacy]`: the handler behind us."""

    hosts: tuple[str, ...] = ()  # fail-over order
    deadline_s: float = 2.0
    on_tempfail: str = "spool"  # spool | pass
    tls: str = "off"  # off | may | verify
    client_address: str = "none"  # none | xclient | proxy
    user: str = ""
    password_file: Path | None = None
    connections: int = 20  # concurrently, per host
    replay_connections: int = 5
    retry_min_s: float = 1.0
    retry_max_s: float = 300.0
    connect_timeout_s: float = 5.0
    greeting_timeout_s: float = 30.0
    command_timeout_s: float = 60.0
    reply_timeout_s: float = 600.0  # after the dot, RFC 5321 section 4.5.3.2.6
    smtputf8_wait_s: float = 3600.0  # for a host that offers it, before a message that needs it is a dead letter


@dataclass(frozen=True, slots=True)
class JournalSettings:
    """`[journal]`: where the durable copy goes and how much of it there may be."""

    dir: Path = Path("var/journal")
    on_failure: str = "forward"  # forward | defer
    reserve_bytes: int = 1_000_000_000
    max_backlog_bytes: int = 50_000_000_000
    segment_bytes: int = 64 * 1024 * 1024
    copy_forward_after_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """All that `ProxyServer` needs."""

    listen: Listen = field(default_factory=Listen)
    legacy: Legacy = field(default_factory=Legacy)
    journal: JournalSettings = field(default_factory=JournalSettings)
    state_dir: Path = Path("var")
    workers: int = 1
