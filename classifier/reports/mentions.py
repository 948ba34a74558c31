"""Whom a notice in prose is about: the strongest kind of mention wins.

In order: the X-Failed-Recipients field, an address at the beginning of a line, one behind a label, a refused command,
any other; then what stands elsewhere: our own token in the envelope, a bare user name, the one address of the copy.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from classifier import addresses
from classifier.context import Context
from classifier.fold import fold
from classifier.mime import Headers, Message
from classifier.mime.headers import mailbox
from classifier.reasons.stage import named_in
from classifier.reports import sender
from classifier.reports.model import MAX_RECIPIENTS, Case, Report, cut

LINE_START, LABELLED, WEAKLY_LABELLED, IN_COMMAND, ELSEWHERE, OF_SOMEBODY, NOT_MEANT = 1, 2, 3, 4, 5, 6, 9

# What stands before an address that is somebody else's: the sender's, a helper's, a message's id.
_OTHERS = (
    r"mail from|from|sender|sent by|reply-to|return-path|envelope-from",
    r"contact|help|please(?: (?:try|use|contact))?|(?:has )?moved to|new (?:e-?mail )?address(?: is)?",
    r"original address|original recipient|(?:generated|expanded|forwarded|redirected) from",
    r"message-?id|in-reply-to|references|queue-?id",
    r"absender|von:|expéditeur|de:|remitente|отправитель|письмо|差出人",
)
# What stands before the address of whom it is about.
_LABELS = (
    r"(?:failed |final )?recipients?(?: address)?|rcpt to|failed address|to address|address(?:ed)? to",
    r"not be delivered to|deliver(?:ing)? (?:(?:the |your )?(?:message|mail|e-mail) )?to",
    r"(?:mailing )?list,?|duplicated message-id in",
    r"delivered to|delivery to|did not reach(?: the following recipient)?",
    r"destinataires?|destinatari[oa]s?|destinatar(?:ul|ii)?|à destination de",
    r"empfänger(?:adresse)?|ontvanger|mottaker|mottagare|modtager|viðtakandi|vastaanottaja",
    r"odbiorca|adresát|příjemce|príjemca|címzett|primatelj|primalac|prejemnik|alıcı|παραλήπτης",
    r"получател[ьи]|адресат|одержувач|отримувач|прималац",
    r"宛先|送信先|受信者|收件人|收件者|수신자|받는 ?사람|ผู้รับ|người nhận|penerima|المستلم|הנמען",
)
_OTHERS_BEFORE = re.compile(rf"(?:{'|'.join(_OTHERS)})\s*:?\s*[\"'<(]*$|sorry,? $", re.IGNORECASE)
_LABEL_BEFORE = re.compile(rf"(?:{'|'.join(_LABELS)})(?:\([^)]*\))?\s*[:：=]?\s*[\"'<(]*$", re.IGNORECASE)
# A preposition alone: whose it is, or (as in "à destination de") to whom it goes.
_OF_BEFORE = re.compile(r"\b(?:de|von)\s{1,4}[\"'<(]*$", re.IGNORECASE)
_COMMAND_BEFORE = re.compile(r"rcpt(?:\s+|_)to\s*:?\s*[\"'<]*$|\b[245]\d\d[ -][^\n]{0,40}$", re.IGNORECASE)
_MANY = 200  # recipients: beyond that each one's text is not looked for, since the work would be quadratic
_WEAK_LABELS = ("to:", "rcpt to:")
_CODED = re.compile(r"^[245]\d\d-(?=[^@]+@)")  # a reply's continued line: "550-lena@dest.example"
_BULLETS = " \t\"'<>*-•[("

_FROM_ORIGINAL = re.compile(
    r"(?:\((?:expanded|generated|ultimately generated) from:? |original (?:address|recipient):? )[\"'<]*"
    r"([^\s<>\"']+@[^\s<>\"')]+)",
    re.IGNORECASE,
)
_BARE_USER = re.compile(
    r"(?:could not be delivered because|not delivered to|(?:following|these) (?:recipients?|users?|address(?:es)?))"
    r"[^\n]*\n(?:[ \t]*\n){0,3}[ \t]*([A-Za-z0-9._-]{2,40})(?:[ \t]{2}|[ \t]*$)",
    re.MULTILINE | re.IGNORECASE,
)
# qmail's log form of a reply: "Remote_host_said:_550_5.1.1_user_unknown/Giving_up_on_192.0.2.1./"
_UNDERSCORED = re.compile(r"(?:\b[245]\d\d|[245]\.\d\.\d{1,3}|said:|_does_not_like)_\S*_")
_TRANSCRIPT = re.compile(r"^(?:<<< .*|>>> .*|[245]\d\d[ -].*|\.\.\. while talking to .*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Mention:
    """An address in the prose: how strong a mention (1 is strongest) and where it begins."""

    address: str
    tier: int
    start: int


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice as read so far: its prose, whom its X-Failed-Recipients name, and the copy that it returns."""

    message: Message
    prose: str
    failed_header: tuple[str, ...]
    copy: Headers | None
    action: str


def cases(notice: Notice, context: Context) -> tuple[list[Case], bool]:
    """Give one case a recipient, and whether the notice itself names any."""
    mentions = find(notice.prose, _senders(notice))
    wanted = [a.address for value in notice.failed_header for a in addresses.find(value)]
    if not wanted:
        best = min((m.tier for m in mentions), default=NOT_MEANT)
        wanted = [m.address for m in mentions if m.tier == best]
    named = bool(wanted)
    wanted = list(dict.fromkeys(wanted)) or _from_elsewhere(notice, context)
    if not wanted:
        return [Case(action=notice.action, diagnostic=cut(notice.prose))], False
    places = sorted((m.start, m.address.lower()) for m in mentions if m.tier <= LABELLED)
    few = len(wanted) <= _MANY
    return [
        _case(address, _about(notice.prose, address, places) if few else "", notice.action)
        for address in wanted[:MAX_RECIPIENTS]
    ], named


def quote(report: Report, prose: str) -> None:
    """Give cases without a diagnostic the reply that the prose quotes for them (Exim and OpenSMTPD leave it there)."""
    without = [case for case in report.cases if case.address and not case.diagnostic]
    if not without or len(report.cases) > _MANY:
        return
    places = sorted((m.start, m.address.lower()) for m in find(prose, set()) if m.tier <= LABELLED)
    for case in without:
        lead, reply = reply_in(_about(prose, case.address or "", places))
        if reply:
            case.diagnostic, case.stage = cut(reply), named_in(fold(lead))


def name(report: Report, notice: Notice, context: Context) -> None:
    """Say whom a report is about whose only recipient's field is lost (cut short), where the prose names one."""
    if len(report.cases) == 1 and not report.cases[0].address:
        told, named = cases(notice, context)
        if named and len(told) == 1:
            report.cases[0].address = told[0].address


def lists(notice: Notice) -> bool:
    """Tell whether the prose lists whom it is about: each at the beginning of a line, or behind a label."""
    return any(mention.tier <= LABELLED for mention in find(notice.prose, _senders(notice)))


def find(prose: str, senders: set[str]) -> list[Mention]:
    """Give the addresses that may be recipients; `senders` (lower case) are so only by a strong mention."""
    found: list[Mention] = []
    for hit in addresses.find(prose, MAX_RECIPIENTS):
        if addresses.is_machine(hit.address):
            continue
        line = prose.rfind("\n", 0, hit.start) + 1
        tier = _tier(prose[max(line, hit.start - 160) : hit.start])
        address = _CODED.sub("", hit.address)
        if address.lower() in senders:
            tier += 5 if tier > LINE_START else 2
        if tier < NOT_MEANT:
            found.append(Mention(address, tier, hit.start))
    return found


def _tier(lead: str) -> int:
    """How strong a mention is, by what stands before it in its line."""
    label = _LABEL_BEFORE.search(lead)
    if _OTHERS_BEFORE.search(lead) and not label:
        return NOT_MEANT
    if not lead.strip(_BULLETS):
        return LINE_START
    if label:
        return WEAKLY_LABELLED if lead.strip().lower() in _WEAK_LABELS else LABELLED
    if _COMMAND_BEFORE.search(lead):
        return IN_COMMAND
    return OF_SOMEBODY if _OF_BEFORE.search(lead) else ELSEWHERE


def _senders(notice: Notice) -> set[str]:
    senders = sender.parties(notice.message)
    if notice.copy is not None:
        for field in ("from", "return-path", "sender"):
            senders.update(a.address.lower() for a in addresses.find(notice.copy.get(field) or "", 5))
    return senders


# Where a quoted reply begins: at the beginning of a line, behind a colon or a quotation mark.
_REPLY = re.compile(
    r"(?:^[ \t>*|]{0,12}(?:<<< ?|#)?|[:：'\"(] ?|(?:said|returned|was|reason|response|answered|error)\s{1,8})"
    r"(?=[45][0-5]\d(?:[ -]#?[245]\.\d{1,3}\.\d{1,3}\b|[ -][^\d\s]|$))",
    re.MULTILINE | re.IGNORECASE,
)
_PARAGRAPH = re.compile(r"\n[ \t>|]*\n")


def reply_in(text: str) -> tuple[str, str]:
    """Split what is said of one recipient: (what leads to the server's reply, the reply; "" where none is quoted)."""
    begin = _REPLY.search(text)
    if begin is None:
        return text, ""
    end = _PARAGRAPH.search(text, begin.end())
    reply = text[begin.end() : end.start() if end else len(text)]
    quote = text[begin.end() - 1 : begin.end()]
    if quote in ("'", '"') and quote in reply:
        reply = reply[: reply.rindex(quote)]
    return text[: begin.start()], _closed(reply).strip(" #\n\t")


def _closed(reply: str) -> str:
    """Cut a reply at the parenthesis that closes what stands before it: "(reason: 550 User unknown)"."""
    depth = 0
    for bracket in re.finditer(r"[()]", reply):
        depth += 1 if bracket[0] == "(" else -1
        if depth < 0:
            return reply[: bracket.start()]
    return reply


def _case(address: str, text: str, action: str) -> Case:
    if _UNDERSCORED.search(text):
        text = text.replace("_", " ").replace("./", ". ")
    lead, reply = reply_in(text)
    case = Case(address=address, action=action, diagnostic=cut(reply or text), stage=named_in(fold(lead)))
    origin = _FROM_ORIGINAL.search(text)
    if origin and addresses.valid(origin[1]) and origin[1].lower() != address.lower():
        case.original = origin[1]
    return case


def _from_elsewhere(notice: Notice, context: Context) -> list[str]:
    """Whom it was about where the notice does not say: the envelope's token, then the one address of the copy."""
    for target in context.envelope_to:
        token = addresses.return_path_token(target, context.patterns)
        if token and token.address:
            return [token.address]
    domain = notice.message.from_address.rpartition("@")[2]
    bare = _BARE_USER.search(notice.prose)
    if bare and domain:
        return [f"{bare[1]}@{domain}"]
    if notice.copy is not None:
        for name in ("x-failed-recipients", "delivered-to", "to"):
            people = [mailbox(v)[1] for v in (notice.copy.get(name) or "").split(",")[:3]]
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
