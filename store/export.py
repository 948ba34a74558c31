"""Verdicts and analysts' corrections for other systems: page by page in their order, from where a named cursor stopped.

The caller moves the cursor once it has passed a page on: each row is exported at least once, and once only where
nothing breaks. Who must know it exactly keeps the `position` of the last row it has taken and asks for what is after.

A verdict is exported as it is then: what the handler says later is in `bouncetap message`, and what an analyst says
later is a correction, which outlives its message.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection

from store.entries import chunks
from store.quarantine import NotThere, Quarantine
from store.schema import corrections, entries, export_cursors, folders, messages, recipients
from store.segments import DamagedFrame
from store.settings import StoreSettings

log = structlog.get_logger("export")

PAGE_ROWS = 500
CSV_COLUMNS = (
    *("id", "received", "sha256", "kind", "category", "reason", "confidence", "folder", "fate", "opt_out"),
    *("envelope_from", "envelope_to", "address", "original", "action", "status", "reply_code", "recipient_reason"),
    *("recipient_category", "counts_against", "final", "position"),
)
CORRECTION_COLUMNS = ("id", "at", "account", "action", "from", "to", "kind", "category", "reason", "position")
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
    """Some rows, maybe none; `last_pk` is where a cursor stands once they have been passed on."""

    rows: list[dict[str, Any]]
    last_pk: int


def pages(quarantine: Quarantine, selection: Selection, after_pk: int = 0, *, full: bool = False) -> Iterator[Page]:
    """Messages filed after `after_pk`: `full` with the whole verdict, else, or if it is damaged, as the index has it.

    Raises SQLAlchemyError.
    """
    m = messages.c
    query = sa.select(messages).where(m.received_ns >= selection.since_ns)
    if selection.kinds:
        query = query.where(m.kind.in_(selection.kinds))
    if selection.categories:
        query = query.where(m.category.in_(selection.categories))
    while True:
        with quarantine.index.read() as connection:
            found, last_pk = _after(connection, query, m.pk, after_pk)
            rows = described(connection, found)
        if last_pk == after_pk:
            return
        if full:
            for pk, verdict in _verdicts(quarantine, rows):
                rows[pk] = {**verdict, **_without_people(rows[pk])}
        yield Page(list(rows.values()), last_pk)
        after_pk = last_pk


def _verdicts(quarantine: Quarantine, pks: Iterable[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Whole verdicts, of those messages that can be read: a damaged one must not end all exports."""
    for pk in pks:
        try:
            yield pk, json.loads(quarantine.frame(pk).verdict)
        except (NotThere, OSError, DamagedFrame) as error:
            log.warning("verdict_unreadable", position=pk, error=type(error).__name__)


def correction_pages(
    quarantine: Quarantine, selection: Selection, after_pk: int = 0, *, full: bool = False
) -> Iterator[Page]:
    """Corrections made after `after_pk` and since `since_ns`, of verdicts of these kinds and categories.

    They are whole in any case (`full`).
    Raises SQLAlchemyError.
    """
    c = corrections.c
    query = sa.select(corrections).where(c.at_ns >= selection.since_ns)
    if selection.kinds:
        query = query.where(c.kind.in_(selection.kinds))
    if selection.categories:
        query = query.where(c.category.in_(selection.categories))
    while True:
        with quarantine.index.read() as connection:
            found, last_pk = _after(connection, query, c.pk, after_pk)
        if last_pk == after_pk:
            return
        yield Page([_correction(row) for row in found], last_pk)
        after_pk = last_pk


def verdicts(settings: StoreSettings) -> Iterator[dict[str, Any]]:
    """What the index holds of every message, oldest first."""
    quarantine = Quarantine.open(settings)
    try:
        for page in pages(quarantine, Selection()):
            yield from page.rows
    finally:
        quarantine.close()


def whole(
    settings: StoreSettings, selection: Selection, wanted: Callable[[dict[str, Any]], bool]
) -> Iterator[dict[str, Any]]:
    """The whole verdicts, with `id`, of those messages whose index row is wanted, oldest first."""
    quarantine = Quarantine.open(settings)
    try:
        for page in pages(quarantine, selection):
            rows = {row["position"]: row for row in page.rows if wanted(row)}
            for pk, verdict in _verdicts(quarantine, rows):
                yield {**verdict, "id": rows[pk]["id"]}
    finally:
        quarantine.close()


def _harmless(value: Any) -> Any:
    """A cell that steers neither a spreadsheet nor a terminal.

    Text that begins like a formula gets an apostrophe in front; unprintable characters become U+FFFD. Truth is told as
    in JSON.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return value
    value = "".join(c if c.isprintable() or c in "\t\r\n" else "\ufffd" for c in value)
    return f"'{value}" if value.startswith(_FORMULA) else value


def flat_correction(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A correction as the one line of a CSV file that it takes."""
    yield {name: _harmless(value) for name, value in row.items()}


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


def _after(connection: Connection, query: sa.Select[Any], pk: sa.Column[Any], after_pk: int) -> tuple[list[Any], int]:
    """A page of rows past `after_pk`, and up to where all rows have been looked at: those not wanted count too."""
    found = list(connection.execute(query.where(pk > after_pk).order_by(pk).limit(PAGE_ROWS)))
    if len(found) == PAGE_ROWS:
        return found, found[-1].pk
    last_pk = connection.execute(sa.select(sa.func.max(pk))).scalar_one_or_none()
    return found, max(last_pk or 0, after_pk)


def _correction(row: Any) -> dict[str, Any]:
    return {
        "id": row.id,
        "at": _iso(row.at_ns),
        "account": row.account,
        "action": row.action,
        "from": row.from_folder,
        "to": row.to_folder,
        "kind": row.kind,
        "category": row.category,
        "reason": row.reason,
        "position": row.pk,
    }


def _iso(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns / 1e9, UTC).isoformat(timespec="milliseconds")


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
        "received": _iso(message.received_ns),
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
        "position": message.pk,
    }


def _without_people(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "recipients"}


@dataclass(frozen=True, slots=True)
class Exported:
    """One of the two things that are exported: its pages, and how it looks as lines of a CSV file."""

    columns: tuple[str, ...]
    pages: Callable[..., Iterator[Page]]
    lines: Callable[[dict[str, Any]], Iterator[dict[str, Any]]]
    prefix: str = ""

    def cursor_name(self, name: str) -> str:
        """The cursor's name in the index: positions of one sequence mean nothing in the other."""
        return self.prefix + name


VERDICTS = Exported(CSV_COLUMNS, pages, flat)
CORRECTIONS = Exported(CORRECTION_COLUMNS, correction_pages, flat_correction, "corrections:")
