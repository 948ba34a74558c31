"""What the classifier may know beyond the bytes: the envelope and the operator's own patterns.

All of it is plain data handed in by the caller, so that `classify()` stays a pure function.
"""

from __future__ import annotations

from dataclasses import dataclass


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


NO_CONTEXT = Context()
