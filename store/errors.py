"""What the store's parts raise to the shell: each with one clear line."""

from __future__ import annotations


class StartError(Exception):
    """The part cannot start."""


class CommandError(Exception):
    """An operator's command cannot be carried out."""
