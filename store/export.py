"""Verdicts for other systems: page by page in the order of filing, from where a named cursor stopped.

A page's rows are complete objects; the caller moves the cursor once it has passed them on, so that each verdict is
exported at least once, and once only where nothing breaks.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from store.entries import chunks
from store.quarantine import Quarantine
from store.schema import entries, export_cursors, folders, messages, recipients
from store.settings import StoreSettings

PAGE_ROWS = 500
CSV_COLUMNS = (
    *("id", "received", "sha256", "kind", "category", "reason", "confidence", "folder", "fate", "opt_out"),
    *("envelope_from", "envelope_to", "address", "original", "action", "status", "reply_code", "recipient_reason"),
    *("recipient_category", "counts_against", "final"),
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_PEOPLE = (
    *("address", "original", "action", "status", "reply_code", "reason", "category", "counts_against", "final"),
    "confidence",
)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which messages: of these kinds and categories (all if empty), received at `since_ns` (Unix) or later."""

    kinds: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    since_ns: int = 0


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows; `last_pk` is where a cursor stands once they have been passed on."""

    rows: list[dict[str, Any]]
    last_pk: int


def pages(quarantine: Quarantine, selection: Selection, after_pk: int = 0, *, full: bool = False) -> Iterator[Page]:
    """Messages filed after `after_pk`: `full` with the whole verdict, else with what the index holds.

    Raises SQLAlchemyError; with `full` OSError, DamagedFrame.
    """
    while True:
        with quarantine.index.read() as connection:
            rows = _page(connection, selection, after_pk)
        if not rows:
            return
        after_pk = max(rows)
        if full:
            for pk, frame in quarantine.frames(rows):
                rows[pk] = {**json.loads(frame.verdict), **_without_people(rows[pk])}
        yield Page(list(rows.values()), after_pk)


def verdicts(settings: StoreSettings) -> Iterator[dict[str, Any]]:
    """What the index holds of every message, oldest first."""
    quarantine = Quarantine.open(settings)
    try:
        for page in pages(quarantine, Selection()):
            yield from page.rows
    finally:
        quarantine.close()


def _harmless(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula: text that begins like one gets an apostrophe in front."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def flat(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A row as lines of a CSV file: one a recipient, at least one. Cells are `_harmless`; JSON lines are exact."""
    for person in row["recipients"] or [{}]:
        cells = {
            **{column: row.get(column) for column in CSV_COLUMNS},
            **{name: person.get(name) for name in ("address", "original", "action", "status", "reply_code")},
            "recipient_reason": person.get("reason"),
            "recipient_category": person.get("category"),
            "counts_against": person.get("counts_against"),
            "final": person.get("final"),
            "envelope_to": " ".join(row["envelope_to"]),
        }
        yield {name: _harmless(value) for name, value in cells.items()}


def cursor(quarantine: Quarantine, name: str) -> int:
    """Where a named export stands; 0 at first."""
    with quarantine.index.read() as connection:
        query = sa.select(export_cursors.c.message_pk).where(export_cursors.c.name == name)
        return int(connection.execute(query).scalar_one_or_none() or 0)


def move_cursor(quarantine: Quarantine, name: str, message_pk: int) -> None:
    """All up to `message_pk` has been passed on."""
    values = {"message_pk": message_pk, "updated_ns": time.time_ns()}
    with quarantine.index.write() as connection:
        this = export_cursors.c.name == name
        if not connection.execute(sa.update(export_cursors).where(this).values(values)).rowcount:
            connection.execute(sa.insert(export_cursors).values(name=name, **values))


def _page(connection: Connection, selection: Selection, after_pk: int) -> dict[int, dict[str, Any]]:
    m = messages.c
    query = sa.select(messages).where(m.pk > after_pk, m.received_ns >= selection.since_ns)
    if selection.kinds:
        query = query.where(m.kind.in_(selection.kinds))
    if selection.categories:
        query = query.where(m.category.in_(selection.categories))
    found = connection.execute(query.order_by(m.pk).limit(PAGE_ROWS)).all()
    return described(connection, list(found))


def described(connection: Connection, found: list[Any]) -> dict[int, dict[str, Any]]:
    """Rows of `messages` as objects, with recipients and folders, by pk."""
    rows = {message.pk: _row(message) for message in found}
    for piece in chunks(rows):
        people = sa.select(recipients).where(recipients.c.message_pk.in_(piece))
        for person in connection.execute(people.order_by(recipients.c.message_pk, recipients.c.position)):
            rows[person.message_pk]["recipients"].append({name: getattr(person, name) for name in _PEOPLE})
        where = sa.select(entries.c.message_pk, folders.c.name).join_from(entries, folders)
        for pk, folder in connection.execute(where.where(entries.c.message_pk.in_(piece))):
            rows[pk]["folders"].append(folder)
    for row in rows.values():
        row["folder"] = min(row["folders"], default=None)
    return rows


def _row(message: Any) -> dict[str, Any]:
    return {
        "id": message.id,
        "received": datetime.fromtimestamp(message.received_ns / 1e9, UTC).isoformat(timespec="milliseconds"),
        "sha256": message.sha256.hex(),
        "size_bytes": message.size_bytes,
        "kind": message.kind,
        "category": message.category,
        "reason": message.reason,
        "confidence": message.confidence,
        "unparsable": message.unparsable,
        "opt_out": message.opt_out,
        "envelope_from": message.envelope_from,
        "envelope_to": json.loads(message.envelope_to),
        "answered": message.answered,
        "fate": message.fate,
        "legacy": message.legacy,
        "folder": None,
        "folders": [],
        "recipients": [],
    }


def _without_people(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "recipients"}
