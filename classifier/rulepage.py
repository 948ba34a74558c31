"""Write `docs/rules.md` from the rule files: `python -m classifier.rulepage`. A test keeps the page current."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from classifier.reasons.book import RULES as REASON_RULES
from classifier.reasons.book import Book, load_book
from classifier.rule import Rule, load_rules
from classifier.verdict import REASONS, Reason

PAGE = Path(__file__).parent.parent / "docs" / "rules.md"

# What code finds, as against a phrase: the id (or its beginning, with "*"), and what it says.
STRUCTURAL = {
    "dsn.part": "a delivery-status part stands in the message (RFC 3464, RFC 6533)",
    "dsn.field.*": "a field of the delivery-status part, by name: final-recipient, action, status, diagnostic-code ...",
    "dsn.action": "the report's own Action says delivered, relayed or expanded",
    "dsn.flattened": "the delivery-status fields stand in running text, not in a part",
    "dsn.cut-short": "the report ends within its fields; the recipients lost there are named in its prose",
    "dsn.recipients-capped": "the report names more recipients than are looked at",
    "action.delayed": "a delay that names no cause",
    "ndr.x-failed-recipients": "the header X-Failed-Recipients names who was not reached",
    "ndr.ses-notification": "a notification of Amazon SES in JSON",
    "mdn.disposition": "a disposition notification (RFC 8098); `rejected` makes it a bounce (RFC 5429)",
    "arf.feedback-type": "a feedback report (RFC 5965), and its type",
    "form.*": "a provider's complaint form without a feedback report",
    "envelope.token": "our own return path tells the original recipient (VERP, SRS, BATV)",
    "authentic.*": "whether the report is about a message of ours",
    "forged.*": "what shows that a notice imitates a mail system's",
    "flufl.*": "a detector of flufl.bounce, by name: second opinion, never enough for `hard`",
    "header.*": "a header that only programs, lists or persons set, by name",
    "optout.*": "an opt-out: mail to an unsubscribe address, or a lone word",
    "other.calendar": "a calendar invitation or reply",
    "code.*": "the default of a status or reply code; the table below",
    "stage.*": "a vague refusal read by the command that it answered: connect, helo, mail, rcpt, data",
    "unparsable": "no parser understood the message",
}

_HEAD = """# Rules

Generated from `classifier/rules/` by `python -m classifier.rulepage`; do not edit. The ids are stable: they stand in
every verdict's evidence. How rules are weighed against each other and against codes: [classifier.md](classifier.md).

## What code finds

| id | says |
|---|---|
"""


def rules_page() -> str:
    """The whole page as Markdown."""
    book = load_book()
    lines = [f"| `{name}` | {_cell(text)} |" for name, text in STRUCTURAL.items()]
    rules = [*_general(book), *_receivers(book), *_codes(book), *_notices(), *_texts()]
    return _HEAD + "\n".join([*lines, "", *rules]).rstrip() + "\n"


def _general(book: Book) -> Iterator[str]:
    yield from ("## Reasons: general rules", "")
    for reason in Reason:
        rules = [r for r in book.text_rules.rules if r.label == reason]
        if rules:
            category, against = REASONS[reason]
            yield from (f"### {reason} ({category}, counts against {against})", "", *_table(rules), "")


def _receivers(book: Book) -> Iterator[str]:
    yield from ("## Reasons: receivers", "")
    yield from ("`*`: the wording alone proves who speaks; the others need the receiver's name or mark.", "")
    for receiver in book.receivers:
        rules = [r for r in book.receiver_rules if r.attributes["receiver"] == receiver.name]
        relays = f"Relays: {', '.join(receiver.hosts)}."
        yield from (f"### {receiver.title}", "", relays, "", *_table(rules, "reason"), "")


def _codes(book: Book) -> Iterator[str]:
    yield from (
        "## Reasons: codes alone",
        "",
        "| code | reason | confidence | telling | meaning |",
        "|---|---|---|---|---|",
    )
    for c in book.codes.values():
        yield f"| {c.code} | {c.reason} | {c.confidence} | {'yes' if c.telling else ''} | {_cell(c.meaning)} |"
    yield ""


def _notices() -> Iterator[str]:
    yield from ("## Delivery notices", "")
    rules = [r for path in sorted((REASON_RULES.parent / "reports").glob("*.toml")) for r in load_rules(path, "signal")]
    yield from (*_table(rules, "signal"), "")


def _texts() -> Iterator[str]:
    yield from ("## What people and their programs write", "")
    for path in sorted((REASON_RULES.parent / "texts").glob("*.toml")):
        rules = load_rules(path, "says")
        if rules:
            yield from (f"### {path.name}", "", *_table(rules, "says"), "")


def _table(rules: Iterable[Rule], label: str = "") -> Iterator[str]:
    yield f"| rule |{f' {label} |' if label else ''} rank | example | not |"
    yield f"|---|{'---|' if label else ''}---|---|---|"
    for rule in rules:
        star = " *" if rule.attributes.get("anywhere") else ""
        says = f" {rule.label} |" if label else ""
        yield f"| `{rule.id}`{star} |{says} {rule.rank} | {_cell(rule.example)} | {_cell(rule.counter_example)} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(rules_page(), encoding="utf-8")
