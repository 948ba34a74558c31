"""The quarantine, for whoever reads it: the exact original of a message, and where it is now.

`Quarantine.open` brings the index up to date and makes sure of the folders; any number of processes may hold one. Only
the filer writes message bytes (`filing.py`); what analysts change goes through `mailboxes.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from store import segments as files
from store.entries import chunks
from store.index import Index, IndexUnusable
from store.migrations import upgrade_index
from store.schema import messages, segments
from store.segments import DamagedFrame, Frame, Place
from store.settings import StoreSettings
from store.uidvalidity import ensure_folders

_TRIES = 5  # a message is carried to another segment at most once in many days


class NotThere(LookupError):
    """No such message in the quarantine (any more)."""


def quarantine_dir(settings: StoreSettings) -> Path:
    """Where the segments are."""
    return settings.state_dir / "quarantine"


class Quarantine:
    """An open quarantine. Thread-safe."""

    def __init__(self, settings: StoreSettings, index: Index) -> None:
        self.settings = settings
        self.index = index
        self.directory = quarantine_dir(settings)

    @classmethod
    def open(cls, settings: StoreSettings) -> Quarantine:
        """Create it if need be. Raises IndexUnusable, OSError."""
        settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        index = Index(settings.index_url)
        try:
            upgrade_index(index)
            ensure_folders(index, settings.state_dir)
        except SQLAlchemyError as error:
            index.close()
            # SQLAlchemy's own text has several lines.
            raise IndexUnusable(f"index {index.engine.url}: {getattr(error, 'orig', None) or error}") from error
        except BaseException:
            index.close()
            raise
        return cls(settings, index)

    def close(self) -> None:
        """Gives the index's connections back."""
        self.index.close()

    def original(self, ident: str) -> bytes:
        """The message as it was after dot-unstuffing. Raises NotThere; DamagedFrame where its SHA-256 is wrong."""
        m = messages.c
        query = sa.select(m.sha256, segments.c.path, m.frame_offset, m.frame_bytes).join_from(messages, segments)
        for last in (*(False,) * (_TRIES - 1), True):
            with self.index.read() as connection:
                row = connection.execute(query.where(m.id == ident)).one_or_none()
            if row is None:
                raise NotThere(ident)
            sha256, *place = row
            try:
                original = files.read(self.directory, Place(*place)).original
            except FileNotFoundError:  # expired, or carried to another segment
                if last:
                    raise
                continue
            if hashlib.sha256(original).digest() != sha256:
                raise DamagedFrame(f"{ident}: its SHA-256 does not fit")
            return original
        raise AssertionError("not reached")

    def frame(self, message_pk: int) -> Frame:
        """A message's frame. Raises NotThere, OSError, DamagedFrame."""
        for _, frame in self.frames([message_pk]):
            return frame
        raise NotThere(str(message_pk))

    def frames(self, message_pks: Iterable[int]) -> Iterator[tuple[int, Frame]]:
        """(pk, frame) of those that are there, one in memory at a time, in the order in which they lie on disk.

        Raises OSError, DamagedFrame.
        """
        for piece in chunks(message_pks):
            missing = piece
            for _ in range(_TRIES):
                places = self._places(missing)
                missing = []
                for pk, place in sorted(places.items(), key=lambda item: (item[1].path, item[1].offset)):
                    try:
                        yield pk, files.read(self.directory, place)
                    except FileNotFoundError:  # expired, or carried to another segment
                        missing.append(pk)
                if not missing:
                    break
            else:
                raise FileNotFoundError(f"the segments of {len(missing)} messages are missing")

    def _places(self, message_pks: list[int]) -> dict[int, Place]:
        m = messages.c
        query = sa.select(m.pk, segments.c.path, m.frame_offset, m.frame_bytes).join_from(messages, segments)
        with self.index.read() as connection:
            rows = connection.execute(query.where(m.pk.in_(message_pks))).all()
        return {pk: Place(path, offset, size) for pk, path, offset, size in rows}
