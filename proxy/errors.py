"""The two errors that the shell shows to an operator, each as one clear line."""

from __future__ import annotations


class StartError(Exception):
    """The proxy cannot start, and why: one line."""


class CommandError(Exception):
    """An operator command could not be obeyed, and why: one line."""
