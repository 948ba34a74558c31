"""The phrases behind `judge()`, read once: `classifier/rules/texts/*.toml`, a file a language.

A language's file says `language`, `dates` (dmy, mdy, ymd or ambiguous) and lists plain words: `subjects` (how its mail
programs title an automatic answer), `away`, `received`, `thanks`, `gone`, `moved`, `unmonitored` (how people title a
notice), `commands` (a message that is only one of these asks for an opt-out), `polite` (what may stand around a
command), `months`. Its rules (`says` = the label) tell what new text says. A file without `language` holds rules only;
there `where` = `subject`, `both` or `head` (what a text begins with) may say where to look. Rules, words and texts are
folded alike (`classifier/fold.py`), so that they are written as people write.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from classifier import spelling
from classifier.fold import fold
from classifier.rule import Rule, load_rules
from classifier.rulebook import Rulebook
from classifier.texts.said import TOPICS, Said

RULES = Path(__file__).parent.parent / "rules" / "texts"
_WORD = re.compile(r"[^\W_]+", re.UNICODE)
_BEHIND = r"\s?(?:[:\]\)\(,.!|#-]|$|\s)"
REPLIES = (
    r"(?:\W{0,3}(?:re|aw|sv|vs|odp|antw|r|ri|rif|res|wg|tr|rv|fw|fwd|enc|vl|ynt|ilt|ref|atb"
    r"|回复|回覆|答复|答覆|转发|轉寄|返信|회신|답장)\s?:\s?)"
)

# Lists of titles, and what they say.
_TITLED = {
    "subjects": "auto",
    "away": "absence",
    "received": "received",
    "thanks": "thanks",
    "gone": "gone",
    "moved": "moved",
    "unmonitored": "unmonitored",
}


@dataclass(frozen=True, slots=True)
class Language:
    """One language's file: its code, how it orders numeric dates, and its month names (folded patterns)."""

    code: str
    dates: str
    months: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Book:
    """Rules, ready to be looked for, and word lists."""

    subject: Rulebook
    text: Rulebook
    challenge: Rulebook  # those of `text` that know a challenge by its wording
    greeting: Rulebook  # what asks how one is
    commands: frozenset[str]
    polite: frozenset[str]
    languages: Mapping[str, Language]
    common: Mapping[str, tuple[str, ...]]
    speaks: Mapping[str, str]
    uncounted: frozenset[str]

    def read(self, text: str, tongues: frozenset[str] | None, title: bool = False) -> Said:
        """The first hit of each label in a folded text (a subject if `title`), rules of other languages left out.

        `tongues` are the languages that the text can be in; one without a list of common words (`uncounted`) is known
        by its script.
        """
        groups = tongues if tongues is None or text.isascii() else tongues | self.uncounted
        return Said(self.subject if title else self.text, text, tongues, groups, self.speaks)

    def greeting_ends(self, text: str) -> int:
        """Where the question that a folded text begins with ends, if it is one that waits for no answer; else 0."""
        return max((hit.end for hit in self.greeting.search(text)), default=0)

    def asks_to_end(self, folded: str) -> bool:
        """Tell whether a short text is nothing but a word like "unsubscribe", with politeness around it."""
        if not folded or len(folded) > 80:
            return False
        words = _WORD.findall(folded)
        if " ".join(words) in self.commands:
            return True
        rest = [word for word in words if word not in self.polite]
        return 0 < len(rest) <= 4 and (" ".join(rest) in self.commands or all(word in self.commands for word in rest))


def folded(rule: Rule) -> Rule:
    """The rule as texts are folded, its examples too."""
    return replace(spelling.folded(rule), example=fold(rule.example), counter_example=fold(rule.counter_example))


@cache
def tables() -> Mapping[str, Mapping[str, Any]]:
    """The files by name (without suffix), as TOML gives them."""
    return {path.stem: tomllib.loads(path.read_text(encoding="utf-8")) for path in sorted(RULES.glob("*.toml"))}


@cache
def rules() -> tuple[Rule, ...]:
    """All written rules of the directory, folded, in the order of the files' names."""
    return tuple(folded(rule) for name in tables() for rule in load_rules(RULES / f"{name}.toml", "says"))


def _titles(code: str, table: Mapping[str, Any]) -> Iterable[Rule]:
    """A language's word lists about subjects, as rules."""
    for key, label in _TITLED.items():
        words = table.get(key)
        if words:
            either = "|".join(re.escape(fold(word).strip()) for word in words)
            before = r"^\W{0,3}" if label == "auto" else f"^{REPLIES}*\\W{{0,3}}"
            yield Rule(
                f"texts.{code}.subject.{label}", label, (f"{before}(?:{either}){_behind(words)}",), fold(words[0]), "?"
            )
            if label == "auto":
                again = f"^{REPLIES}+\\W{{0,3}}(?:{either}){_behind(words)}"
                yield Rule(f"texts.{code}.subject.{label}-re", "auto_re", (again,), "re: " + fold(words[0]), "?")


def _behind(words: Iterable[str]) -> str:
    return "" if any(ord(c) > 0xE00 for word in words for c in word) else _BEHIND  # no word breaks in CJK and Thai


@cache
def book() -> Book:
    """The book; built at the first call, then shared."""
    spoken = {name: table for name, table in tables().items() if "language" in table}
    titles = [rule for code, table in spoken.items() for rule in _titles(code, table)]
    common = _common()
    counted = frozenset(code for languages in common.values() for code in languages)
    codes = counted | frozenset(spoken)
    speaks = {rule.id: code for rule in (*titles, *rules()) for code in rule.id.split(".")[1:] if code in codes}
    in_subjects = [*titles, *(r for r in rules() if r.attributes.get("where") in ("subject", "both"))]
    in_texts = [r for r in rules() if r.attributes.get("where") not in ("subject", "head")]
    return Book(
        subject=Rulebook(in_subjects, speaks),
        text=Rulebook(in_texts, speaks, TOPICS),
        challenge=Rulebook(rule for rule in in_texts if rule.label == "challenge"),
        greeting=Rulebook(rule for rule in rules() if rule.label == "greeting"),
        commands=_plain(tables(), "commands") - _plain({"": tables().get("words", {})}, "ambiguous"),
        polite=frozenset(w for phrase in _plain(tables(), "polite") for w in phrase.split()),
        languages={
            code: Language(code, table.get("dates", "dmy"), tuple(spelling.pattern(m) for m in table.get("months", ())))
            for code, table in spoken.items()
        },
        common=common,
        uncounted=codes - counted,
        speaks=speaks,
    )


def _common() -> Mapping[str, tuple[str, ...]]:
    """Each common word with the languages that have it."""
    found: dict[str, tuple[str, ...]] = {}
    for code, words in tables()["common"]["common"].items():
        for word in dict.fromkeys(fold(words).split()):
            found[word] = (*found.get(word, ()), code)
    return found


def _plain(tables: Mapping[str, Mapping[str, Any]], key: str) -> frozenset[str]:
    """All words listed under a key, of plain lists and of tables of lists."""
    lists = [table.get(key, []) for table in tables.values()]
    flat = [words for item in lists for words in (item.values() if isinstance(item, dict) else [item])]
    return frozenset(" ".join(_WORD.findall(fold(word))) for words in flat for word in words)
