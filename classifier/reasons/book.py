"""The data behind `explain()`, read once: receivers, their rules, general rules, the code table.

Files in `classifier/rules/reasons/`: `receiver_*.toml` (`[[receiver]]`: `name`, `title`, `hosts` = domain suffixes of
its relays, `marks` = patterns that only its texts contain; `[[rule]]` with `receiver`), `text_*.toml` (general rules)
and `codes.toml` (the default of each enhanced status code and reply code).

Keys that a rule may have beyond the engine's: `receiver` (only where that receiver speaks, unless `anywhere = true`),
`status`, `reply`, `stage` (lists; the rule needs one of them: "5.7.1", 550, "rcpt"), `confidence`.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import re2

from classifier.rule import Rule, RuleError, load_rules
from classifier.rulebook import Hit, Rulebook
from classifier.spelling import folded
from classifier.verdict import Reason

RULES = Path(__file__).parent.parent / "rules" / "reasons"
_NEVER = r"[^\x00-\x{10FFFF}]"
_EXTRA_KEYS = frozenset({"receiver", "anywhere", "status", "reply", "stage", "confidence"})


@dataclass(frozen=True, slots=True)
class Receiver:
    """A mail service whose replies we know. `hosts` are suffixes of its relays' names, without a leading dot."""

    name: str
    title: str
    hosts: tuple[str, ...]
    marks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CodeDefault:
    """What a code alone means. `telling`: enough to outweigh a vague text (a plain 5.2.2 is a full mailbox)."""

    code: str
    reason: Reason
    confidence: float
    telling: bool
    meaning: str


@dataclass(frozen=True, slots=True)
class Book:
    """All rules. Receivers' rules look at folded texts, general rules at masked ones."""

    receivers: tuple[Receiver, ...]
    receiver_rules: Rulebook
    text_rules: Rulebook
    codes: dict[str, CodeDefault]
    hosts: dict[str, str]
    any_mark: Any  # a compiled RE2 without groups: far quicker where there is nothing to find
    marks: Any  # the same with one group a receiver
    anywhere: Rulebook  # those receiver rules that hold whoever speaks
    own: dict[str, Rulebook]  # by receiver: those that hold only where it speaks

    def receiver_hits(self, receiver: str | None, folded: str) -> tuple[Hit, ...]:
        """The receiver rules found in a text of `receiver` (None: nobody we know)."""
        own = self.own.get(receiver or "")
        return (own.search(folded) if own else ()) + self.anywhere.search(folded)

    def receiver_of_host(self, host: str | None) -> str | None:
        """The receiver's name whose relay `host` is ("dns; mx.example.com" and trailing dots allowed)."""
        labels = (host or "").lower().split(";")[-1].strip().split(" ")[0].strip("[]<>().").split(".")
        for first in range(max(0, len(labels) - 6), len(labels) - 1):
            name = self.hosts.get(".".join(labels[first:]))
            if name is not None:
                return name
        return None

    def receiver_of_text(self, folded: str) -> str | None:
        """The receiver whose mark stands first in the text."""
        data = folded.encode("utf-8", "replace")
        if not data or self.any_mark.search(data) is None:
            return None
        found = self.marks.search(data)
        return self.receivers[found.lastindex - 1].name if found else None


def _read_receivers(files: list[Path]) -> tuple[Receiver, ...]:
    tables = [t for f in files for t in tomllib.loads(f.read_text(encoding="utf-8")).get("receiver", [])]
    return tuple(Receiver(t["name"], t["title"], tuple(t["hosts"]), tuple(t.get("marks", ()))) for t in tables)


def _read_codes(path: Path) -> dict[str, CodeDefault]:
    tables = tomllib.loads(path.read_text(encoding="utf-8"))["codes"]
    return {
        code: CodeDefault(code, Reason(t["reason"]), t["confidence"], t.get("telling", False), t["meaning"])
        for code, t in tables.items()
    }


def _check(rules: list[Rule], receivers: set[str] | None) -> list[Rule]:
    for rule in rules:
        unknown = rule.attributes.keys() - _EXTRA_KEYS
        if unknown:
            raise RuleError(f"rule {rule.id}: unknown keys {sorted(unknown)}")
        if rule.label not in set(Reason):
            raise RuleError(f"rule {rule.id}: no such reason: {rule.label}")
        if receivers is not None and rule.attributes.get("receiver") not in receivers:
            raise RuleError(f"rule {rule.id}: no such receiver: {rule.attributes.get('receiver')}")
    return rules


@cache
def load_book(directory: Path = RULES) -> Book:
    """Read every rule file; raises RuleError naming the file or rule that is wrong."""
    receiver_files = sorted(directory.glob("receiver_*.toml"))
    receivers = _read_receivers(receiver_files)
    names = {r.name for r in receivers}
    receiver_rules = _check([folded(rule) for f in receiver_files for rule in load_rules(f, "reason")], names)
    text_rules = [folded(rule) for f in sorted(directory.glob("text_*.toml")) for rule in load_rules(f, "reason")]
    own = {
        n: [r for r in receiver_rules if r.attributes["receiver"] == n and not r.attributes.get("anywhere")]
        for n in names
    }
    return Book(
        receivers=receivers,
        receiver_rules=Rulebook(receiver_rules),
        text_rules=Rulebook(_check(text_rules, None)),
        codes=_read_codes(directory / "codes.toml"),
        hosts={host: r.name for r in receivers for host in r.hosts},
        any_mark=re2.compile("|".join(m for r in receivers for m in r.marks) or _NEVER),
        marks=re2.compile("|".join(f"({'|'.join(r.marks) or _NEVER})" for r in receivers)),
        anywhere=Rulebook(r for r in receiver_rules if r.attributes.get("anywhere")),
        own={name: Rulebook(rules) for name, rules in own.items()},
    )
