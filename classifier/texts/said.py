"""What the rules find in one text, looked for a topic at a time: what nobody asks about is never searched for.

A topic is a set of labels that deciders ask about together. Most mail is asked about the first alone; whether somebody
is back tomorrow matters only in what may be a notice, and whether goods are meant only beside a request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from classifier.rulebook import Findings, Hit, Rule, Rulebook

TOPICS = (
    frozenset({"challenge", "held", "prove"}),
    frozenset({
        "complaint", "optout", "auto", "hint", "left", "left3", "moved", "absence", "absence3", "ticket", "unmonitored",
        "passed_on",
    }),
    frozenset({"until", "instead", "promise", "support", "offline", "aside"}),
)  # fmt: skip


def by_topic(rules: list[Rule], groups: Mapping[str, str]) -> Mapping[str, Rulebook]:
    """The rulebook of each label; what belongs to no topic of `TOPICS` is searched for together."""
    labels = {rule.label for rule in rules}
    found: dict[str, Rulebook] = {}
    for topic in (*TOPICS, labels.difference(*TOPICS)):
        of_topic = Rulebook([rule for rule in rules if rule.label in topic], groups)
        found.update(dict.fromkeys(topic & labels, of_topic))
    return found


class Said:
    """The first hit of each label, by label, like a mapping that finds out what it is asked for.

    `topics` has the rulebook of each label, `find` searches one, `believe` tells whether a hit counts.
    """

    __slots__ = ("_believe", "_find", "_found", "_searched", "_topics")

    def __init__(
        self, topics: Mapping[str, Rulebook], find: Callable[[Rulebook], Findings], believe: Callable[[Hit], bool]
    ) -> None:
        self._topics = topics
        self._find = find
        self._believe = believe
        self._searched: dict[Rulebook, Findings] = {}
        self._found: dict[str, Hit] = {}

    def get(self, label: str) -> Hit | None:
        """The first hit of a label, None where there is none."""
        topic = self._topics.get(label)
        if topic is not None and topic not in self._searched:
            self._search(topic)
        return self._found.get(label)

    def __getitem__(self, label: str) -> Hit:
        """The first hit of a label; raises KeyError where there is none."""
        self.get(label)
        return self._found[label]

    def __contains__(self, label: str) -> bool:
        """Tell whether there is a hit of that label."""
        return self.get(label) is not None

    def among(self, labels: Iterable[str]) -> set[str]:
        """Those of `labels` that there are hits of."""
        return {label for label in labels if self.get(label) is not None}

    def within(self, part: str, labels: Iterable[str]) -> dict[str, Hit]:
        """The first hit of each of `labels` in a part of the text."""
        found: dict[str, Hit] = {}
        for topic in {self._topics[label]: None for label in labels if label in self._topics}:
            for hit in topic.find_in_part(part, self._search(topic)).hits:
                if hit.rule.label not in found and hit.rule.label in labels and self._believe(hit):
                    found[hit.rule.label] = hit
        return found

    def _search(self, topic: Rulebook) -> Findings:
        findings = self._searched.get(topic)
        if findings is None:
            findings = self._searched[topic] = self._find(topic)
            for hit in findings.hits:
                if hit.rule.label not in self._found and self._believe(hit):
                    self._found[hit.rule.label] = hit
        return findings
