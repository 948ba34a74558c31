r"""Patterns of many alternatives, looked for by RE2: at every place `re` tries one after the other, RE2 all at once.

That is ten times as fast and more where alternatives begin with different letters, above all regardless of case. What
it costs: no lookaround, no groups, and `\b`, `\w`, `\s` and `\d` know ASCII only.
"""

from __future__ import annotations

from typing import Any

import re2

_OPTIONS = re2.Options()
_OPTIONS.never_capture = True
_OPTIONS.case_sensitive = False


class Linear:
    """A pattern, case ignored. Raises re2.error for what RE2 does not know."""

    def __init__(self, pattern: str) -> None:
        self._regex: Any = re2.compile(pattern, _OPTIONS)

    def within(self, text: str) -> bool:
        """Tell whether it matches anywhere in a text."""
        return self._regex.search(text.encode("utf-8", "replace")) is not None

    def first(self, text: str) -> str:
        """Give the leftmost match; "" where there is none (or an empty one)."""
        found = self._regex.search(text.encode("utf-8", "replace"))
        return found.group().decode("utf-8", "replace") if found is not None else ""
