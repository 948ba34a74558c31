"""Where messages are in truth: a row of the index is believed if its segment has a row and a file as well.

After an index was rescued in part, or restored from before some bytes were carried over, rows may point to what is not
there; what holds the same message elsewhere must not be thrown away because of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from store.entries import chunks
from store.schema import entries, messages, segments


@dataclass(frozen=True, slots=True)
class Located:
    """A message's row: `there` tells whether the file that it points to exists, `shown` whether a folder shows it."""

    pk: int
    sha256: bytes
    there: bool
    shown: bool


def located(connection: Connection, directory: Path, idents: Iterable[str]) -> dict[str, Located]:
    """The rows of messages by journal id; who has none is missing."""
    m, found, files = messages.c, {}, {}
    shown = sa.exists().where(entries.c.message_pk == m.pk)
    query = sa.select(m.id, m.pk, m.sha256, segments.c.path, shown).select_from(
        sa.outerjoin(messages, segments, m.segment_pk == segments.c.pk)
    )
    for piece in chunks(idents):
        for ident, pk, sha256, path, is_shown in connection.execute(query.where(m.id.in_(piece))):
            if path not in files:
                files[path] = path is not None and (directory / path).is_file()
            found[ident] = Located(pk, sha256, files[path], bool(is_shown))
    return found
