"""Phishing that dresses up as a delivery notice: what a mail system never writes, and what it never leaves out.

A genuine notice says whom it did not reach or returns what was sent; it never asks for a click to keep a password,
to release messages or to enlarge a mailbox. What names nobody, returns nothing and wants a link followed is no notice.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from classifier.context import Context
from classifier.fold import letters
from classifier.mime import Headers, Message
from classifier.reports import sender
from classifier.reports.model import Report
from classifier.rule import load_rules
from classifier.rulebook import Rulebook
from classifier.spelling import folded
from classifier.verdict import Evidence

_RULES = Path(__file__).parent.parent / "rules" / "reports" / "lures.toml"
_LINK = re.compile(
    rb"href\s{0,4}=\s{0,4}[\"']?\s{0,4}(?:https?://|//|data:)[^\s\"'<>]{1,120}|https?://[^\s\"'<>]{1,120}",
    re.IGNORECASE,
)
_PROGRAM = re.compile(
    r"\.(?:exe|scr|pif|com|bat|cmd|vbs?|js|jse|lnk|hta|iso|img|html?|shtml|zip|rar|7z|ace|gz)$", re.IGNORECASE
)
_PARAGRAPHS = re.compile(r"\n[ \t]*\n")
_REPLY = re.compile(r"\b[45]\d\d[ -]#?[245]\.\d{1,3}\.\d{1,3}\b|\b[45][0-5]\d[ -][A-Za-z<]")
_SCRIPTS = ("x-php-originating-script", "x-php-script", "x-source-args")
_SEARCHED = 64 * 1024
_PASSWORD = "forged.lure.password"  # noqa: S105  # a rule's id


@cache
def book() -> Rulebook:
    """Compile the phrases of `rules/reports/lures.toml`, once."""
    return Rulebook(folded(rule) for rule in load_rules(_RULES, "signal"))


def find(message: Message, report: Report, copy: Headers | None, context: Context) -> tuple[Evidence, ...]:
    """Say what shows that a notice in prose is forged; empty where it may well be genuine."""
    if report.rule != "ndr" or copy is not None or "x-failed-recipients" in message.headers:
        return ()
    named, null = report.names_people, sender.null_path(message, context)
    # What a server said ("your email has been blocked, see https://...") is no lure of the notice's.
    said = _without_replies(report.human_text) if named else report.human_text
    lures = book().search(letters(f"{message.subject}\n{said}"))
    link = _link(message)
    if named and null:  # nobody else may send so; but no notice ever asks for a password
        lures = tuple(hit for hit in lures if hit.rule.id == _PASSWORD)
        if not (lures and link):
            return ()
    found = [Evidence(hit.rule.id, "", -1, hit.text[:200]) for hit in lures]
    if link:
        found.append(Evidence("forged.link", "", -1, link))
    if not named:
        found.append(Evidence("forged.nobody-named"))
    script = next((name for name in _SCRIPTS if name in message.headers), None)
    if script:
        found.append(Evidence("forged.sent-by-script", "", -1, script))
    program = "" if named else _program(message)
    if program:
        found.append(Evidence("forged.attachment", "", -1, program))
    strong = any(e.rule.startswith("ndr.strong") for e in report.evidence)
    asks = bool(lures and link) and not (strong and _names_another(message, report))
    page = "" if null or script else _program(message)  # whoever it names: mail systems attach no page to sign in on
    if lures and page and not program:
        found.append(Evidence("forged.attachment", "", -1, page))
        asks = True
    hollow = not named and not null and ((link and not strong) or script or program)
    return tuple(found) if asks or hollow else ()


def _names_another(message: Message, report: Report) -> bool:
    """Tell whether it is about somebody else than whom it is for: your own mailbox is what phishing speaks of."""
    parties = sender.parties(message)
    return report.names_people and any(case.address and case.address.lower() not in parties for case in report.cases)


def _without_replies(prose: str) -> str:
    return "\n\n".join(part for part in _PARAGRAPHS.split(prose) if not _REPLY.search(part))


def _link(message: Message) -> str:
    for part in message.walk():
        if part.content_type.startswith("text/") and part.disposition != "attachment":
            found = _LINK.search(part.decoded(_SEARCHED))
            if found:
                return found[0].decode("utf-8", "replace")[:200]
    return ""


def _program(message: Message) -> str:
    names = (part.filename or "" for part in message.walk())
    return next((name[:200] for name in names if _PROGRAM.search(name)), "")
