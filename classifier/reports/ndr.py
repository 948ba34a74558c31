"""Delivery notices in prose: what mail systems write that send no delivery-status part, in any language.

Two questions, kept apart. Is it one? A mail system's signature (sender, header fields, phrases that only such
systems use) and a statement of failure or delay must meet. About whom? The strongest kind of mention wins:
header field, address at the beginning of a line, address in a stating line, refused command, the returned copy.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from classifier import addresses
from classifier.context import Context
from classifier.mime import Headers, Message
from classifier.mime.headers import mailbox
from classifier.reports import returned
from classifier.reports.model import MAX_DIAGNOSTIC, MAX_RECIPIENTS, Case, Report
from classifier.rulebook import Rulebook, load_rules
from classifier.verdict import Evidence

MAX_PROSE = 64 * 1024
_RULES = Path(__file__).parent.parent / "rules" / "reports" / "notices.toml"
_SYSTEM_NAMES = re.compile(
    r"mail(?:er)?[ .-]?(?:delivery|daemon)|delivery (?:sub)?system|system administrator|microsoft outlook|jetmail|"
    r"mail system|postmaster|mail administrator|systemadministrator|mail deliver system|mail server|interscan|mailmarshal|"
    r"mailsweeper|mail (?:firewall|gateway|router|transport)|(?:e-?mail|content|spam) (?:filter|firewall|gateway)", re.IGNORECASE
)  # fmt: skip
_NOT_THEM = re.compile(
    r"(?:mail from|from|sender|sent by|reply-to|contact|help|please|return-path|absender|expéditeur|remitente|"
    r"отправитель|差出人|von|de|письмо|envelope-from|message-?id|in-reply-to|references|queue-?id|original address|"
    r"original recipient|(?:generated|expanded|forwarded|redirected) from)\s*:?\s*[\"'<(]*$|sorry,? $", re.IGNORECASE
)  # fmt: skip
_LABEL = re.compile(
    r"(?:(?:failed |final )?recipients?(?: address)?|rcpt to|failed address|to address|destinataires?|empfänger|destinatari[oa]s?|mottaker|alıcı|"
    r"получател[ьи]|odbiorca|ontvanger|address(?:ed)? to|宛先|送信先|收件人|not be delivered to|delivering your mail to|"
    r"deliver (?:(?:the |your )?(?:message|mail|e-mail) )?to|delivered to|delivery to|did not reach(?: the following recipient)?)"
    r"(?:\([^)]*\))?\s*:?\s*[\"'<(]*$", re.IGNORECASE
)  # fmt: skip
_COMMAND = re.compile(r"rcpt(?:\s+|_)to\s*:?\s*[\"'<]*$|\b[245]\d\d[ -][^\n]{0,40}$", re.IGNORECASE)
_FROM_ORIGINAL = re.compile(
    r"(?:\((?:expanded|generated|ultimately generated) from:? |original (?:address|recipient):? )[\"'<]*([^\s<>\"']+@[^\s<>\"')]+)",
    re.IGNORECASE,
)
_BARE_USER = re.compile(
    r"(?:could not be delivered because|not delivered to|(?:following|these) (?:recipients?|users?|address(?:es)?))[^\n]*\n"
    r"(?:[ \t]*\n){0,3}[ \t]*([A-Za-z0-9._-]{2,40})(?:[ \t]{2}|[ \t]*$)", re.MULTILINE | re.IGNORECASE
)  # fmt: skip
_UNDERSCORED = re.compile(r"\b[245]\d\d_[245]\.\d\.\d{1,3}_")
_TRANSCRIPT = re.compile(r"^(?:<<< .*|>>> .*|[245]\d\d[ -].*|\.\.\. while talking to .*)$", re.MULTILINE)
_FORWARD = re.compile(
    r"^(?:_{10,}|-{2,} ?(?:original message|forwarded message|ursprüngliche nachricht|message transféré)[ -]*|"
    r"(?:from|von|de): .+)$", re.IGNORECASE | re.MULTILINE
)  # fmt: skip


@cache
def book() -> Rulebook:
    """Compile the phrases of `rules/reports/notices.toml`, once."""
    return Rulebook(load_rules(_RULES, "signal"))


@dataclass(frozen=True, slots=True)
class _Mention:
    address: str
    tier: int
    start: int


def from_system(message: Message, context: Context) -> bool:
    """Tell whether a mail system signs this message: by sender, by name, by the null reverse-path with no person."""
    sender = message.from_address
    if addresses.is_machine(sender) or (sender in ("", "@") and "from" in message.headers):
        return True
    name = message.from_name or (message.headers.get("from") or "")
    if _SYSTEM_NAMES.search(name[:200]):
        return True
    path = message.headers.get("return-path")
    null = context.envelope_from == "" or (path is not None and path.strip() == "<>")
    return null and not addresses.valid(sender)


def find(message: Message, context: Context) -> Report | None:
    """Find a notice in prose; None where this is none."""
    if message.from_address == "no-reply@sns.amazonaws.com" or '"notificationType"' in message.text[:2000]:
        return _sns(message)
    headers = message.headers
    failed_header = headers.get_all("x-failed-recipients")
    ndr_header = bool(failed_header) or "x-ms-exchange-message-is-ndr" in headers
    status_report = "delivery-status" in message.root.params.get("report-type", "").lower()
    system = from_system(message, context)
    if not (ndr_header or status_report or system) and not _may_be_notice(message, context):
        return None
    prose, copied = returned.before(message.text)
    prose = prose[:MAX_PROSE]
    in_subject = {hit.rule.label for hit in book().search(message.subject.lower())}
    hits = book().search(f"{message.subject}\n{prose}".lower())
    signals = {hit.rule.label for hit in hits}
    forwarded = False
    if ndr_header or status_report:
        sure = 0.97
    elif system and signals & {"failed", "delayed", "strong"}:
        sure = 0.96 if "strong" in signals else 0.93
    elif _of_exchange(message) and not signals & {"done"} and any(m.tier == 1 for m in _mentions(prose, _parties(message))):
        sure = 0.85
    elif "strong" in signals and "failed" in signals and _opens_with_forward(prose):
        sure, forwarded = 0.85, True
    elif (
        "failed" in signals
        and (returned.find(message, "") is not None or null_path(message, context))
        and _subject_says(message)
    ):
        sure = 0.8
    else:
        return None
    copy = returned.find(message, copied)
    delayed = ("delayed" in signals and "final" not in signals) or ("delayed" in in_subject and "failed" not in in_subject)
    report = Report("ndr", [], sure)
    report.cases, report.names_people = _cases(message, prose, failed_header, copy, delayed, context)
    report.human_text, report.copied_text = prose[:8000], copied
    report.forwarded = forwarded
    report.evidence = [Evidence(hit.rule.id, "", -1, hit.text[:200]) for hit in hits]
    if failed_header:
        report.evidence.append(Evidence("ndr.x-failed-recipients", "", -1, failed_header[0][:200]))
    return report


def _of_exchange(message: Message) -> bool:
    """Exchange signs notices alike in every language: `Microsoft Outlook`, and a subject that begins with a word and a colon."""
    signed = message.from_name == "Microsoft Outlook" or message.from_address.lower().startswith("microsoftexchange")
    return signed and ":" in message.subject[1:60]


def _parties(message: Message) -> set[str]:
    return {a.address.lower() for f in ("to", "from") for a in addresses.find(message.headers.get(f) or "", 20)}


def null_path(message: Message, context: Context) -> bool:
    """Tell whether the message is known to have come with the null reverse-path (RFC 5321 section 4.5.5)."""
    return context.envelope_from == "" or (message.headers.get("return-path") or "").strip() == "<>"


def _subject_says(message: Message) -> bool:
    return any(hit.rule.label == "failed" for hit in book().search(message.subject.lower()))


def _may_be_notice(message: Message, context: Context) -> bool:
    """Cheap test for what no mail system signs: a forwarding rule's copy, or a null path, and a telling subject."""
    if "auto-submitted" in message.headers and "replied" in (message.headers.get("auto-submitted") or ""):
        return False
    if "x-ms-exchange-inbox-rules-loop" in message.headers or null_path(message, context):
        return True
    return _subject_says(message)


def _opens_with_forward(prose: str) -> bool:
    match = _FORWARD.search(prose)
    return match is not None and not prose[: match.start()].strip()


def _sns(message: Message) -> Report | None:
    """Read the JSON that Amazon SES sends by SNS; mail clients wrap it, so line breaks are taken out first."""
    text = message.text.replace("!\n ", "").replace("\n", "")
    try:
        data, _ = json.JSONDecoder().raw_decode(text[text.index("{") :])
        notice = data if isinstance(data, dict) else {}
        if isinstance(notice.get("Message"), str):
            notice = json.loads(notice["Message"])
        bounce = notice.get("bounce") or {}
        delivered = notice.get("delivery") or {}
        people = bounce.get("bouncedRecipients") or [{"emailAddress": a} for a in delivered.get("recipients") or []]
        action = "failed" if bounce else "delivered"
        cases = [
            Case(
                address=str(p.get("emailAddress", "")) or None, action=str(p.get("action") or action),
                status=p.get("status"), diagnostic=str(p.get("diagnosticCode") or delivered.get("smtpResponse") or "").removeprefix("smtp; "),
            )
            for p in people[:MAX_RECIPIENTS]
        ]  # fmt: skip
    except (ValueError, TypeError, AttributeError, RecursionError, KeyError):
        return None
    if not cases:
        return None
    evidence = [Evidence("ndr.ses-notification", "1", -1, text[:200])]
    return Report("ndr.ses", cases, 0.97, reporting_mta=str(bounce.get("reportingMTA", "")) or None, evidence=evidence)


def _cases(
    message: Message, prose: str, failed_header: list[str], copy: Headers | None, delayed: bool, context: Context
) -> tuple[list[Case], bool]:
    """One case a recipient, and whether the notice itself names any."""
    senders = _parties(message)
    if copy is not None:
        senders |= {
            a.address.lower() for f in ("from", "return-path", "sender") for a in addresses.find(copy.get(f) or "", 5)
        }
    named = [a.address for value in failed_header for a in addresses.find(value)]
    mentions = _mentions(prose, senders)
    if named:
        wanted = list(dict.fromkeys(named))
    else:
        best = min((m.tier for m in mentions), default=9)
        wanted = list(dict.fromkeys(m.address for m in mentions if m.tier == best))
    names_people = bool(wanted)
    if not wanted:
        wanted = _from_elsewhere(message, prose, copy, context)
    places = sorted((m.start, m.address.lower()) for m in mentions if m.tier <= 2)
    cases = []
    for address in wanted[:MAX_RECIPIENTS]:
        chunk = _about(prose, address, places) if len(wanted) <= 200 else ""
        if _UNDERSCORED.search(chunk):
            chunk = chunk.replace("_", " ")
        case = Case(address=address, action="delayed" if delayed else "failed", diagnostic=chunk[:MAX_DIAGNOSTIC])
        origin = _FROM_ORIGINAL.search(chunk)
        if origin and addresses.valid(origin[1]) and origin[1].lower() != address.lower():
            case.original = origin[1]
        cases.append(case)
    cases = cases or [Case(action="delayed" if delayed else "failed", diagnostic=prose[:MAX_DIAGNOSTIC])]
    return cases, names_people


def _mentions(prose: str, senders: set[str]) -> list[_Mention]:
    found: list[_Mention] = []
    for hit in addresses.find(prose, MAX_RECIPIENTS):
        if addresses.is_machine(hit.address):
            continue
        line = prose.rfind("\n", 0, hit.start) + 1
        lead = prose[max(line, hit.start - 160) : hit.start]
        if _NOT_THEM.search(lead) and not _LABEL.search(lead):
            continue
        if not lead.strip(" \t\"'<>*-•[("):
            tier = 1
        elif _LABEL.search(lead):
            tier = 3 if lead.strip().lower() in ("to:", "rcpt to:") else 2
        elif _COMMAND.search(lead):
            tier = 4
        else:
            tier = 5
        if hit.address.lower() in senders:
            tier += 5 if tier > 1 else 2
        found.append(_Mention(hit.address, tier, hit.start))
    return [m for m in found if m.tier < 9]


def _from_elsewhere(message: Message, prose: str, copy: Headers | None, context: Context) -> list[str]:
    """Who it was about where the notice does not say: the envelope's token, then the one address of the copy."""
    for target in context.envelope_to:
        token = addresses.return_path_token(target, context.patterns)
        if token and token.address:
            return [token.address]
    domain = message.from_address.rpartition("@")[2]
    bare = _BARE_USER.search(prose)
    if bare and domain:
        return [f"{bare[1]}@{domain}"]
    if copy is not None:
        for name in ("x-failed-recipients", "delivered-to", "to"):
            people = [mailbox(v)[1] for v in (copy.get(name) or "").split(",")[:3]]
            if len(people) == 1 and addresses.valid(people[0]):
                return people
    return []


def _about(prose: str, address: str, places: list[tuple[int, str]]) -> str:
    """Give the text that belongs to one recipient: from its mention to the next one's, or the transcript's lines."""
    low = address.lower()
    pieces = []
    for i, (start, who) in enumerate(places):
        if who == low:
            end = next((s for s, w in places[i + 1 :] if w != low), len(prose))
            pieces.append(prose[start : min(end, start + 1500)].strip())
    pieces = [p for p in pieces if len(p) > len(address) + 12]
    text = max(pieces, key=len) if pieces else ""
    lines = [line for line in _TRANSCRIPT.findall(prose[:20_000]) if low in line.lower() or line.startswith("<<<")]
    if lines and not text.count("\n") > 1:
        text = "\n".join([text, *lines[:20]]).strip()
    return text
