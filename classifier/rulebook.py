"""The rule engine: phrases as data (TOML), all looked for in one linear pass over a text.

A rule file holds `[[rule]]` tables: `id` (stable, dotted), a label (what the rule says, e.g. `reason`), `patterns`
(RE2 syntax, matched anywhere), an `example` that must match and a `counter_example` that must not, and optionally
`unless` (patterns that withdraw the rule), `rank` (0..100, higher is more specific) and whatever else the reader of
the book understands (kept in `attributes`). A `[words]` table names alternatives that patterns use as `<name>`.

The patterns' required literals go into one automaton (FilteredRE2): a pass over the text tells which few patterns
can match at all, and only those are run. RE2 has no backtracking, so no text and no rule can take more than linear
time. Texts must be lower-cased by the caller; patterns are written in lower case.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import re2

DEFAULT_RANK = 50
SHARD = 500  # patterns to an automaton: beyond that RE2's cache of 8 MB overflows, and it is built again and again
_OWN_KEYS = frozenset({"id", "patterns", "unless", "rank", "example", "counter_example"})
# Hits of so many short texts are remembered, then forgotten all at once (2 MB a book at most).
_REMEMBERED, _REMEMBERED_LENGTH = 4096, 400


class RuleError(ValueError):
    """A rule file that cannot be used; the message names the file and the rule."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule as written. `label` is what it concludes; `attributes` holds the keys that the engine ignores."""

    id: str
    label: str
    patterns: tuple[str, ...]
    example: str
    counter_example: str
    unless: tuple[str, ...] = ()
    rank: int = DEFAULT_RANK
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hit:
    """A rule found in a text: where its leftmost match begins and ends (character offsets), and what it says."""

    rule: Rule
    start: int
    end: int
    text: str


def load_rules(path: Path, label_key: str) -> list[Rule]:
    """Read the `[[rule]]` tables of one file; raises RuleError for a table that lacks or mistypes a key."""
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    words = {f"<{name}>": f"(?:{alternatives})" for name, alternatives in content.get("words", {}).items()}
    rules = []
    for table in content.get("rule", []):
        where = f"{path.name}: rule {table.get('id', '?')}"
        missing = {"id", label_key, "patterns", "example", "counter_example"} - table.keys()
        if missing:
            raise RuleError(f"{where}: missing {', '.join(sorted(missing))}")
        rules.append(
            Rule(
                id=table["id"],
                label=table[label_key],
                patterns=tuple(_spell_out(p, words) for p in table["patterns"]),
                example=table["example"],
                counter_example=table["counter_example"],
                unless=tuple(_spell_out(p, words) for p in table.get("unless", ())),
                rank=table.get("rank", DEFAULT_RANK),
                attributes={k: v for k, v in table.items() if k not in _OWN_KEYS and k != label_key},
            )
        )
    return rules


def _spell_out(pattern: str, words: Mapping[str, str]) -> str:
    for name, alternatives in words.items():
        pattern = pattern.replace(name, alternatives)
    return pattern


class Rulebook:
    """Rules compiled together. Immutable once built, safe to share between threads."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        """Compile; raises RuleError for a doubled id or a pattern that RE2 refuses."""
        self.rules = tuple(rules)
        ids = [rule.id for rule in self.rules]
        if len(set(ids)) != len(ids):
            raise RuleError(f"rule ids used twice: {sorted({i for i in ids if ids.count(i) > 1})}")
        self._filters: list[Any] = []
        self._owner: list[Rule] = []
        self._compiled: list[Any] = []
        self._unless: dict[str, Any] = {}
        self._known: dict[str, list[Hit]] = {}  # most refusals are the same few thousand sentences
        for rule in self.rules:
            for pattern in rule.patterns:
                self._add(rule, pattern)
            if rule.unless:
                self._unless[rule.id] = re2.compile("|".join(rule.unless))
        for filtered in self._filters:
            filtered.Compile()
        self._compiled = [self._filters[i // SHARD].re(i % SHARD) for i in range(len(self._owner))]

    def _add(self, rule: Rule, pattern: str) -> None:
        if len(self._owner) % SHARD == 0:
            self._filters.append(re2.Filter())
        try:
            self._filters[-1].Add(pattern)
        except re2.error as failure:
            raise RuleError(f"rule {rule.id}: {pattern!r}: {failure}") from None
        self._owner.append(rule)

    def search(self, text: str) -> list[Hit]:
        """All rules found in `text` (lower case), each once, at its leftmost match, in the order of the book."""
        if not text or not self._owner:
            return []
        if len(text) > _REMEMBERED_LENGTH:
            return self._search(text)
        hits = self._known.get(text)
        if hits is None:
            if len(self._known) >= _REMEMBERED:
                self._known = {}
            hits = self._known[text] = self._search(text)
        return list(hits)

    def forget(self) -> None:
        """Drop what is remembered of texts searched before (for measuring)."""
        self._known = {}

    def _search(self, text: str) -> list[Hit]:
        data = text.encode("utf-8", "replace")  # RE2 works on bytes: encoded once here, not once a pattern
        hits: dict[str, tuple[Rule, int, int]] = {}
        matching = [n * SHARD + i for n, f in enumerate(self._filters) for i in sorted(f.Match(data) or ())]
        for index in matching:
            found = self._compiled[index].search(data)
            if found is None:
                continue
            rule = self._owner[index]
            start, end = found.span()
            known = hits.get(rule.id)
            if known is None or known[1] > start:
                hits[rule.id] = rule, start, end
        return [_hit(data, *h) for h in hits.values() if not self._withdrawn(h[0], data)]

    def _withdrawn(self, rule: Rule, data: bytes) -> bool:
        unless = self._unless.get(rule.id)
        return unless is not None and unless.search(data) is not None


def _hit(data: bytes, rule: Rule, start: int, end: int) -> Hit:
    text = data[start:end].decode("utf-8", "replace")
    first = start if data.isascii() else len(data[:start].decode("utf-8", "replace"))
    return Hit(rule, first, first + len(text), text)
