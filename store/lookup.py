"""One message by its id, wherever it is: in the quarantine, or still only in the journal."""

from __future__ import annotations

import json
import os
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from proxy.journal import audit
from proxy.journal.records import Fate, unstuffed
from store.export import described
from store.outcomes import Outcomes, from_json
from store.prepare import address
from store.quarantine import NotThere, Quarantine
from store.schema import entries, folders, messages


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of a message. `entries` are (folder, UID, flagged, keywords); none where it is not filed yet."""

    facts: dict[str, Any]
    mail_arg: bytes
    rcpt_args: tuple[bytes, ...]
    outcomes: Outcomes
    entries: list[tuple[str, int, bool, str]]

    @property
    def filed(self) -> bool:
        """Whether it is in the quarantine."""
        return bool(self.entries)


def find(quarantine: Quarantine, ident: str) -> Found:
    """Raises NotThere, OSError, SQLAlchemyError."""
    with quarantine.index.read() as connection:
        row = connection.execute(sa.select(messages).where(messages.c.id == ident)).one_or_none()
        if row is not None:
            (facts,) = described(connection, [row]).values()
            query = sa.select(folders.c.name, entries.c.uid, entries.c.flagged, entries.c.keywords)
            query = query.join_from(entries, folders).where(entries.c.message_pk == row.pk)
            shown = [(name, uid, held, words) for name, uid, held, words in connection.execute(query)]
            facts |= {"peer": row.peer, "helo": row.helo}
            rcpt_args = tuple(row.rcpt_args.split(b"\n")) if row.rcpt_args else ()
            return Found(facts, row.mail_arg, rcpt_args, from_json(row.outcomes, row.answered), shown)
    found = audit.find(quarantine.settings.journal_dir, ident)
    if found is None:
        raise NotThere(ident)
    entry, marks = found
    outcomes = Outcomes(len(entry.rcpt_args), refused=entry.refused)
    for mark in marks:
        outcomes = outcomes.after(mark)
    facts = {
        "id": entry.id,
        "received": datetime.fromtimestamp(entry.received_ns / 1e9, UTC).isoformat(timespec="milliseconds"),
        "size_bytes": len(unstuffed(entry.wire)),
        "peer": entry.peer,
        "helo": entry.helo.decode("utf-8", "backslashreplace"),
        "envelope_from": address(entry.mail_arg),
        "envelope_to": [address(argument) for argument in entry.rcpt_args],
        "answered": outcomes.answered,
        "fate": outcomes.fate,
        "legacy": outcomes.legacy,
    }
    return Found(facts, entry.mail_arg, entry.rcpt_args, outcomes, [])


def dead_letters(quarantine: Quarantine, most: int) -> list[dict[str, Any]]:
    """The latest `most` filed dead letters, oldest first, as the proxy tells its own. Raises SQLAlchemyError."""
    columns = (messages.c.id, messages.c.received_ns, messages.c.size_bytes, messages.c.legacy, messages.c.outcomes)
    query = sa.select(*columns).where(messages.c.fate == str(Fate.DEAD)).order_by(messages.c.pk.desc()).limit(most)
    with quarantine.index.read() as connection:
        rows = connection.execute(query).all()
    now_ns = time.time_ns()
    return [
        {
            "id": row.id,
            "age_s": round((now_ns - row.received_ns) / 1e9, 1),
            "size_bytes": row.size_bytes,
            "recipients": sum(len(t.rcpts) for t in from_json(row.outcomes, None).told if t.fate is Fate.DEAD),
            "state": "dead",
            "last_reply": row.legacy,
        }
        for row in reversed(rows)
    ]


def original(quarantine: Quarantine, ident: str) -> bytes:
    """The message as it was after dot-unstuffing. Raises NotThere, OSError, DamagedFrame, SQLAlchemyError."""
    try:
        return quarantine.original(ident)
    except NotThere:
        found = audit.find(quarantine.settings.journal_dir, ident)
        if found is None:
            raise
        return unstuffed(found[0].wire)


def verdict(quarantine: Quarantine, ident: str) -> dict[str, Any]:
    """The whole verdict of a filed message. Raises NotThere, OSError, DamagedFrame."""
    with quarantine.index.read() as connection:
        pk = connection.execute(sa.select(messages.c.pk).where(messages.c.id == ident)).scalar_one_or_none()
    if pk is None:
        raise NotThere(ident)
    parsed: dict[str, Any] = json.loads(quarantine.frame(pk).verdict)
    return parsed


def stuffed(message: bytes) -> bytes:
    """The inverse of `unstuffed` (RFC 5321 section 4.5.2), with a final CRLF, which a transfer needs."""
    wire = message.replace(b"\r\n.", b"\r\n..")
    if wire.startswith(b"."):
        wire = b"." + wire
    return wire if not wire or wire.endswith(b"\r\n") else wire + b"\r\n"


def wire_file(quarantine: Quarantine, ident: str) -> Path:
    """The message's wire bytes in a new private file, for the proxy to send again; the caller removes it."""
    wire = stuffed(original(quarantine, ident))
    run = quarantine.settings.state_dir / "run"
    run.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".resend-", dir=run)
    with os.fdopen(descriptor, "wb") as file:
        file.write(wire)
    return Path(name).absolute()
