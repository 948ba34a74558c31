"""The phrases behind `judge()`, read and compiled once: `classifier/rules/texts/*.toml`.

A rule says a label (`says`) about a text: `optout`, `absent`, `complaint`... `where` tells what it is looked for in:
`text` (new text, the default), `subject` or `both`. Rules and texts are folded alike (see `fold`). `words.toml`
holds single words that mean something only where nothing else is said.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from classifier.rulebook import Hit, Rule, Rulebook, load_rules
from classifier.texts.fold import fold, letters

RULES = Path(__file__).parent.parent / "rules" / "texts"
_WORD = re.compile(r"[^\W_]+", re.UNICODE)


@dataclass(frozen=True, slots=True)
class Book:
    """Compiled rules and word lists. `end_words` ask to stop; `polite_words` may stand around them."""

    subject: Rulebook
    text: Rulebook
    end_words: frozenset[str]
    polite_words: frozenset[str]

    def asks_to_end(self, folded: str) -> bool:
        """Tell whether a short text is nothing but a word like "unsubscribe", with politeness around it."""
        if not folded or len(folded) > 80:
            return False
        plain = " ".join(_WORD.findall(folded))
        if plain in self.end_words:
            return True
        rest = [word for word in plain.split() if word not in self.polite_words]
        return 0 < len(rest) <= 4 and (" ".join(rest) in self.end_words or all(w in self.end_words for w in rest))


def labels(hits: list[Hit]) -> Mapping[str, Hit]:
    """The first hit of each label."""
    found: dict[str, Hit] = {}
    for hit in hits:
        found.setdefault(hit.rule.label, hit)
    return found


def folded(rule: Rule) -> Rule:
    """The rule as texts are folded; escapes and classes of the pattern language are ASCII and stay."""
    return replace(
        rule, patterns=tuple(letters(p) for p in rule.patterns), unless=tuple(letters(p) for p in rule.unless),
        example=fold(rule.example), counter_example=fold(rule.counter_example),
    )  # fmt: skip


@cache
def rules() -> tuple[Rule, ...]:
    """All rules of the directory, folded, in the order of the files' names."""
    found: list[Rule] = []
    for path in sorted(RULES.glob("*.toml")):
        if path.name != "words.toml":
            found.extend(folded(rule) for rule in load_rules(path, "says"))
    return tuple(found)


@cache
def book() -> Book:
    """The compiled book; built at the first call (about a second), then shared."""
    words = tomllib.loads((RULES / "words.toml").read_text(encoding="utf-8"))
    return Book(
        subject=Rulebook(r for r in rules() if r.attributes.get("where") in ("subject", "both")),
        text=Rulebook(r for r in rules() if r.attributes.get("where") != "subject"),
        end_words=_plain(words["end"]),
        polite_words=_plain(words["polite"]),
    )


def _plain(table: Mapping[str, list[str]]) -> frozenset[str]:
    return frozenset(" ".join(_WORD.findall(fold(word))) for group in table.values() for word in group)
