"""Delivery status notifications (RFC 3464, RFC 6533), wherever they stand in the tree and however bent.

The per-recipient groups are read by their field names rather than by the blank lines between them, since many
systems lose or add those. Fields found in a text part (reports flattened by a mail client) count the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from classifier import addresses
from classifier.mime import Message, Part
from classifier.mime.encodings import header_text
from classifier.mime.message import EMBEDDED
from classifier.reports.model import MAX_RECIPIENTS, Case, Report, cut
from classifier.verdict import Evidence

STATUS_TYPES = frozenset({"message/delivery-status", "message/global-delivery-status", "text/delivery-status"})
MAX_FIELDS = 15 * MAX_RECIPIENTS
_EVIDENCE_CASES = 50  # offsets are mapped for so many recipients; the rest go without
_ACTIONS = {
    "failed": "failed", "failure": "failed", "fail": "failed", "error": "failed", "expired": "failed",
    "bounced": "failed", "delayed": "delayed", "delay": "delayed", "deferred": "delayed", "delivered": "delivered",
    "deliverable": "delivered", "success": "delivered", "relayed": "relayed", "expanded": "expanded",
}  # fmt: skip
_FIELD = re.compile(rb"^[ \t]{0,8}([A-Za-z][A-Za-z0-9-]{2,60})[ \t]*:(.*(?:\n[ \t]+\S.*)*)", re.MULTILINE)
_INDENT = re.compile(rb"\n{0,4}([ \t>]{1,8})[A-Za-z]")  # of a report that a mail client quoted as a whole
_RECIPIENT_FIELDS = frozenset(
    {"final-recipient", "original-recipient", "action", "status", "remote-mta", "diagnostic-code", "last-attempt-date",
     "final-log-id", "will-retry-until", "x-actual-recipient", "x-display-name", "x-supplementary-info", "x-notes"}
)  # fmt: skip
_TELLING = frozenset({"final-recipient", "action", "status", "diagnostic-code"})  # quoted as evidence
_STATUS = re.compile(r"\b([245])\.(\d{1,3})\.(\d{1,3})\b")
_COMMENT = re.compile(r"\([^()]*\)")
_CODE = re.compile(r"\b([245]\d\d)\b")


def find(message: Message) -> Report | None:
    """Find the message's own report: the least embedded delivery-status part, else its fields in a text part."""
    part, forwarded = _status_part(message)
    if part is not None:
        report = _read(message, part, part.decoded(), part.body_offset)
        if report is not None:
            report.forwarded = forwarded
            report.cut_short = not forwarded and _is_cut(message, part)
            return report
    if b"inal-Recipient" not in message.data and b"inal-recipient" not in message.data[:200_000].lower():
        return None
    return _flattened(message)


def _is_cut(message: Message, part: Part) -> bool:
    """Tell whether the message ends within this part of a multipart: no delimiter follows."""
    return part is not message.root and part.body_offset >= 0 and part.body_offset + part.size == len(message.data)


def _status_part(message: Message) -> tuple[Part | None, bool]:
    """The least deep of our own delivery-status parts, else of those in embedded messages (then True)."""
    level, embedded = [message.root], list[Part]()
    for outer in (True, False):
        while level:
            below: list[Part] = []
            for part in level:
                if part.content_type in STATUS_TYPES or (
                    part.content_type.startswith("message/") and part.content_type.endswith("delivery-status")
                ):
                    return part, not outer
                if part.content_type in EMBEDDED and outer:
                    embedded.append(part)
                else:
                    below.extend(part.children)
            level = below
        level = [child for part in embedded for child in part.children]
    return None, False


def _flattened(message: Message) -> Report | None:
    """Read the fields from a text part: `Final-Recipient` must be there, and an Action or a Status with it."""
    for part in message.walk():
        if part.content_type in EMBEDDED:
            return None
        if part.children or not part.content_type.startswith(("text/", "multipart/", "message/", "application/octet")):
            continue
        data = part.text.encode("utf-8", "replace")
        lowered = data.lower()
        at = lowered.find(b"inal-recipient:")
        if at < 0 or (b"\naction:" not in lowered and b"\nstatus:" not in lowered and b" action:" not in lowered):
            continue
        for start in (b"\nreporting-mta:", b"\nreturn-path: <>"):
            begin = lowered.find(start)
            if 0 <= begin < at:
                at = begin
        end = len(data)
        for stop in (b"\nreceived:", b"\nreturn-path:", b"\ncontent-type: message/rfc822", b"\nfrom:", b"\n--"):
            cut = lowered.find(stop, at + 20)
            if cut > 0:
                end = min(end, cut)
        begin = data.rfind(b"\n", 0, at) + 1
        report = _read(message, part, data[begin:end], -1)
        if report is not None:
            report.rule = "dsn.flattened"
            return report
    return None


def _fields(data: bytes) -> Iterator[tuple[str, bytes, int]]:
    for match in islice(_FIELD.finditer(data), MAX_FIELDS):
        yield match[1].decode("ascii").lower(), match[2], match.start()


def _read(message: Message, part: Part, data: bytes, base: int) -> Report | None:
    report = Report("dsn", [], 0.99)
    case: Case | None = None
    seen: set[str] = set()
    offset = base if part.encoding not in ("base64", "quoted-printable") else -1
    if indent := _INDENT.match(data):
        data, offset = re.sub(rb"^" + re.escape(indent[1]), b"", data, flags=re.MULTILINE), -1
    for name, body, at in _fields(data):
        if name not in _RECIPIENT_FIELDS:
            _message_field(report, name, body)
            continue
        if case is None or _starts_group(name, seen, after_blank=data[max(at - 2, 0) : at] == b"\n\n"):
            if len(report.cases) >= MAX_RECIPIENTS:
                report.evidence.append(Evidence("dsn.recipients-capped", part.path, -1, str(MAX_RECIPIENTS)))
                break
            case = Case()
            seen = set()
            report.cases.append(case)
        if name in seen and name not in ("diagnostic-code", "x-supplementary-info"):
            continue
        _case_field(case, name, header_text(body), name in seen)
        seen.add(name)
        if len(report.cases) <= _EVIDENCE_CASES and name in _TELLING:
            quoted = header_text(data[at : at + 300].split(b"\n", 1)[0])[:200]
            where = message.raw_offset(offset + at) if offset >= 0 else -1
            case.evidence.append(Evidence(f"dsn.field.{name}", part.path, where, quoted))
    report.cases = [c for c in report.cases if c.address or c.original or c.action or c.status or c.diagnostic]
    if not report.cases:
        return None
    report.evidence.append(Evidence("dsn.part", part.path, message.raw_offset(part.offset), part.content_type))
    return report


def _starts_group(name: str, seen: set[str], *, after_blank: bool) -> bool:
    """Whether this field opens the next recipient's group, where blank lines may be lost or added.

    Original-Recipient stands before Final-Recipient (RFC 3464 section 2.3) or, as Postfix writes it, after.
    """
    if name not in ("final-recipient", "original-recipient"):
        return False
    complete = not seen.isdisjoint(("action", "status")) and "final-recipient" in seen
    return name in seen or (after_blank and complete)


def _message_field(report: Report, name: str, body: bytes) -> None:
    if name == "reporting-mta":
        report.reporting_mta = _typed(header_text(body))[1] or None
    elif name == "original-envelope-id":
        report.envelope_id = addresses.from_xtext(header_text(body)) or None


def _case_field(case: Case, name: str, text: str, again: bool) -> None:
    if name == "final-recipient":
        case.address = recipient(text)
    elif name == "original-recipient":
        case.original = recipient(text)
    elif name == "x-actual-recipient":
        actual = recipient(text)
        if case.address is None or not addresses.valid(case.address):
            case.address = actual or case.address
    elif name == "action":
        word = text.strip().lower()
        case.action = _ACTIONS.get(re.split(r"[^a-z]", word, maxsplit=1)[0])
    elif name == "status":
        match = _STATUS.search(text)
        if match:
            case.status = match[0]
        comment = _COMMENT.search(text)
        if comment and not case.diagnostic and len(comment[0]) > 12:
            case.diagnostic = comment[0][1:-1]
    elif name == "remote-mta":
        case.remote_mta = _typed(text)[1][:255] or None
    elif name == "diagnostic-code":
        _diagnostic(case, text, again)
    elif name in ("x-supplementary-info", "x-notes") and text:
        case.diagnostic = cut(f"{case.diagnostic}\n{text}".strip())


def _diagnostic(case: Case, text: str, again: bool) -> None:
    kind, value = _typed(text)
    if kind == "x-unix":
        value = f"{kind}; {value}"  # a program's exit status says nothing by itself
    case.diagnostic = cut(f"{case.diagnostic}\n{value}" if again else value)
    if kind == "smtp" and (code := _CODE.match(value)):
        case.reply_code = int(code[1])


def _typed(text: str) -> tuple[str, str]:
    """Split `type; value` (RFC 3464 section 2.1.2); ("", text) where the type is missing."""
    head, semicolon, value = text.partition(";")
    if semicolon and len(head) < 40 and "@" not in head and " " not in head.strip():
        return head.strip().lower(), value.strip()
    return "", text.strip()


def recipient(text: str) -> str | None:
    """Read a recipient field's address; what is no mail address (X.400, a local name) stays as it is written."""
    kind, value = _typed(text)
    if kind == "x400":
        return f"x400; {value}"[:320]
    if not kind and value.lower().startswith("rfc822"):
        value = value[6:].lstrip(" :;,")
    value = value.strip()
    if "=?" in value:
        value = header_text(value.encode("utf-8", "replace"))
    if "\\x{" in value:
        value = addresses.from_xtext(value)
    if kind == "rfc822" and "+40" in value and "@" not in value:
        value = addresses.from_xtext(value)
    plain = addresses.clean(_COMMENT.sub("", value) if "(" in value and not value.startswith('"') else value)
    if addresses.valid(plain):
        return plain
    for found in addresses.find(value, 1):
        return found.address
    return plain[:320] or None
