"""What can go wrong in the journal, as exceptions that a caller can tell apart."""

from __future__ import annotations


class JournalError(Exception):
    """The journal cannot keep this record (disk full, I/O error, `reserve`, `max_backlog`, closed)."""


class UnknownVersionError(JournalError):
    """A segment was written by a version that this one does not understand: it is left untouched."""


class DamageError(JournalError):
    """Bytes that should be a segment header or a record are not."""
