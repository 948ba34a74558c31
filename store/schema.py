r"""The index: every table, named for years. What a message is, where its bytes lie, in which folders it shows.

SQLAlchemy Core only; `migrations/` brings a database to this state. Times are `_ns` (Unix, nanoseconds) or `_s`
(Unix, seconds). Message bytes are not here, nor whole verdicts: `messages` points to a frame in the segments of
`segments.py` that holds them.

    messages    one row per journal id (UNIQUE): the verdict, the envelope, the handler's reply, where the bytes lie
    recipients  one row per recipient of a verdict, for suppression queries
    entries     one row per (folder, UID): a message may show in several folders; it lives until the last goes
    folders     UIDVALIDITY, UIDNEXT, MODSEQ and the message count, each changed only under this row's lock
    expunged    UIDs that went, with the MODSEQ at which they went, so that sessions can be told
    accounts, account_flags   who may log in; whose `\Seen`, `\Answered`, `\Deleted` (a row only where one is set)
    segments    the files that hold message bytes
    stream_cursors            how far each journal stream is filed; committed with the rows it speaks of
    export_cursors            how far each named export came
    corrections               what analysts moved elsewhere: kept after the message has gone
    meta                      single facts (time of the last expiry pass)
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
metadata = MetaData(naming_convention=NAMING)

Big = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER makes a SQLite row id

meta = Table(
    "meta",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

segments = Table(
    "segments",
    metadata,
    Column("pk", Big, primary_key=True),
    Column("path", Text, nullable=False),  # relative to the quarantine directory
    Column("day", String(10), nullable=False),  # arrival day, UTC, YYYY-MM-DD
    Column("retention_class", String(64), nullable=False),
    Column("created_ns", BigInteger, nullable=False),
    Column("live_messages", BigInteger, nullable=False),  # rows of `messages` that point here
    Column("live_bytes", BigInteger, nullable=False),  # their frames
    Column("written_bytes", BigInteger, nullable=False),  # all frames ever committed
    UniqueConstraint("path"),
    sqlite_autoincrement=True,
)

messages = Table(
    "messages",
    metadata,
    Column("pk", Big, primary_key=True),
    Column("id", String(26), nullable=False),
    Column("received_ns", BigInteger, nullable=False),
    Column("filed_ns", BigInteger, nullable=False),
    Column("sha256", LargeBinary(32), nullable=False),  # of the original
    Column("size_bytes", BigInteger, nullable=False),  # of the original
    # where the bytes lie: one frame holds annotation, original and the verdict's JSON
    Column("segment_pk", Big, ForeignKey("segments.pk"), nullable=False),
    Column("frame_offset", BigInteger, nullable=False),
    Column("frame_bytes", BigInteger, nullable=False),
    Column("annotation_bytes", Integer, nullable=False),  # length of what stands before the original
    # the verdict
    Column("kind", String(32), nullable=False),
    Column("category", String(16), nullable=False),
    Column("reason", String(32)),  # of the recipient that decided the category
    Column("confidence", Float, nullable=False),
    Column("unparsable", Boolean, nullable=False),
    Column("opt_out", Boolean, nullable=False),
    # the envelope: decoded for people, and as received
    Column("envelope_from", Text),
    Column("envelope_to", Text, nullable=False),  # JSON array
    Column("mail_arg", LargeBinary, nullable=False),
    Column("rcpt_args", LargeBinary, nullable=False),  # one a line
    Column("peer", Text, nullable=False),
    Column("helo", Text, nullable=False),
    # what became of it at the handler
    Column("answered", SmallInteger),  # the reply code that the sender got; 0: recovered after a crash
    Column("fate", String(16), nullable=False),  # the worst of all recipients
    Column("legacy", Text, nullable=False),  # the handler's reply, or "pending"
    Column("outcomes", Text, nullable=False),  # JSON: {recipient index: [fate, code, text, host, at_ns]}
    # IMAP answers computed once, by store.imap.structure.describe()
    Column("imap_envelope", LargeBinary),
    Column("imap_bodystructure", LargeBinary),
    Column("header_bytes", Integer),  # of the shown message, with the blank line
    UniqueConstraint("id"),
    Index("ix_messages_segment_pk", "segment_pk"),
    Index("ix_messages_received_ns", "received_ns"),
    sqlite_autoincrement=True,  # export cursors rely on it: no pk is ever given twice
)

recipients = Table(
    "recipients",
    metadata,
    Column("message_pk", Big, ForeignKey("messages.pk", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("address", Text),
    Column("original", Text),
    Column("action", String(16)),
    Column("status", String(16)),
    Column("reply_code", SmallInteger),
    Column("reason", String(32)),
    Column("category", String(16)),
    Column("counts_against", String(16)),
    Column("final", Boolean),
    Column("confidence", Float, nullable=False),
    Index("ix_recipients_address", "address"),
    Index("ix_recipients_original", "original"),
    sqlite_with_rowid=False,
)

folders = Table(
    "folders",
    metadata,
    Column("pk", Integer, primary_key=True),
    Column("name", String(255), nullable=False),
    Column("uidvalidity", BigInteger, nullable=False),
    Column("uidnext", BigInteger, nullable=False),
    Column("modseq", BigInteger, nullable=False),
    Column("messages", BigInteger, nullable=False),
    Column("expunged_floor", BigInteger, nullable=False),  # `expunged` is complete for MODSEQs above this one
    UniqueConstraint("name"),
)

entries = Table(
    "entries",
    metadata,
    Column("folder_pk", Integer, ForeignKey("folders.pk"), primary_key=True),
    Column("uid", BigInteger, primary_key=True, autoincrement=False),
    Column("message_pk", Big, ForeignKey("messages.pk"), nullable=False),
    Column("received_s", BigInteger, nullable=False),  # INTERNALDATE, and what retention counts from
    Column("shown_bytes", BigInteger, nullable=False),  # RFC822.SIZE
    Column("modseq", BigInteger, nullable=False),
    Column("flagged", Boolean, nullable=False),
    Column("keywords", Text, nullable=False),  # sorted, separated by one space
    Index("ix_entries_message_pk", "message_pk"),
    Index("ix_entries_folder_pk_modseq", "folder_pk", "modseq"),
    Index(
        "ix_entries_expiry",
        "folder_pk",
        "received_s",
        sqlite_where=text("flagged = 0"),
        postgresql_where=text("NOT flagged"),
    ),
    sqlite_with_rowid=False,
)

expunged = Table(
    "expunged",
    metadata,
    Column("folder_pk", Integer, ForeignKey("folders.pk"), primary_key=True),
    Column("modseq", BigInteger, primary_key=True, autoincrement=False),
    Column("uid", BigInteger, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)

accounts = Table(
    "accounts",
    metadata,
    Column("pk", Integer, primary_key=True),
    Column("name", String(255), nullable=False),
    Column("role", String(16), nullable=False),
    Column("password", Text, nullable=False),  # scrypt$n$r$p$salt$hash
    Column("created_ns", BigInteger, nullable=False),
    UniqueConstraint("name"),
    sqlite_autoincrement=True,  # a removed account's flags never fall to a new one
)

account_flags = Table(
    "account_flags",
    metadata,
    Column("account_pk", Integer, ForeignKey("accounts.pk", ondelete="CASCADE"), primary_key=True),
    Column("folder_pk", Integer, ForeignKey("folders.pk"), primary_key=True),
    Column("uid", BigInteger, primary_key=True, autoincrement=False),
    Column("bits", SmallInteger, nullable=False),  # 1 \Seen, 2 \Answered, 4 \Deleted
    Column("modseq", BigInteger, nullable=False),
    Index("ix_account_flags_account_pk_folder_pk_modseq", "account_pk", "folder_pk", "modseq"),
    Index("ix_account_flags_folder_pk_uid", "folder_pk", "uid"),
    sqlite_with_rowid=False,
)

stream_cursors = Table(
    "stream_cursors",
    metadata,
    Column("stream", String(255), primary_key=True),
    Column("lsn", BigInteger, nullable=False),  # the earliest undecided entry, or where reading goes on
    Column("ahead", Text, nullable=False),  # JSON array: LSNs of entries past `lsn` that are dealt with
    Column("updated_ns", BigInteger, nullable=False),
)

export_cursors = Table(
    "export_cursors",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("message_pk", BigInteger, nullable=False),  # the last one exported
    Column("updated_ns", BigInteger, nullable=False),
)

corrections = Table(
    "corrections",
    metadata,
    Column("pk", Big, primary_key=True),
    Column("id", String(26), nullable=False),
    Column("at_ns", BigInteger, nullable=False),
    Column("account", String(255), nullable=False),
    Column("action", String(16), nullable=False),  # move | copy
    Column("from_folder", String(255), nullable=False),
    Column("to_folder", String(255), nullable=False),
    Column("kind", String(32), nullable=False),  # what the verdict had said
    Column("category", String(16), nullable=False),
    Column("reason", String(32)),
    Index("ix_corrections_id", "id"),
    sqlite_autoincrement=True,
)
