"""Every option there is: its dotted name, type, default as written in TOML, and what it does.

The reference page (`docs/configuration.md`), the full sample (`etc/bouncetap.full.toml`), the loader and the tests
all read this table; an option that is not here does not exist, and an unknown key in the file is an error.
"""

from __future__ import annotations

from dataclasses import dataclass

from bouncetap.config import values as v


@dataclass(frozen=True, slots=True)
class Option:
    """One option. `default` is TOML text (`"2s"` with its quotes); None where there is none (unset)."""

    name: str
    type: v.Type
    default: str | None
    doc: str

    @property
    def reloadable(self) -> bool:
        """Whether `bouncetap reload` takes a new value over; else it waits for a restart."""
        return self.name not in RESTART and self.section not in RESTART

    @property
    def section(self) -> str:
        """The TOML table that it stands in; "" for the top."""
        return self.name.rpartition(".")[0]

    @property
    def key(self) -> str:
        """Its key within the table."""
        return self.name.rpartition(".")[2]


FOLDERS = ("Bounces/Hard", "Bounces/Soft", "Bounces/Blocked", "Bounces/Admin", "Delays", "Delivered", "Auto-Replies",
           "Challenges", "Unsubscribes", "Complaints", "Receipts", "Reports", "Replies", "Other")  # fmt: skip
_RETENTION = {"Bounces/Hard": "30d", "Bounces/Soft": "30d", "Bounces/Blocked": "30d", "Bounces/Admin": "30d",
              "Replies": "90d", "Unsubscribes": "365d", "Complaints": "365d"}  # fmt: skip


def folder_key(folder: str) -> str:
    """The `[retention]` key of a folder: lower-cased, "/" and "-" become "_"."""
    return folder.lower().replace("/", "_").replace("-", "_")


RESTART = frozenset({"state_dir", "proxy.listen", "proxy.workers", "classifier.workers", "legacy", "journal", "index", "quarantine",
                     "imap.listen", "imap.listen_tls", "http", "log"})  # fmt: skip  # options and whole sections

SECTIONS = {
    "": "The top of the file.",
    "proxy": "The SMTP front line: the MX of the return-path domain.",
    "proxy.limits": "Bounds on what one peer, and all peers together, may take.",
    "legacy": "The handler behind the tap, which keeps getting every byte.",
    "journal": "The durable log between the SMTP front line and everything else.",
    "classifier": "How our own addresses look, so that a verdict can name whom we sent to.",
    "index": "The database of what is in the quarantine.",
    "quarantine": "Where messages are kept for the analysts.",
    "retention": "How long a message stays, by folder. A flagged message stays until the flag goes.",
    "imap": "Where analysts log in with any IMAP client.",
    "http": "Metrics and health.",
    "log": "What is written to standard error.",
}

OPTIONS: tuple[Option, ...] = (
    Option("state_dir", v.PATH, '"./var"', "Where everything that lasts is kept: journal, quarantine, index, control "
           "sockets. Relative paths start at the configuration file's folder. Created with mode 0700."),
    Option("proxy.listen", v.ADDRESSES, '["127.0.0.1:2525"]', "Where SMTP is accepted."),
    Option("proxy.hostname", v.HOSTNAME, None, "The name in greeting and EHLO. Default: this machine's name."),
    Option("proxy.domains", v.DOMAINS, None, "The return-path domains. Mail to any other domain is refused (550 5.7.1). "
           "`*.example.com` takes every subdomain. Required."),
    Option("proxy.max_message_size", v.POSITIVE_SIZE, '"50MB"', "Larger messages are refused (552 5.3.4)."),
    Option("proxy.workers", v.INTEGER, "1", "Processes that accept mail. This version supports 1."),
    Option("proxy.tls_cert", v.PATH, None, "Certificate chain (PEM): STARTTLS is offered when set. Read again on reload."),
    Option("proxy.tls_key", v.PATH, None, "Its private key (PEM)."),
    Option("proxy.smuggling", v.choice("refuse", "strict", "normalize"), '"refuse"', "Bare CR or LF in a message: `refuse` "
           "only those that imitate an end of data (554 5.6.11), `strict` refuses every one, `normalize` makes them CRLF."),
    Option("proxy.add_received", v.BOOLEAN, "false", "Put a Received header in front of what the handler gets. The copy in "
           "the quarantine stays as it was received."),
    Option("proxy.proxy_protocol_from", v.NETWORKS, "[]", "Load balancers whose PROXY protocol header (v1, v2) is required "
           "and believed."),
    Option("proxy.drain_timeout", v.DURATION, '"60s"', "How long a stop waits for running messages."),
    Option("proxy.limits.connections", v.INTEGER, "2000", "Connections at once."),
    Option("proxy.limits.connections_per_address", v.INTEGER, "50", "Connections at once from one IPv4 address or IPv6 /64; while unset, none for loopback."),
    Option("proxy.limits.rate_per_address", v.INTEGER, "300", "New connections a minute from one IPv4 address or IPv6 /64; while unset, none for loopback."),
    Option("proxy.limits.recipients", v.INTEGER, "1000", "Recipients of one message (452 4.5.3 beyond)."),
    Option("proxy.limits.messages_per_connection", v.INTEGER, "10000", "Messages in one connection (421 beyond)."),
    Option("proxy.limits.bytes_in_flight", v.POSITIVE_SIZE, '"256MiB"', "Message bytes held in memory by all connections (452 4.3.1 beyond)."),
    Option("proxy.limits.command_timeout", v.POSITIVE_DURATION, '"300s"', "Silence between commands before 421."),
    Option("proxy.limits.data_timeout", v.POSITIVE_DURATION, '"180s"', "Silence within a message before 421."),
    Option("proxy.limits.data_total_timeout", v.POSITIVE_DURATION, '"30m"', "The longest that one message may take to come in."),
    Option("proxy.limits.min_rate", v.SIZE, '"500B"', "Bytes a second that a message must average over a minute."),
    Option("proxy.limits.bad_commands", v.INTEGER, "10", "Bad commands before 421."),
    Option("proxy.limits.command_line", v.POSITIVE_SIZE, '"2KiB"', "The longest command line (500 5.5.2 beyond)."),
    Option("legacy.hosts", v.PEERS, None, "The legacy handler's addresses, in fail-over order. Required."),
    Option("legacy.deadline", v.DURATION, '"2s"', "How long a sender waits for the handler before the journal answers 250."),
    Option("legacy.on_tempfail", v.choice("spool", "pass"), '"spool"', "A 4xx of the handler: `spool` takes the message and "
           "retries, `pass` hands the 4xx to the sender."),
    Option("legacy.tls", v.choice("off", "may", "verify"), '"off"', "STARTTLS to the handler: never, if offered, or required "
           "with a certificate that verifies."),
    Option("legacy.client_address", v.choice("none", "xclient", "proxy"), '"none"', "How the handler learns the sender's "
           "address: not at all, by XCLIENT, or by a PROXY v2 header."),
    Option("legacy.user", v.TEXT, '""', "User for SMTP AUTH at the handler."),
    Option("legacy.password_file", v.PATH, None, "File that holds the password (its first line)."),
    Option("legacy.connections", v.INTEGER, "20", "Connections at once to each handler address."),
    Option("legacy.replay_connections", v.INTEGER, "5", "Of these, how many the spool may use."),
    Option("legacy.retry_min", v.POSITIVE_DURATION, '"1s"', "First pause before a spooled message is tried again."),
    Option("legacy.retry_max", v.POSITIVE_DURATION, '"5m"', "Longest pause. There is no end to the tries."),
    Option("legacy.connect_timeout", v.POSITIVE_DURATION, '"5s"', "For the TCP connection."),
    Option("legacy.greeting_timeout", v.POSITIVE_DURATION, '"30s"', "For greeting and EHLO."),
    Option("legacy.command_timeout", v.POSITIVE_DURATION, '"60s"', "For the replies to MAIL, RCPT and DATA."),
    Option("legacy.reply_timeout", v.POSITIVE_DURATION, '"600s"', "For the reply after the dot; it is awaited after the sender has "
           "been answered, so that a slow reply makes no duplicate."),
    Option("journal.dir", v.PATH, '"<state_dir>/journal"', "Where the journal is. A disk of its own is a good idea."),
    Option("journal.on_failure", v.choice("forward", "defer"), '"forward"', "When the journal cannot be written: `forward` "
           "goes on without a copy (counted, alarmed), `defer` answers 452."),
    Option("journal.reserve", v.SIZE, '"1GB"', "Disk space kept free for the journal: below it the filer waits, unless the journal's own backlog fills the disk."),
    Option("journal.max_backlog", v.POSITIVE_SIZE, '"50GB"', "The journal's largest size; `on_failure` applies beyond."),
    Option("journal.segment_size", v.POSITIVE_SIZE, '"64MiB"', "Size of one preallocated segment file."),
    Option("journal.copy_forward_after", v.POSITIVE_DURATION, '"1h"', "A message open for longer is copied forward, so that it pins "
           "no old segment."),
    Option("classifier.verp", v.VERPS, "[]", "Patterns of our return paths with one `{address}` or `{token}` place, e.g. "
           '`"bounce+{address}@bounces.example.com"`.'),
    Option("classifier.unsubscribe_addresses", v.TEXTS, "[]", 'Patterns of our unsubscribe addresses, e.g. `"unsub-*@example.com"`.'),
    Option("classifier.sent_domains", v.DOMAINS, "[]", "Domains that we send from: a returned copy from none of them is not ours."),
    Option("classifier.workers", v.COUNT_OR_AUTO, "0", "Processes that classify; 0: one less than there are CPUs, at most four."),
    Option("index.url", v.TEXT, '"sqlite:///<state_dir>/index.db"', "SQLAlchemy URL. This version supports SQLite."),
    Option("quarantine.backend", v.choice("embedded", "imap"), '"embedded"', "This version supports `embedded`."),
    Option("retention.default", v.DURATION, '"14d"', "For every folder without its own."),
    *(Option(f"retention.{folder_key(f)}", v.DURATION, f'"{_RETENTION[f]}"' if f in _RETENTION else None,
             f"For `{f}`." + ("" if f in _RETENTION else " Default: as `default`.")) for f in FOLDERS),
    Option("retention.expire_every", v.POSITIVE_DURATION, '"10m"', "How often expired messages are removed."),
    Option("imap.listen", v.ADDRESSES, '["127.0.0.1:1143"]', "Plain IMAP, with STARTTLS when a certificate is set; without one, "
           "nobody can log in on an address that is not loopback."),
    Option("imap.listen_tls", v.ADDRESSES, "[]", "IMAP over TLS from the first byte."),
    Option("imap.tls_cert", v.PATH, None, "Certificate chain (PEM)."),
    Option("imap.tls_key", v.PATH, None, "Its private key (PEM)."),
    Option("imap.connections", v.INTEGER, "500", "Connections at once."),
    Option("imap.connections_per_address", v.INTEGER, "50", "Connections at once from one address."),
    Option("imap.idle_timeout", v.POSITIVE_DURATION, '"30m"', "Silence before a session is ended."),
    Option("http.listen", v.OPTIONAL_ADDRESS, '"127.0.0.1:9025"', "Where `/metrics`, `/livez`, `/readyz` and `/status` are served, without a "
           "password: keep it on loopback or behind a firewall."),
    Option("log.format", v.choice("json", "console"), '"json"', "One JSON object a line, or colours for people."),
    Option("log.level", v.choice("debug", "info", "warning", "error"), '"info"', "The least that is written."),
    Option("log.redact", v.BOOLEAN, "true", "Write `a…@example.com` instead of whole addresses."),
)  # fmt: skip

BY_NAME = {option.name: option for option in OPTIONS}

RESERVED = {
    "stream": "flows with their own policy ([[stream]]) are reserved for a later version",
    "route": "outgoing routes ([[route]]) are reserved for a later version",
    "quarantine.imap": 'an external IMAP server (backend = "imap") is reserved for a later version',
}
