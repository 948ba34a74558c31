"""Is a report about a message of ours, and whom had we sent it to? Told by our return path's token and by the copy.

A token that fits a configured pattern proves it. So does a copy whose Message-ID, return path or DKIM signature bears
a domain of ours: we set those. From alone does not, since that is what forgers put our name into; a copy that bears no
domain of ours at all was never ours (backscatter).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from classifier import addresses
from classifier.context import Context
from classifier.mime import Headers
from classifier.verdict import Evidence

_SIGNED = ("message-id", "return-path", "sender")  # fields that only the sending system sets
_CLAIMED = ("from", "reply-to")
_DOMAIN = re.compile(r"@\[?([a-z0-9.-]{1,253})")
_SIGNER = re.compile(r"(?:^|;)\s{0,8}d\s{0,4}=\s{0,4}([a-z0-9.-]{1,253})")


@dataclass(frozen=True, slots=True)
class Origin:
    """What is known of the message that a report is about. `authentic`: True ours, False not ours, None unknown."""

    token: addresses.Token | None = None
    copy: Headers | None = None
    authentic: bool | None = None
    evidence: tuple[Evidence, ...] = ()

    @property
    def sent_to(self) -> str | None:
        """The address that our own return path carries."""
        return self.token.address if self.token else None

    @property
    def copied_to(self) -> str | None:
        """The one address in the copy's To, None where there are several or none."""
        people = [f.address for f in addresses.find((self.copy.get("to") or "")[:4000], 2)] if self.copy else []
        return people[0] if len(people) == 1 else None

    @property
    def message_id(self) -> str | None:
        """The copy's Message-ID."""
        return ((self.copy.get("message-id") or "").strip()[:998] or None) if self.copy else None


def origin(copy: Headers | None, context: Context) -> Origin:
    """Gather what the envelope and the returned copy (None where there is none) tell."""
    found = (addresses.return_path_token(to, context.patterns) for to in context.envelope_to)
    token = next((t for t in found if t), None)
    evidence: tuple[Evidence, ...] = (Evidence("envelope.token", "", -1, token.token[:200]),) if token else ()
    if token and token.pattern in context.patterns.verp:
        return Origin(token, copy, True, evidence)
    authentic = _is_ours(copy, context.patterns.sent_domains) if copy is not None else None
    if authentic is False and copy is not None:
        claimed = " ".join(filter(None, (copy.get(name) for name in (*_CLAIMED, *_SIGNED))))
        evidence += (Evidence("authentic.copy-not-ours", "", -1, claimed[:200]),)
    return Origin(token, copy, authentic, evidence)


def _is_ours(copy: Headers, sent_domains: tuple[str, ...]) -> bool | None:
    if not sent_domains:
        return None
    if any(_within(domain, sent_domains) for domain in _signed_domains(copy)):
        return True
    claimed = any(_within(domain, sent_domains) for domain in _domains(copy, _CLAIMED))
    return None if claimed else False


def _signed_domains(copy: Headers) -> Iterator[str]:
    yield from _domains(copy, _SIGNED)
    for value in copy.get_all("dkim-signature")[:10]:
        yield from _SIGNER.findall(value.lower())


def _domains(copy: Headers, names: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        yield from _DOMAIN.findall((copy.get(name) or "")[:4000].lower())


def _within(domain: str, ours: tuple[str, ...]) -> bool:
    return any(domain == o or domain.endswith("." + o) for o in (name.lower() for name in ours))
