"""What the store's parts raise: to the shell, each with one clear line, and to the IMAP server."""

from __future__ import annotations


class StartError(Exception):
    """The part cannot start."""


class CommandError(Exception):
    """An operator's command cannot be carried out."""


class NoFolder(LookupError):
    """There is no folder of that name."""


class NotAllowed(Exception):
    """The quarantine does not do that; the text says why."""
