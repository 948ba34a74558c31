"""The rule engine: all rules of a book are looked for in one linear pass over a text.

The strings that patterns require (`literals`) go into one Aho-Corasick automaton: a pass over the text tells which
few patterns can match at all, and only those are run. RE2 has no backtracking, so no text and no rule can take more
than linear time. Texts must be lower-cased by the caller; patterns are written in lower case.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

import re2
from ahocorasick_rs import BytesAhoCorasick

from classifier.literals import alternatives, required
from classifier.rule import Rule, RuleError

_OPTIONS = re2.Options()
_OPTIONS.never_capture = True
# Hits of so many short texts are remembered, then forgotten all at once (2 MB a book at most).
_REMEMBERED, _REMEMBERED_LENGTH = 4096, 400
_ALWAYS = -1  # the requirement of those that require nothing


class Hit(NamedTuple):
    """A rule found in a text: where its leftmost match begins and ends (character offsets), and what it says."""

    rule: Rule
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class _Pattern:
    """One alternative of a rule's patterns: where it stands in the book, and what it requires, most telling first.

    `anchored`: it may match a part of a text that it does not match, for a part has a beginning and an end as well.
    """

    number: int
    text: str
    rule: Rule
    topic: int
    group: str | None
    first: frozenset[int]
    others: tuple[frozenset[int], ...]
    anchored: bool


class Findings(NamedTuple):
    """What a book finds in a text: rules, each once, at its leftmost match; and what a part of it may match.

    `clues` has, for each pattern that a part may match, those of its strings that stand in the text: found out when
    the first part is looked at.
    """

    hits: tuple[Hit, ...]
    again: list[_Pattern]
    found: frozenset[int]
    clues: list[tuple[_Pattern, tuple[bytes, ...]]]


_NOTHING = Findings((), [], frozenset(), [])


class Scan:
    """A text (lower case) that is searched for several topics: looked through once, when that is first needed.

    A scan serves one book.
    """

    __slots__ = ("data", "found", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.data = b""  # RE2 works on bytes: encoded once here, not once a pattern
        self.found: frozenset[int] | None = None  # the numbers of the book's strings that stand in it


_BREAK = re.compile(r"\(\?:\^\|\[ -/[^\]]*\]\)|\(\?:\[ -/[^\]]*\]\|\$\)")  # a word break (`spelling`) is no anchor
_ANCHOR = re.compile(r"(?<!\[)(?<!\\)\^|(?<!\\)\$|\\[Az]")
_string = itemgetter(0)
_number = attrgetter("number")


class Rulebook:
    """Rules looked for together. What it finds never changes; safe to share between threads."""

    def __init__(
        self, rules: Iterable[Rule], groups: Mapping[str, str] | None = None, topics: Iterable[frozenset[str]] = ()
    ) -> None:
        """Raises RuleError for a doubled id; `check` tells whether RE2 takes all patterns.

        `groups` names the group of a rule by the rule's id, so that a search can leave out whole groups. `topics` are
        sets of labels that are searched for apart from the rest.
        """
        self.rules = tuple(rules)
        self._groups = groups or {}
        self._topics = {label: number for number, topic in enumerate(topics) for label in topic}
        ids = [rule.id for rule in self.rules]
        if len(set(ids)) != len(ids):
            raise RuleError(f"rule ids used twice: {sorted({i for i in ids if ids.count(i) > 1})}")
        self._patterns: list[_Pattern] = []
        self._begun: dict[int, dict[int, list[_Pattern]]] = {}  # by topic and by each string that they require first
        # Hits by text and groups: most refusals are the same few thousand sentences.
        self._known: dict[tuple[str, frozenset[str] | None, int | None], Findings] = {}
        # Most patterns never run in a process's life, and RE2 takes a quarter of a millisecond for each: on first use.
        self._compiled: dict[str, Any] = {}
        self._index()

    def _index(self) -> None:
        """Note which strings each pattern requires, and make the automaton that looks for all of them."""
        numbers: dict[str, int] = {}
        for rule in self.rules:
            topic = self.topic(rule.label)
            for text in (branch for pattern in rule.patterns for branch in alternatives(pattern)):
                needs = [frozenset(numbers.setdefault(s, len(numbers)) for s in strings) for strings in required(text)]
                first, *others = needs or [frozenset([_ALWAYS])]
                anchored = bool(_ANCHOR.search(_BREAK.sub("", text)))
                group = self._groups.get(rule.id)
                pattern = _Pattern(len(self._patterns), text, rule, topic, group, first, tuple(others), anchored)
                self._patterns.append(pattern)
                begun = self._begun.setdefault(topic, {})
                for number in first:
                    begun.setdefault(number, []).append(pattern)
        self._strings = [string.encode() for string in numbers]
        self._automaton = BytesAhoCorasick(self._strings)

    def topic(self, label: str) -> int:
        """The number of the topic that a label belongs to; -1 for all labels that belong to none."""
        return self._topics.get(label, -1)

    def search(self, text: str, groups: frozenset[str] | None = None) -> tuple[Hit, ...]:
        """All rules found in `text` (lower case), in the order of the book; see `find`."""
        return self.find(Scan(text), None, groups).hits

    def find(self, scan: Scan, topic: int | None = None, groups: frozenset[str] | None = None) -> Findings:
        """Look for all rules in a text, or those of a topic.

        Rules that belong to a group are left out unless the group is one of `groups` (None: none is left out). Raises
        RuleError where a pattern is needed that RE2 refuses (`check` finds those before).
        """
        if not scan.text or not self._patterns:
            return _NOTHING
        if len(scan.text) > _REMEMBERED_LENGTH:
            return self._find(scan, topic, groups)
        findings = self._known.get((scan.text, groups, topic))
        if findings is None:
            if len(self._known) >= _REMEMBERED:
                self._known = {}
            findings = self._known[scan.text, groups, topic] = self._find(scan, topic, groups)
        return findings

    def find_in_part(self, part: str, findings: Findings) -> tuple[Hit, ...]:
        """What `search` finds in a part of a text, at a fraction of its cost, from what `find` found in the whole."""
        if not findings.again:
            return ()
        if not findings.clues:
            strings, clues = self._strings, []
            for pattern in findings.again:
                stand = () if _ALWAYS in pattern.first else tuple(strings[n] for n in pattern.first & findings.found)
                clues.append((pattern, stand))
            findings.clues[:] = clues  # all at once: another thread may ask the same
        data = part.encode("utf-8", "replace")
        hits, _ = self._run(data, [p for p, stand in findings.clues if not stand or any(s in data for s in stand)])
        return hits

    def check(self) -> None:
        """Compile everything now; raises RuleError for a pattern that RE2 refuses."""
        for rule in self.rules:
            for text in (*(b for pattern in rule.patterns for b in alternatives(pattern)), *rule.unless):
                self._regex(text, rule)

    def _regex(self, text: str, rule: Rule) -> Any:
        """The compiled pattern of a rule, which a RuleError names where RE2 refuses it."""
        found = self._compiled.get(text)
        if found is None:
            try:
                found = self._compiled[text] = re2.compile(text, _OPTIONS)
            except re2.error as failure:
                raise RuleError(f"rule {rule.id}: {text!r}: {failure}") from None
        return found

    def forget(self) -> None:
        """Drop what is remembered of texts searched before (for measuring)."""
        self._known = {}

    def _find(self, scan: Scan, topic: int | None, groups: frozenset[str] | None) -> Findings:
        if scan.found is None:
            scan.data = scan.text.encode("utf-8", "replace")
            matches = self._automaton.find_matches_as_indexes(scan.data, overlapping=True)
            scan.found = frozenset([_ALWAYS, *map(_string, matches)])
        indexes = self._begun.values() if topic is None else (self._begun.get(topic, {}),)
        patterns = _possible(indexes, scan.found, groups)
        hits, again = self._run(scan.data, patterns)
        return Findings(hits, again, scan.found, [])

    def _run(self, data: bytes, patterns: Iterable[_Pattern]) -> tuple[tuple[Hit, ...], list[_Pattern]]:
        """Match the patterns: the hits, and which patterns a part of the text may match."""
        again: list[_Pattern] = []
        hits: dict[str, tuple[Rule, int, int]] = {}
        for pattern in patterns:
            rule = pattern.rule
            found = self._regex(pattern.text, rule).search(data)
            if found is None:
                if pattern.anchored:
                    again.append(pattern)
                continue
            again.append(pattern)
            start, end = found.span()
            known = hits.get(rule.id)
            if known is None:
                if rule.unless and self._regex("|".join(rule.unless), rule).search(data) is not None:
                    continue
            elif known[1] <= start:
                continue
            hits[rule.id] = rule, start, end
        return tuple(_hit(data, *hit) for hit in hits.values()), again


def _possible(
    indexes: Iterable[dict[int, list[_Pattern]]], found: frozenset[int], groups: frozenset[str] | None
) -> list[_Pattern]:
    """The patterns whose required strings stand in the text, in the order of the book."""
    possible: dict[int, _Pattern] = {}
    for begun in indexes:
        for string in begun.keys() & found:
            for pattern in begun[string]:
                if groups is not None and pattern.group is not None and pattern.group not in groups:
                    continue
                for strings in pattern.others:
                    if found.isdisjoint(strings):
                        break
                else:
                    possible[pattern.number] = pattern
    return [possible[number] for number in sorted(possible)]


def _hit(data: bytes, rule: Rule, start: int, end: int) -> Hit:
    text = data[start:end].decode("utf-8", "replace")
    first = start if data.isascii() else len(data[:start].decode("utf-8", "replace"))
    return Hit(rule, first, first + len(text), text)
