"""What the classifier may know beyond the bytes: the envelope and the operator's own patterns.

All of it is plain data handed in by the caller, so that `classify()` stays a pure function.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


def _texts(value: object, name: str) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"{name} are texts, in a tuple: {value!r}")
    return tuple(value)


@dataclass(frozen=True, slots=True)
class Patterns:
    """`[classifier]` of the configuration: how our own return paths and unsubscribe addresses look.

    `verp` are patterns with one `{address}` or `{token}` place, e.g. `bounce+{address}@bounces.example.com`
    (where `{address}` has `=` for `@`); `unsubscribe_addresses` are globs; `sent_domains` are the domains that
    we send from (a returned copy from none of them is not ours).
    """

    verp: tuple[str, ...] = ()
    unsubscribe_addresses: tuple[str, ...] = ()
    sent_domains: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Take lists as well; raises TypeError for a lone text, whose letters would be taken for patterns."""
        for name in ("verp", "unsubscribe_addresses", "sent_domains"):
            object.__setattr__(self, name, _texts(getattr(self, name), name))


@dataclass(frozen=True, slots=True)
class Context:
    """One message's surroundings. `envelope_from` is None where unknown, "" for the null reverse-path.

    `received_year` (e.g. 2026) completes dates such as "back on 7 December" in auto-replies; the message's own
    Date is preferred.
    """

    envelope_from: str | None = None
    envelope_to: tuple[str, ...] = ()
    patterns: Patterns = Patterns()
    received_year: int | None = None

    def __post_init__(self) -> None:
        """Take a list of recipients as well; raises TypeError for a lone text."""
        object.__setattr__(self, "envelope_to", _texts(self.envelope_to, "envelope_to"))


NO_CONTEXT = Context()
