"""Every rule keeps its promise: its example yields its reason end to end, its counter-example not by it."""

from __future__ import annotations

import re
import time
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier.reasons import Facts, explain
from classifier.reasons.book import RULES, load_book
from classifier.rule import Rule, RuleError, load_rules
from classifier.rulebook import Rulebook
from classifier.rulepage import PAGE, STRUCTURAL, rules_page
from classifier.verdict import Reason

ALL_RULES = load_book().receiver_rules + load_book().text_rules.rules
REPLIES = Path(__file__).parent / "known_replies.txt"
TABLE = Path(__file__).parent / "reasons_table.toml"


def facts_for(rule: Rule, text: str) -> Facts:
    reply = rule.attributes.get("reply")
    return Facts(diagnostic=text, action="failed", reply_code=None if reply is None or text[:3].isdigit() else reply[0])


@pytest.mark.parametrize("rule", ALL_RULES, ids=lambda r: r.id)
def test_the_example_yields_the_rules_reason(rule: Rule) -> None:
    finding = explain(facts_for(rule, rule.example))
    assert finding.reason == rule.label, finding.evidence


@pytest.mark.parametrize("rule", ALL_RULES, ids=lambda r: r.id)
def test_the_counter_example_is_not_decided_by_the_rule(rule: Rule) -> None:
    finding = explain(facts_for(rule, rule.counter_example))
    assert rule.id not in [e.rule for e in finding.evidence]


def known_replies() -> list[tuple[str, str]]:
    lines = [line for line in REPLIES.read_text(encoding="utf-8").splitlines() if "|" in line and line[0] != "#"]
    return [(reasons.strip(), text.strip()) for reasons, text in (line.split("|", 1) for line in lines)]


@pytest.mark.parametrize(("reasons", "text"), known_replies())
def test_replies_as_servers_word_them(reasons: str, text: str) -> None:
    finding = explain(Facts(diagnostic=text, action="failed"))
    assert finding.reason in reasons.split("/"), finding.evidence


def table() -> list[tuple[str | None, str, str]]:
    """Stage (None: not told), acceptable reasons and text of each row of `reasons_table.toml`."""
    return [
        (None if stage == "reply" else stage, reasons, text)
        for top, content in tomllib.loads(TABLE.read_text(encoding="utf-8")).items()
        for stage, groups in ({"reply": content} if top == "reply" else content).items()
        for reasons, group in groups.items()
        for text in group["texts"]
    ]


@pytest.mark.parametrize(("stage", "reasons", "text"), table())
def test_replies_of_many_services(stage: str | None, reasons: str, text: str) -> None:
    finding = explain(Facts(diagnostic=text, action="failed", stage=stage))
    assert finding.reason in reasons.split("/"), finding.evidence


def test_the_table_covers_every_failure() -> None:
    assert {r for _, reasons, _ in table() for r in reasons.split("/")} == set(Reason) - {Reason.DELIVERED}
    assert len({(stage, text) for stage, _, text in table()}) == len(table())


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("550 see https://support.example/mail/?p=5.1.1 for more", None),
        ("554 refused: 5.4.3.2 is listed", None),
        ("554 refused by sendmail 5.2.1", None),
        ("550 on 2026-05-1.1.1 refused", None),
        ("550-5.7.26 no authentication 550-5.7.26 see url 550 5.7.26 end", "5.7.26"),
        ("550 5.1.1 <x@y.example>: 5.1.0 Address rejected", "5.1.1"),
        ("550 User unknown", "5.1.1"),
        ("450 4.0.0 Mailbox full", "4.0.0"),
        ("552 Mailbox full", "5.2.2"),
    ],
)
def test_the_status_is_the_refusals_own(text: str, status: str | None) -> None:
    assert explain(Facts(diagnostic=text, action="failed")).status == status


def test_the_rules_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == rules_page(), "run: python -m classifier.rulepage"


def test_every_piece_of_evidence_is_documented() -> None:
    documented = {rule.id for rule in ALL_RULES} | STRUCTURAL.keys()
    for _, _, text in table()[::7]:
        for evidence in explain(Facts(diagnostic=text, action="failed")).evidence:
            assert evidence.rule in documented or f"{evidence.rule.split('.')[0]}.*" in documented, evidence


def test_ids_have_one_form() -> None:
    for rule in ALL_RULES:
        assert re.fullmatch(r"[a-z0-9]+(?:\.[a-z0-9_]+)+", rule.id), rule.id


@pytest.mark.parametrize(
    "unit", ["a", "a ", "a.", "550-", "550-5.1.1 x ", "user user ", "<", "a@b.c ", "((((", "not not ", "rate limit "]
)
def test_time_grows_with_the_text_only(unit: str) -> None:
    """Texts are cut, so that even the worst one is answered at once (loose bound: a busy machine)."""
    text = unit * (64 * 1024 // len(unit))
    explain(Facts(diagnostic="warm up"))
    start = time.process_time()
    explain(Facts(diagnostic=text, human_text=text, address="x@y.example", action="failed"))
    assert time.process_time() - start < 2.0


def test_ids_tell_file_and_reason() -> None:
    receivers = {r.name for r in load_book().receivers}
    for rule in ALL_RULES:
        first = rule.id.split(".")[0]
        assert first in ({"text", "lang"} if "receiver" not in rule.attributes else receivers), rule.id
        assert 0 <= rule.rank <= 100, rule.id


def test_every_code_default_names_a_reason() -> None:
    for default in load_book().codes.values():
        assert default.reason in set(Reason)
        assert 0 < default.confidence <= 1


def rule_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "text_x.toml"
    path.write_text(text, encoding="utf-8")
    return path


GOOD = """[[rule]]
id = "text.x"
reason = "virus"
patterns = ["a<n>c"]
example = "abc"
counter_example = "x"
[words]
n = "b|d"
"""


def test_words_are_spelled_out_and_found(tmp_path: Path) -> None:
    book = Rulebook(load_rules(rule_file(tmp_path, GOOD), "reason"))
    assert [(h.rule.id, h.text, h.start) for h in book.search("é adc abc")] == [("text.x", "adc", 2)]
    assert book.search("") == ()


@pytest.mark.parametrize(
    ("old", "new"),
    [('example = "abc"\n', ""), ("a<n>c", "a(c"), ('id = "text.x"\n', "")],
    ids=["no example", "bad pattern", "no id"],
)
def test_a_broken_rule_is_named(tmp_path: Path, old: str, new: str) -> None:
    path = rule_file(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(RuleError, match="rule"):
        Rulebook(load_rules(path, "reason")).check()


def test_a_pattern_that_nobody_checked_is_named_by_the_first_text_that_needs_it(tmp_path: Path) -> None:
    book = Rulebook(load_rules(rule_file(tmp_path, GOOD.replace("a<n>c", "a(c", 1)), "reason"))
    with pytest.raises(RuleError, match=r"rule text\.x"):
        book.search("abc")


def test_doubled_ids_are_refused(tmp_path: Path) -> None:
    rules = load_rules(rule_file(tmp_path, GOOD), "reason")
    with pytest.raises(RuleError, match=r"text\.x"):
        Rulebook(rules * 2)


def test_the_rule_files_are_where_they_should_be() -> None:
    assert {p.suffix for p in RULES.iterdir() if not p.name.startswith("__")} == {".toml"}


@given(st.text(max_size=400), st.text(max_size=400))
def test_no_text_makes_it_fail(diagnostic: str, prose: str) -> None:
    finding = explain(Facts(diagnostic=diagnostic, human_text=prose, status="5.1.x", address=diagnostic[:10]))
    assert 0 <= finding.confidence <= 1
