"""flufl.bounce as a second opinion: each detector alone, its exceptions caught, its addresses validated.

It is asked only about what a mail system seems to have written and our own readers could not read; what it says
alone is never `hard` (`classify` lowers the confidence and withholds the reason). Its patterns and the standard
library's parser take time that grows with the square of a line or a field and more: long ones are not shown to them.
"""

from __future__ import annotations

import email
import email.policy
import re
from functools import cache
from importlib import import_module
from typing import Any

from classifier import addresses
from classifier.mime import Message
from classifier.reports.model import Case, Report
from classifier.verdict import Evidence

MAX_BYTES = 64 * 1024
MAX_FIELD_BYTES = 2000  # of a line with those that continue it, be it a field or text
MAX_DELIMITERS = 100
_FIELD = re.compile(rb"[^\n]*(?:\n[ \t][^\n]*)*")
_NAMES = (
    "dsn", "exim", "sina", "yahoo", "yale", "smtp32", "postfix", "qmail", "groupwise", "microsoft", "caiwireless",
    "exchange", "netscape", "aol", "simplematch", "simplewarning", "llnl",
)  # fmt: skip


@cache
def _detectors() -> tuple[Any, ...]:
    found: list[Any] = []
    for name in _NAMES:
        try:
            module = import_module(f"flufl.bounce._detectors.{name}")
        except ImportError:  # another version without it: one opinion less
            continue
        kinds = [value for value in vars(module).values() if isinstance(value, type)]
        found += [kind for kind in kinds if kind.__module__ == module.__name__ and hasattr(kind, "process")]
    return tuple(found)


def ask(message: Message) -> Report | None:
    """Ask each detector; the first valid addresses make a report of confidence 0.6."""
    data = message.data[:MAX_BYTES]
    if data.count(b"\n--") > MAX_DELIMITERS or any(len(field) > MAX_FIELD_BYTES for field in _FIELD.findall(data)):
        return None
    try:
        parsed = email.message_from_bytes(data, policy=email.policy.compat32)
    except Exception:
        return None
    for detector in _detectors():
        try:
            temporary, permanent = detector().process(parsed)
            # Sorted, for sets have an order of their own in each process.
            people = [(a, "delayed") for a in sorted(temporary)] + [(a, "failed") for a in sorted(permanent)]
            cases = [
                Case(address=text, action=action)
                for raw, action in people[:1000]
                if addresses.valid(text := addresses.clean(bytes(raw).decode("utf-8", "replace")))
            ]
        except Exception:  # noqa: S112 one bad detector must not end the scan
            continue
        if cases:
            name = detector.__name__.lower()
            return Report(
                f"flufl.{name}", cases, 0.6, evidence=[Evidence(f"flufl.{name}", "", -1, cases[0].address or "")]
            )
    return None
