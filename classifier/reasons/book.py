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
from operator import attrgetter
from pathlib import Path

from classifier.rule import Rule, RuleError, load_rules
from classifier.rulebook import Hit, Rulebook, Scan
from classifier.spelling import folded
from classifier.verdict import Reason

RULES = Path(__file__).parent.parent / "rules" / "reasons"
_MARK = "mark"
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
    receiver_rules: tuple[Rule, ...]
    spoken: Rulebook  # the same, those that hold only where their receiver speaks as its group; and receivers' marks
    text_rules: Rulebook
    codes: dict[str, CodeDefault]
    hosts: dict[str, str]

    def receiver_hits(self, receiver: str | None, text: Scan) -> tuple[Hit, ...]:
        """The receiver rules found in a text of `receiver` (None: nobody we know)."""
        return self.spoken.find(text, -1, frozenset([receiver] if receiver else ())).hits

    def receiver_of_host(self, host: str | None) -> str | None:
        """The receiver's name whose relay `host` is ("dns; mx.example.com" and trailing dots allowed)."""
        labels = (host or "").lower().split(";")[-1].strip().split(" ")[0].strip("[]<>().").split(".")
        for first in range(max(0, len(labels) - 6), len(labels) - 1):
            name = self.hosts.get(".".join(labels[first:]))
            if name is not None:
                return name
        return None

    def receiver_of_text(self, text: Scan) -> str | None:
        """The receiver whose mark stands first in the text."""
        marks = self.spoken.find(text, self.spoken.topic(_MARK)).hits
        return min(marks, key=attrgetter("start")).rule.id if marks else None


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
    own = [rule for rule in receiver_rules if not rule.attributes.get("anywhere")]
    anywhere = [rule for rule in receiver_rules if rule.attributes.get("anywhere")]
    marks = [Rule(r.name, _MARK, r.marks, "", "") for r in receivers if r.marks]
    return Book(
        receivers=receivers,
        receiver_rules=tuple(receiver_rules),
        spoken=Rulebook(
            [*own, *anywhere, *marks], {rule.id: rule.attributes["receiver"] for rule in own}, [frozenset([_MARK])]
        ),
        text_rules=Rulebook(_check(text_rules, None)),
        codes=_read_codes(directory / "codes.toml"),
        hosts={host: r.name for r in receivers for host in r.hosts},
    )
