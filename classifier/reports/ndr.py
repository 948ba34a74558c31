"""Delivery notices in prose: what mail systems write that send no delivery-status part, in any language.

Two questions, kept apart. Is it one? That is answered here: a mail system's signature (sender, header fields, phrases
that only such systems use) and a statement of failure or delay must meet. About whom? `mentions` tells.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from classifier.context import Context
from classifier.fold import letters
from classifier.mime import Message
from classifier.reasons.explain import explain
from classifier.reasons.facts import Facts
from classifier.reports import mentions, returned, sender, ses
from classifier.reports.model import Report
from classifier.rule import load_rules
from classifier.rulebook import Hit, Rulebook
from classifier.spelling import folded
from classifier.verdict import Evidence, Reason

MAX_PROSE = 64 * 1024
_TELLING_CHARS = 16 * 1024  # of prose: what a notice says stands at its head, before the recipients
_SUBJECT_CHARS = 1000
_OPENING_CHARS = 1000
_RULES = Path(__file__).parent.parent / "rules" / "reports" / "notices.toml"
_SAYS = frozenset({"failed", "delayed", "delivered", "report", "strong"})
# What spoils "delivered": a notice may tell of some who were reached and some who were not.
_BUT = frozenset({"failed", "delayed", "stopped", "final"})
# What is said of a mailbox or a domain, and only because of a message.
_CAUSES = frozenset({Reason.BAD_MAILBOX, Reason.BAD_DOMAIN, Reason.MAILBOX_FULL, Reason.DISABLED, Reason.SUSPENDED})
_CONDITION = re.compile(
    r"\b(?:if|when|in case|wenn|falls|sollte|si|indien|jeśli|jeżeli|pokud|если|якщо|hvis)\b", re.IGNORECASE
)
_PLAIN = 0.9  # as sure as a general rule that agrees with nothing else
_SENTENCE_ENDS = re.compile(r"[.!?。](?=\s|[^\x00-\x7f])|\n[ \t]*\n")
# Certified mail's own receipts, by X-Ricevuta (RFC 6109 section 3): what became of the message.
_RECEIPTS = {
    "avvenuta-consegna": "delivered", "errore-consegna": "failed", "non-accettazione": "failed",
    "preavviso-errore-consegna": "delayed", "rilevazione-virus": "failed",
}  # fmt: skip
_FORWARDED_FROM = re.compile(
    r"^[ \t>*]{0,8}(?:from|von|de|da|van|från|fra|от|发件人|差出人)\*?\s?[:：]\s?(.{3,200})$",
    re.IGNORECASE | re.MULTILINE,
)
_SUBJECT_OF_FORWARD = re.compile(
    r"\s{0,4}(?:fwd?|wg|tr|rv|enc|i|vs|vb|pd|ilt|doorst|转发|轉寄|전달)\s?[:：]", re.IGNORECASE
)
_QUOTED = re.compile(r"^[ \t]*>.*$", re.MULTILINE)
# Whom to ask about a mailing list (RFC 2142 section 6).
_OF_LIST = re.compile(r"\bowner-[^\s@]{1,64}@[\w.-]+|\b[^\s@]{1,64}-(?:request|owner)@[\w.-]+", re.IGNORECASE)
_FORWARD = re.compile(
    r"^(?:_{10,}|-{2,}[ \t]{0,3}[^\W\d_][^-\n]{2,50}-{2,}|(?:from|von|de): .+)[ \t]*$",
    re.IGNORECASE | re.MULTILINE,
)


@cache
def book() -> Rulebook:
    """Compile the phrases of `rules/reports/notices.toml`, once."""
    return Rulebook(folded(rule) for rule in load_rules(_RULES, "signal"))


def find(message: Message, context: Context) -> Report | None:
    """Find a notice in prose; None where this is none."""
    if ses.looks_like_one(message):
        return ses.find(message)
    if not (_declared(message) or sender.is_system(message, context)) and not _may_be_notice(message, context):
        return None
    prose, copied = returned.before(message.text)
    prose = prose[:MAX_PROSE]
    hits = _said(letters(f"{message.subject[:_SUBJECT_CHARS]}\n{prose[:_TELLING_CHARS]}"))
    signals = {hit.rule.label for hit in hits}
    confidence, forwarded = _judge(message, context, prose, signals)
    if not confidence:
        return None
    failed_header = tuple(message.headers.get_all("x-failed-recipients"))
    copy = returned.find(message, copied)
    if "list" in signals and sender.is_list_manager(message):
        prose = _first_about_list(prose)
    notice = mentions.Notice(message, prose, failed_header, copy, _action(message, signals))
    cases, names_people = mentions.cases(notice, context)
    return Report(
        "ndr",
        cases,
        confidence,
        human_text=prose[:8000],
        copied_text=copied,
        forwarded=forwarded,
        names_people=names_people,
        evidence=_evidence(hits, failed_header),
    )


def _declared(message: Message) -> bool:
    """Tell whether header fields say that this is a report, whatever it looks like."""
    return (
        "x-failed-recipients" in message.headers
        or "x-ms-exchange-message-is-ndr" in message.headers
        or _receipt(message) is not None
        or "delivery-status" in message.root.params.get("report-type", "").lower()
    )


def _receipt(message: Message) -> str | None:
    return _RECEIPTS.get((message.headers.get("x-ricevuta") or "").strip().lower())


def _judge(message: Message, context: Context, prose: str, signals: set[str]) -> tuple[float, bool]:
    """How sure it is that this is a notice (0: it is none), and whether a person forwarded it."""
    if _declared(message):
        return 0.97, False
    if _is_somebodys(message, context, prose, signals):
        return 0.0, False
    if sender.is_system(message, context) and signals & _SAYS:
        return (0.96 if "strong" in signals else 0.93), False
    if {"strong", "failed"} <= signals and sender.null_path(message, context):
        return 0.9, False
    if "stopped" in signals and _stopped_by_filter(message, context, prose):
        return 0.85, False
    if sender.is_exchange(message):
        named = mentions.find(prose, sender.parties(message))
        if any(m.tier == mentions.LINE_START for m in named):
            return 0.85, False
    if _opens_with_forward(prose) and (
        {"strong", "failed"} <= signals or (_forwards_system(prose) and signals & _SAYS)
    ):
        return 0.85, True
    if sender.is_daemon(message, context) and "done" not in signals and _names_and_returns(message, prose):
        return 0.85, False
    if "list" in signals and sender.is_list_manager(message):
        return 0.85, False
    if sender.is_mailer_daemon(message) and "done" not in signals and mentions.find(prose, sender.parties(message)):
        return 0.75, False  # in a language that we do not know
    if sender.is_system(message, context) and _says_why(message, prose):
        return 0.75, False
    shown = returned.find(message, "") is not None or sender.null_path(message, context)
    if "failed" in signals and shown and "failed" in _signals(message.subject[:_SUBJECT_CHARS]):
        return 0.8, False
    return 0.0, False


def _is_somebodys(message: Message, context: Context, prose: str, signals: set[str]) -> bool:
    """Tell whether a person speaks, or the notice is only quoted below own words: an absence that answers one."""
    nothing = returned.find(message, "") is None
    if "strong" not in signals and sender.is_personal(message, prose, context, returns_nothing=nothing):
        return True
    if sender.is_system(message, context):
        return False
    own = _QUOTED.sub("", prose)
    return own != prose and bool(own.strip()) and not _signals(own[:_TELLING_CHARS])


def _says_why(message: Message, prose: str) -> bool:
    """Tell whether a sentence names somebody and a cause, as "the mailbox of lena@dest.example is full" does."""
    named = mentions.find(prose[:_TELLING_CHARS], sender.parties(message))
    if len({mention.address.lower() for mention in named}) != 1 or sender.greets_or_asks(prose):
        return False
    begin, end = _sentence_around(prose, named[0].start, named[0].start)
    if _CONDITION.search(prose, begin, end):
        return False
    finding = explain(Facts(diagnostic=prose[begin:end], action="failed"))
    return finding.reason in _CAUSES and finding.confidence >= _PLAIN


def _sentence_around(text: str, start: int, end: int) -> tuple[int, int]:
    """Where the sentence begins and ends that holds a piece of a text."""
    begin = max((found.end() for found in _SENTENCE_ENDS.finditer(text, 0, start)), default=0)
    behind = _SENTENCE_ENDS.search(text, end)
    return begin, behind.start() if behind else len(text)


def _stopped_by_filter(message: Message, context: Context, prose: str) -> bool:
    """Tell whether a content filter speaks: no postmaster who writes a letter, and nobody at a filter's maker."""
    if sender.null_path(message, context):
        return sender.is_system(message, context) or not _about_nobody(message, prose)
    if sender.is_system(message, context):
        return not sender.is_letter(prose)
    return sender.is_filter(message) and not sender.greets_or_asks(prose) and not _about_nobody(message, prose)


def _first_about_list(prose: str) -> str:
    """The prose up to the paragraph that refuses, without whom to ask: behind it stand addresses to subscribe."""
    paragraphs = re.split(r"\n[ \t]*\n", _OF_LIST.sub("", prose))
    for number, paragraph in enumerate(paragraphs, 1):
        if "list" in _signals(paragraph):
            return "\n\n".join(paragraphs[:number])
    return "\n\n".join(paragraphs)


def _names_and_returns(message: Message, prose: str) -> bool:
    """Tell whether a line begins with an address and a message is returned: a notice in whatever language."""
    if returned.find(message, returned.before(message.text)[1]) is None:
        return False
    return any(m.tier == mentions.LINE_START for m in mentions.find(prose, sender.parties(message)))


def _about_nobody(message: Message, prose: str) -> bool:
    """Tell whether nothing is returned and no address but those of the letter's own parties is named."""
    return returned.find(message, "") is None and not mentions.find(prose, sender.parties(message))


def _action(message: Message, signals: set[str]) -> str:
    """What became of the message, in the words of RFC 3464 section 2.3.3."""
    if receipt := _receipt(message):
        return receipt
    if ("delivered" in signals or ("done" in signals and sender.is_exchange(message))) and not signals & _BUT:
        return "delivered"
    said = _signals(message.subject[:_SUBJECT_CHARS])
    late = ("delayed" in signals and "final" not in signals) or ("delayed" in said and "failed" not in said)
    return "delayed" if late else "failed"


def _signals(text: str) -> set[str]:
    return {hit.rule.label for hit in book().search(letters(text))}


def _said(text: str) -> tuple[Hit, ...]:
    """What a folded notice says. What it will say some day ("you will be told if the delivery fails") it does not."""
    hits = book().search(text)
    promise = next((hit for hit in hits if hit.rule.label == "promise"), None)
    if promise is None:
        return hits
    begin, end = _sentence_around(text, promise.start, promise.end)
    return book().search(text[:begin] + text[end:])


def _may_be_notice(message: Message, context: Context) -> bool:
    """Cheap test for what no mail system signs: a forwarding rule's copy, or a null path, and a telling subject."""
    if sender.is_list_manager(message):
        return True
    if "replied" in (message.headers.get("auto-submitted") or ""):  # so some reports say as well
        told = (message.subject[:_SUBJECT_CHARS], message.text[:_OPENING_CHARS])
        fails = sender.is_filter(message) or all("failed" in _signals(text) for text in told)
        return fails and sender.null_path(message, context)
    if "x-ms-exchange-inbox-rules-loop" in message.headers or sender.null_path(message, context):
        return True
    if sender.is_filter(message) or _SUBJECT_OF_FORWARD.match(message.subject):
        return True
    return "failed" in _signals(message.subject[:_SUBJECT_CHARS])


def _opens_with_forward(prose: str) -> bool:
    match = _FORWARD.search(prose)
    return match is not None and not prose[: match.start()].strip()


def _forwards_system(prose: str) -> bool:
    """Tell whether the From in a forwarded header is a mail system's."""
    found = _FORWARDED_FROM.search(prose[:2000])
    return found is not None and sender.is_system_name(found[1])


def _evidence(hits: tuple[Hit, ...], failed_header: tuple[str, ...]) -> list[Evidence]:
    evidence = [Evidence(hit.rule.id, "", -1, hit.text[:200]) for hit in hits]
    if failed_header:
        evidence.append(Evidence("ndr.x-failed-recipients", "", -1, failed_header[0][:200]))
    return evidence
