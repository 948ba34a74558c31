"""What became of a message at the handler: the marks of the journal, boiled down, and kept up to date in the index.

A mark speaks of some recipients; the last one about a recipient wins, but nothing undoes a final fate: marks may be
read again after a crash, and in another order where a message went on in another stream.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from proxy.journal.records import FINAL, Fate, Mark
from store.entries import chunks, raise_counters
from store.folders import DEAD, FATE_KEYWORDS, REJECTED, SPOOLED, joined
from store.prepare import clean
from store.schema import entries, messages

PENDING = "pending"
REFUSED = "refused"  # by the smuggling policy: never offered to the handler
UNKNOWN = "unknown"  # salvaged: the index that knew it was lost
_WORST_FIRST = (Fate.DEAD, Fate.IN_DOUBT, Fate.OPEN, Fate.REJECTED, Fate.DROPPED, Fate.FORWARDED)
_KEYWORDS = {Fate.DEAD: DEAD, Fate.IN_DOUBT: SPOOLED, Fate.OPEN: SPOOLED, Fate.REJECTED: REJECTED}


@dataclass(frozen=True, slots=True)
class Told:
    """The last that was told about some recipients (indices of RCPTs)."""

    rcpts: tuple[int, ...]
    fate: Fate
    code: int
    text: str
    host: str
    at_ns: int


@dataclass(frozen=True, slots=True)
class Outcomes:
    """All that is known. `answered` is the code the sender got (0: none), None while undecided.

    `refused` is our own reply where the smuggling policy refused the message; `salvaged` is what `legacy` was when the
    message was first filed, of which a lost index knew more.
    """

    rcpts: int
    answered: int | None = None
    told: tuple[Told, ...] = ()
    refused: str = ""
    salvaged: str = ""

    def after(self, mark: Mark) -> Outcomes:
        """With one more mark."""
        answered = self.answered if mark.answered is None else mark.answered
        if mark.fate is None:
            return Outcomes(self.rcpts, answered, self.told, self.refused)
        final = {r for told in self.told if told.fate in FINAL for r in told.rcpts} if mark.fate not in FINAL else ()
        about = tuple(r for r in mark.rcpts if r < self.rcpts and r not in final)
        kept = []
        for told in self.told:
            left = tuple(r for r in told.rcpts if r not in set(about))
            if left:
                kept.append(Told(left, told.fate, told.code, told.text, told.host, told.at_ns))
        if about:
            kept.append(Told(about, mark.fate, mark.code, mark.text, mark.host, mark.at_ns))
        return Outcomes(self.rcpts, answered, tuple(kept), self.refused)

    @property
    def passed(self) -> bool:
        """The sender got a 4xx and keeps the message: it is not filed."""
        return self.answered is not None and 400 <= self.answered < 500

    @property
    def fates(self) -> frozenset[Fate]:
        """Those of all recipients."""
        known = {told.fate for told in self.told}
        if sum(len(told.rcpts) for told in self.told) < self.rcpts:
            known.add(Fate.REJECTED if self.answered is not None and self.answered >= 500 else Fate.OPEN)
        return frozenset(known)

    @property
    def fate(self) -> str:
        """The worst of all."""
        if self.refused:
            return REFUSED
        if self.salvaged:
            return UNKNOWN
        known = self.fates
        return next((str(fate) for fate in _WORST_FIRST if fate in known), str(Fate.OPEN))

    @property
    def legacy(self) -> str:
        """The handler's reply to the recipient that fared worst, or `pending`."""
        if self.refused:
            return f"refused by the tap: {self.refused}"
        if self.salvaged:
            return self.salvaged
        worst = self.fate
        if worst in (Fate.OPEN, Fate.IN_DOUBT):
            return PENDING
        told = next((t for t in self.told if t.fate == worst), None)
        if told is None:
            return str(self.answered)
        return f"{told.code} {told.text}".strip() if told.code else told.text or worst

    @property
    def keywords(self) -> frozenset[str]:
        """`$Spooled`, `$Rejected`, `$Dead`."""
        if self.refused:
            return frozenset({REJECTED})
        if self.salvaged:
            return frozenset()
        return frozenset(_KEYWORDS[fate] for fate in self.fates if fate in _KEYWORDS)

    def to_json(self) -> str:
        """For the index."""
        return json.dumps(
            {
                "rcpts": self.rcpts,
                "refused": self.refused,
                "salvaged": self.salvaged,
                "told": [[list(t.rcpts), t.fate, t.code, t.text, t.host, t.at_ns] for t in self.told],
            },
            separators=(",", ":"),
        )


def from_json(text: str, answered: int | None) -> Outcomes:
    """The inverse of `Outcomes.to_json`."""
    data = json.loads(text)
    told = tuple(Told(tuple(r), Fate(fate), code, words, host, at) for r, fate, code, words, host, at in data["told"])
    return Outcomes(data["rcpts"], answered, told, data["refused"], data.get("salvaged", ""))


def update(connection: Connection, marks: Iterable[Mark]) -> int:
    """Bring filed messages up to date; returns how many changed. Marks about others are passed over."""
    by_id: dict[str, list[Mark]] = {}
    for mark in marks:
        by_id.setdefault(mark.id, []).append(mark)
    changed = 0
    keywords: dict[int, frozenset[str]] = {}
    for piece in chunks(sorted(by_id)):
        query = sa.select(messages.c.pk, messages.c.id, messages.c.answered, messages.c.outcomes)
        for pk, ident, answered, text in connection.execute(query.where(messages.c.id.in_(piece))).all():
            before = after = from_json(text, answered)
            for mark in by_id[ident]:
                after = after.after(mark)
            if after == before:
                continue
            values = {"fate": after.fate, "legacy": clean(after.legacy), "outcomes": after.to_json()}
            connection.execute(sa.update(messages).where(messages.c.pk == pk).values(answered=after.answered, **values))
            changed += 1
            if after.keywords != before.keywords:
                keywords[pk] = after.keywords
    _set_keywords(connection, keywords)
    return changed


def _set_keywords(connection: Connection, keywords: Mapping[int, frozenset[str]]) -> None:
    by_folder: dict[int, list[tuple[int, str]]] = {}
    for piece in chunks(sorted(keywords)):
        query = sa.select(entries.c.folder_pk, entries.c.uid, entries.c.message_pk, entries.c.keywords)
        for folder_pk, uid, pk, old in connection.execute(query.where(entries.c.message_pk.in_(piece))).all():
            new = joined({w for w in old.split() if w not in FATE_KEYWORDS} | keywords[pk])
            if new != old:
                by_folder.setdefault(folder_pk, []).append((uid, new))
    for folder_pk, changes in sorted(by_folder.items()):
        _, modseq = raise_counters(connection, folder_pk)
        for uid, new in changes:
            one = sa.and_(entries.c.folder_pk == folder_pk, entries.c.uid == uid)
            connection.execute(sa.update(entries).where(one).values(keywords=new, modseq=modseq))
