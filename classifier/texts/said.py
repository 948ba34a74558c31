"""What the rules find in one text, looked for a topic at a time: what nobody asks about is never searched for.

A topic is a set of labels that deciders ask about together. Most mail is asked about the first alone; whether somebody
is back tomorrow matters only in what may be a notice, and whether goods are meant only beside a request.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from classifier.rulebook import Findings, Hit, Rulebook, Scan

TOPICS = (
    frozenset({"challenge", "held", "prove"}),
    frozenset({
        "complaint", "optout", "theirs", "auto", "bot", "hint", "left", "left3", "moved", "absence", "absence3",
        "ticket", "unmonitored", "passed_on",
    }),
    frozenset({"until", "instead", "promise", "support", "offline", "aside", "patrons", "menu"}),
    frozenset({"person", "business", "plans", "reported", "kin"}),
    frozenset({
        "our_letter", "goods", "activity", "stays", "several", "about_mail", "our_mail", "grumble", "legal",
        "authority", "bereaved", "how",
    }),
)  # fmt: skip


class Said:
    """The first hit of each label, by label, like a mapping that finds out what it is asked for.

    `tongues` are the languages that the text can be in (None: any), `groups` those whose rules are looked for; `speaks`
    names a rule's language by its id.
    """

    __slots__ = ("_book", "_found", "_groups", "_scan", "_searched", "_speaks", "_tongues")

    def __init__(
        self,
        book: Rulebook,
        text: str,
        tongues: frozenset[str] | None,
        groups: frozenset[str] | None,
        speaks: Mapping[str, str],
    ) -> None:
        self._book = book
        self._scan = Scan(text)
        self._groups = groups
        self._tongues = tongues
        self._speaks = speaks
        self._searched: dict[int, Findings] = {}
        self._found: dict[str, Hit] = {}

    def get(self, label: str) -> Hit | None:
        """The first hit of a label, None where there is none."""
        topic = self._book.topic(label)
        if topic not in self._searched:
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
        for topic in {self._book.topic(label): None for label in labels}:
            for hit in self._book.find_in_part(part, self._search(topic)):
                if hit.rule.label not in found and hit.rule.label in labels and self._believes(hit):
                    found[hit.rule.label] = hit
        return found

    def _search(self, topic: int) -> Findings:
        findings = self._searched.get(topic)
        if findings is None:
            findings = self._searched[topic] = self._book.find(self._scan, topic, self._groups)
            for hit in findings.hits:
                if hit.rule.label not in self._found and self._believes(hit):
                    self._found[hit.rule.label] = hit
        return findings

    def _believes(self, hit: Hit) -> bool:
        """A hit of another script's rule in Latin letters or digits says nothing."""
        if self._tongues is None:
            return True
        code = self._speaks.get(hit.rule.id)
        return code is None or code in self._tongues or not hit.text.isascii()
