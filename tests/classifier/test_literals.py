"""What a pattern requires of a text: never more than is true, and enough to leave most patterns out."""

from __future__ import annotations

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from classifier.literals import alternatives, required
from classifier.reasons.book import load_book
from classifier.reports import forged, ndr
from classifier.rule import Rule
from classifier.rulebook import Rulebook, Scan
from classifier.texts.book import book


@pytest.mark.parametrize(
    ("pattern", "strings"),
    [
        (r"mailbox full", [{"mailbox full"}]),
        (r"\b(?:user|box) (?:is )?unknown\b", [{"user unknown", "user is unknown", "box unknown", "box is unknown"}]),
        (r"over.{0,9}quot[ae]", [{"quota", "quote"}, {"over"}]),
        (r"(?:no such|unknown\d) user|nobody", [{"no such", "unknown", "nobody"}]),
        (r"a\.b\(c\)\x41\x{42}", [{"a.b(c)AB"}]),
        (r"(?m)^blocked$", [{"blocked"}]),
        (r"x*y?[^a]\w{0,3}", []),
        (r"(?:spam)?", []),
        (r"(?i)spam", []),
        (r"z{3}", [{"z"}]),
    ],
)  # fmt: skip
def test_required(pattern: str, strings: list[set[str]]) -> None:
    assert [set(s) for s in required(pattern)] == strings


BOOKS = [book().text, book().subject, load_book().text_rules, load_book().spoken, ndr.book(), forged.book()]
_PLAIN = st.sampled_from(["a", "b", "ab", "ba c", r"\.", r"\b", "[ab]", "[^a]", ".", "^", "$", r"\w", r"[a-c]"])
_PATTERNS = st.recursive(
    _PLAIN,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"(?:{'|'.join(parts)})"),
        st.tuples(inner, st.sampled_from(["?", "*", "+", "{2}", "{0,2}", "{1,3}?"])).map(lambda p: f"(?:{p[0]}){p[1]}"),
    ),
    max_leaves=12,
)


@given(_PATTERNS, st.text("abc .", max_size=30))
def test_a_matching_text_has_what_is_required(pattern: str, text: str) -> None:
    if re2.compile(pattern).search(text):
        for strings in required(pattern):
            assert any(string in text for string in strings), (pattern, strings)


@pytest.mark.parametrize(
    ("pattern", "branches"),
    [
        ("spam|eggs", ["spam", "eggs"]),
        (r"a(?:b|c)|[|\]]|\|d|", ["a(?:b|c)", r"[|\]]", r"\|d", ""]),
        ("[]|]x|[^]|]y", ["[]|]x", "[^]|]y"]),
        ("(?m)^a|b", ["(?m)^a|b"]),
        ("(?:a|b)", ["(?:a|b)"]),
    ],
)
def test_alternatives(pattern: str, branches: list[str]) -> None:
    assert alternatives(pattern) == branches


@given(st.lists(_PATTERNS, min_size=1, max_size=4), st.text("abc .", max_size=30))
def test_alternatives_find_together_what_the_pattern_finds(patterns: list[str], text: str) -> None:
    whole = re2.compile("|".join(patterns)).search(text)
    each = [m for branch in alternatives("|".join(patterns)) if (m := re2.compile(branch).search(text))]
    assert (whole is None) == (not each)
    if whole is not None:
        first = min(each, key=lambda m: m.start())  # the first of those that begin earliest, as RE2 prefers
        assert first.span() == whole.span()


@pytest.mark.parametrize("rules", [book().text.rules, book().subject.rules, load_book().text_rules.rules])
def test_nearly_all_rules_require_something(rules: tuple[Rule, ...]) -> None:
    idle = [(rule.label, pattern) for rule in rules for pattern in rule.patterns if not required(pattern)]
    # "On" before a number is a date in many languages: only looked for where a notice is, so it may be that vague.
    dates = [pattern for label, pattern in idle if label == "until"]
    assert len(dates) <= len(rules) // 40, dates
    assert len(idle) - len(dates) <= len(rules) // 100, idle


@given(st.lists(_PATTERNS, min_size=1, max_size=5), st.text("abc .", max_size=30))
def test_the_book_finds_what_each_pattern_finds_alone(patterns: list[str], text: str) -> None:
    rules = [Rule(f"r.{number}", "x", (pattern,), "", "") for number, pattern in enumerate(patterns)]
    found = [(hit.rule.id, hit.start, hit.end) for hit in Rulebook(rules).search(text)]
    alone = [(rule.id, m) for rule in rules if (m := re2.compile(rule.patterns[0]).search(text))] if text else []
    assert found == [(name, m.start(), m.end()) for name, m in alone]


@given(st.lists(_PATTERNS, min_size=1, max_size=5), st.lists(st.text("abc", max_size=9), min_size=1, max_size=4))
def test_a_part_is_found_to_say_what_it_says_alone(patterns: list[str], sentences: list[str]) -> None:
    rules = [Rule(f"r.{number}", "x", (pattern,), "", "") for number, pattern in enumerate(patterns)]
    rulebook = Rulebook(rules)
    whole = rulebook.find(Scan(". ".join(sentences)))
    for sentence in filter(None, sentences):
        assert rulebook.find_in_part(sentence, whole) == rulebook.search(sentence)


@pytest.mark.parametrize("rulebook", BOOKS)
def test_re2_takes_every_rule(rulebook: Rulebook) -> None:
    rulebook.check()


def test_topics_are_found_apart_and_together() -> None:
    rules = [Rule(f"r.{name}", name, (name,), "", "") for name in ("spam", "eggs", "ham")]
    rulebook = Rulebook(rules, topics=[frozenset({"spam", "ham"})])
    found = [[h.rule.id for h in rulebook.find(Scan("ham, spam and eggs"), topic).hits] for topic in (0, -1, None)]
    assert found == [["r.spam", "r.ham"], ["r.eggs"], ["r.spam", "r.eggs", "r.ham"]]


def test_a_search_leaves_groups_out() -> None:
    rules = [Rule(f"r.{name}", "x", (name,), "", "") for name in ("spam", "eggs", "ham")]
    rulebook = Rulebook(rules, {"r.spam": "en", "r.eggs": "de"})
    text = "ham, spam and eggs"
    assert [h.rule.id for h in rulebook.search(text)] == ["r.spam", "r.eggs", "r.ham"]
    assert [h.rule.id for h in rulebook.search(text, frozenset({"de"}))] == ["r.eggs", "r.ham"]
