"""Write `docs/rules.md` from the rule files: `python -m classifier.reasons.ruledocs`. A test keeps the page current."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from classifier.reasons.book import Book, load_book
from classifier.rulebook import Rule
from classifier.verdict import REASONS, Reason

PAGE = Path(__file__).parent.parent.parent / "docs" / "rules.md"

_HEAD = """# Rules of reasons

Generated from `classifier/rules/reasons/*.toml` by `python -m classifier.reasons.ruledocs`; do not edit. The ids are
stable: they stand in every verdict's evidence. How rules are weighed against each other and against codes:
`classifier/reasons/explain.py`. In short: the receiver's own rule, then general text, then prose, then a telling code,
then vague phrases (rank below 30), then vague codes; within a layer the higher rank, then the longer match.
"""


def rules_page() -> str:
    """The whole page as Markdown."""
    book = load_book()
    return "\n".join([_HEAD, *_general(book), *_receivers(book), *_codes(book)]) + "\n"


def _general(book: Book) -> list[str]:
    lines = ["## General rules", ""]
    for reason in Reason:
        rules = [r for r in book.text_rules.rules if r.label == reason]
        if rules:
            category, against = REASONS[reason]
            lines += [f"### {reason} ({category}, counts against {against})", "", *_table(rules), ""]
    return lines


def _receivers(book: Book) -> list[str]:
    lines = [
        "## Receivers",
        "",
        "`*`: the wording alone proves who speaks; the others need the receiver's name or mark.",
        "",
    ]
    for receiver in book.receivers:
        rules = [r for r in book.receiver_rules.rules if r.attributes["receiver"] == receiver.name]
        lines += [
            f"### {receiver.title}",
            "",
            f"Relays: {', '.join(receiver.hosts)}.",
            "",
            *_table(rules, show_reason=True),
            "",
        ]
    return lines


def _table(rules: Iterable[Rule], show_reason: bool = False) -> list[str]:
    lines = [
        f"| rule |{' reason |' if show_reason else ''} rank | example | not |",
        f"|---|{'---|' if show_reason else ''}---|---|---|",
    ]
    for rule in rules:
        star = " *" if rule.attributes.get("anywhere") else ""
        reason = f" {rule.label} |" if show_reason else ""
        lines.append(
            f"| `{rule.id}`{star} |{reason} {rule.rank} | {_cell(rule.example)} | {_cell(rule.counter_example)} |"
        )
    return lines


def _codes(book: Book) -> list[str]:
    lines = ["## Codes alone", "", "| code | reason | confidence | telling | meaning |", "|---|---|---|---|---|"]
    lines += [
        f"| {c.code} | {c.reason} | {c.confidence} | {'yes' if c.telling else ''} | {_cell(c.meaning)} |"
        for c in book.codes.values()
    ]
    return lines


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(rules_page(), encoding="utf-8")
