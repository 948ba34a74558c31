"""Verdicts compared: all of them but what line ends may change, the digest and the offsets of what was found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from classifier.verdict import Evidence, Verdict


def without_places(verdict: Verdict) -> Verdict:
    """The verdict without digest and offsets."""
    people = tuple(replace(person, evidence=_nowhere(person.evidence)) for person in verdict.recipients)
    return replace(verdict, sha256="", recipients=people, evidence=_nowhere(verdict.evidence))


def _nowhere(evidence: Iterable[Evidence]) -> tuple[Evidence, ...]:
    return tuple(replace(item, offset=-1) for item in evidence)


def places(verdict: Verdict) -> list[int]:
    """All offsets, in order."""
    found = [verdict.evidence, *(person.evidence for person in verdict.recipients)]
    return [item.offset for evidence in found for item in evidence]
