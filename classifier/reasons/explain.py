"""The judgement: one recipient's facts in, one finding out.

What decides, strongest first; within one tier the rule's `rank`, then the longer match:

    5  the receiver's own rule (rank 75 and up: its private codes; its plainer phrases compete with the general ones)
    4  a general rule, in the refusal's text (rank 30 and up)
    3  the same in the report's prose, where the refusal carries no telling code of its own
    2  a telling code (x.2.2 is a full mailbox, whatever "requested action aborted" says)
    1  a vague phrase (rank below 30), in the refusal or in the prose
    0  a vague code (x.0.0, x.7.1, x.4.7), or the bare reply code

A final refusal whose words and codes are all vague is read by the command that it answered (`_BY_STAGE`).

So text beats code wherever the text says something, and `expired` (rank 10) is what remains when no cause is told.
Nothing here raises, and the work is linear in texts cut at MAX_DIAGNOSTIC and MAX_PROSE.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

from classifier.reasons import stage
from classifier.reasons.book import Book, CodeDefault, load_book
from classifier.reasons.codes import Code, best_code, enhanced_codes, reply_code, specificity, valid_status
from classifier.reasons.facts import Facts, Finding
from classifier.reasons.text import MAX_DIAGNOSTIC, MAX_PROSE, Text
from classifier.rulebook import Hit
from classifier.verdict import REASONS, Evidence, Reason

RECEIVER, TEXT, PROSE, CODE, VAGUE_TEXT, VAGUE_CODE = 5, 4, 3, 2, 1, 0
_LOST_SHOWN = 3
VAGUE_RANK = 30  # rules ranked below state no cause
OWN_RANK = 75  # receivers' rules ranked below are phrases that others use as well

# Calibrated on labelled mail: see "Confidence" in docs/classifier.md.
CONFIDENCE = {RECEIVER: 0.97, TEXT: 0.93, PROSE: 0.9, CODE: 0.85, VAGUE_TEXT: 0.7, VAGUE_CODE: 0.5}
AGREED, CONTRADICTED = 0.97, 0.9  # a text whose telling code says the same, or something else

# A line of a notice that begins the part about one recipient: "<a@b.example>: host ... said: ...".
_ADDRESS_LINE = re.compile(
    r"\s{0,8}(?:\d{1,4}[.)] |[*•-] )?<?([^\s<>@:,;]{1,64}@[\w.\[\]-]{1,255}?)>?(?::|\.\.\.|\s|$)", re.ASCII
)
# What we may say of the status where nothing states one, and the reason is plain (RFC 3463 sections 3.2 to 3.8).
_DERIVED = {
    Reason.BAD_MAILBOX: "1.1", Reason.BAD_DOMAIN: "1.2", Reason.MOVED: "1.6", Reason.NO_MAIL_DOMAIN: "1.10",
    Reason.MAILBOX_FULL: "2.2", Reason.DISABLED: "2.1", Reason.SUSPENDED: "2.1", Reason.SYSTEM_FULL: "3.1",
    Reason.TOO_LARGE: "3.4", Reason.EXPIRED: "4.7", Reason.TOO_MANY_RECIPIENTS: "5.3", Reason.PTR_MISSING: "7.25",
}  # fmt: skip


class _Candidate(NamedTuple):
    tier: int
    rank: int
    length: int
    reason: Reason
    confidence: float
    evidence: Evidence
    source: str  # diagnostic, prose or code
    start: int = 0

    @property
    def weight(self) -> tuple[int, int, int, int]:
        return self.tier, self.rank, self.source == "diagnostic", self.length


# A delay that names no cause: by far most are hosts that do not answer, or not yet.
_UNTOLD_DELAY = _Candidate(VAGUE_CODE, 30, 0, Reason.NETWORK, 0.4, Evidence("action.delayed", text="delayed"), "code")
# Whom a refusal that says nothing more concerns, by the command that it answered (RFC 5321 section 3.3): before MAIL
# nothing but the client is known, after MAIL the sender, after RCPT the recipient, after the final dot the message.
_BY_STAGE = {
    "connect": Reason.IP_BLOCK, "helo": Reason.IP_BLOCK, "mail": Reason.SENDER_REJECTED,
    "rcpt": Reason.RECIPIENT_REFUSED, "data": Reason.CONTENT_POLICY,
}  # fmt: skip
_NO_CAUSE = frozenset({Reason.SECURITY, Reason.CONTENT_POLICY, Reason.UNKNOWN})
# What is said in answer to MAIL FROM is never about the recipient (RFC 5321 section 3.3).
_OF_SENDERS = (".1.7", ".1.8")  # RFC 3463 section 3.2: the sender's mailbox or system address
_OF_RECIPIENTS = frozenset({Reason.BAD_MAILBOX, Reason.BAD_DOMAIN, Reason.NO_MAIL_DOMAIN, Reason.RECIPIENT_REFUSED})


@dataclass(frozen=True, slots=True)
class _Codes:
    """The codes a rule may ask for."""

    status: frozenset[str]
    reply: int | None
    stage: str | None


def explain(facts: Facts) -> Finding:
    """Say why the recipient described by `facts` was not reached. Never raises."""
    action = (facts.action or "").lower()
    field = valid_status(facts.status)
    if action in ("delivered", "relayed", "expanded") or (action != "failed" and (field or "").startswith("2.")):
        said = (code.value for code in enhanced_codes(Text(facts.diagnostic, MAX_DIAGNOSTIC).folded))
        status = field or next((code for code in said if code.startswith("2.")), None)
        return Finding(
            Reason.DELIVERED, *REASONS[Reason.DELIVERED], status, False, facts.reply_code, 0.99,
            (Evidence("dsn.action", text=action or field or ""),), True,
        )  # fmt: skip
    book = load_book()
    text = Text(facts.diagnostic, MAX_DIAGNOSTIC)
    proses = [Text(part, MAX_PROSE) for part in _about(facts.address, facts.human_text[:MAX_PROSE])]
    prose = proses[-1] if proses else Text("", 0)
    text_codes = enhanced_codes(text.folded)
    reply = facts.reply_code or reply_code(text.folded)
    own_code = best_code(text_codes) or field
    codes = _Codes(
        frozenset(c.value for c in text_codes) | ({field} if field else frozenset()),
        reply,
        facts.stage or stage.named_in(text.folded),
    )
    receiver = _receiver(book, facts, text, prose)

    found = _by_rules(book, text, codes, receiver, "diagnostic")
    told = _lookup(book.codes, own_code)
    below = VAGUE_TEXT if told is not None and told.telling else PROSE
    told_enough = any(c.tier >= PROSE for c in found)
    prose_codes: list[Code] = []
    if not told_enough or specificity(own_code) == 0:
        prose_codes = enhanced_codes(prose.folded)
    for prose in proses:
        if told_enough or any(c.tier >= PROSE for c in found):
            break
        prose_codes = enhanced_codes(prose.folded)
        codes = replace(codes, reply=codes.reply or reply_code(prose.folded))
        found += _by_rules(book, prose, codes, receiver, "prose", at_most=below)
    status = _status(field, text_codes, prose_codes, max(found, key=lambda c: c.weight, default=None))
    reply = reply or reply_code(prose.folded)
    found += _by_codes(book, status, reply, text)
    if action == "delayed" and all(c.reason is Reason.UNKNOWN for c in found):
        found.append(_UNTOLD_DELAY)
    best = max(found, key=lambda c: c.weight, default=None)
    best = _by_stage(_weighed(best, found), codes.stage, status, reply)
    return _finding(best, found, status, reply, action)


def _lost(best: _Candidate | None, found: list[_Candidate]) -> tuple[tuple[Reason, str], ...]:
    """The other reasons that something spoke for, with what spoke for each; for people who ask why."""
    if best is None or len(found) < 2:
        return ()
    others: dict[Reason, str] = {}
    for candidate in sorted(found, key=lambda c: c.weight, reverse=True):
        if candidate.reason is not best.reason and candidate.reason is not Reason.UNKNOWN:
            others.setdefault(candidate.reason, f"{candidate.evidence.rule}: {candidate.evidence.text[:80]}")
    return tuple(others.items())[:_LOST_SHOWN]


def _weighed(best: _Candidate | None, found: list[_Candidate]) -> _Candidate | None:
    """A general text's confidence, in the light of what the refusal's code says by itself."""
    if best is None or best.tier != TEXT or best.confidence != CONFIDENCE[TEXT]:
        return best
    said = [c.reason for c in found if c.tier == CODE and c.source == "code"]
    if not said:
        return best
    return best._replace(confidence=AGREED if best.reason in said else CONTRADICTED)


def _by_stage(best: _Candidate | None, at: str | None, status: str | None, reply: int | None) -> _Candidate | None:
    """The verdict corrected by the command that was answered; `best` itself where the stage says nothing more."""
    senders = at == "mail" or (best is not None and _speaks_of_sender(best, status))
    if best is not None and senders and best.reason in _OF_RECIPIENTS:
        return best._replace(reason=Reason.SENDER_REJECTED)
    if at is None:
        return best
    final = reply >= 500 if reply is not None else (status or "").startswith("5")
    if final and at in _BY_STAGE and (best is None or (best.tier <= VAGUE_TEXT and best.reason in _NO_CAUSE)):
        evidence = Evidence(f"stage.{at}", text=best.evidence.text if best else at)
        return _Candidate(VAGUE_TEXT, 0, 0, _BY_STAGE[at], CONFIDENCE[VAGUE_CODE], evidence, "code")
    return best


def _speaks_of_sender(best: _Candidate, status: str | None) -> bool:
    """Whether "invalid address", "domain not found" and the like stand under a code that is about the sender."""
    whose = best.evidence.text
    return (status or "").endswith(_OF_SENDERS) and not any(
        w in whose for w in ("recipient", "user", "mailbox", "rcpt")
    )


def _about(address: str | None, prose: str) -> list[str]:
    """The prose that concerns `address`: its own paragraphs first (those that begin with it), then what is common.

    Notices about several recipients begin a paragraph with each one's address; the others' never count for this one.
    """
    if not prose.strip():
        return []
    own: list[str] = []
    common: list[str] = []
    others: list[str] = []
    part: list[str] | None = None
    sought = address.lower() if address else None
    for named, lines in _paragraphs(prose):
        if named is not None:
            part = common if sought is None else own if named == sought else others
        elif part is None and not own:
            part = common
        if part is not None:
            part += lines
        elif not lines[0].strip():
            part = common
    parts = ["\n".join(lines) for lines in (own, common if own or any(map(str.strip, common)) else others) if lines]
    return [parts[0], "\n".join(parts)] if len(parts) == 2 else parts


@lru_cache(maxsize=4)
def _paragraphs(prose: str) -> tuple[tuple[str | None, tuple[str, ...]], ...]:
    """Cut a notice before each line that begins with an address: that address in lower case, and the lines."""
    found: list[tuple[str | None, list[str]]] = []
    for line in prose.splitlines():
        begins = _ADDRESS_LINE.match(line)
        if begins is not None or not found:
            found.append((begins.group(1).lower() if begins else None, []))
        found[-1][1].append(line)
    return tuple((named, tuple(lines)) for named, lines in found)


def _receiver(book: Book, facts: Facts, text: Text, prose: Text) -> str | None:
    """Who refused: its name in the report, its marks in the text, or the reporter itself, in this order."""
    return (
        book.receiver_of_text(text.scan)
        or book.receiver_of_host(facts.remote_mta)
        or book.receiver_of_text(prose.scan)
        or book.receiver_of_host(facts.reporting_mta)
    )


def _by_rules(
    book: Book, text: Text, codes: _Codes, receiver: str | None, source: str, at_most: int = RECEIVER
) -> list[_Candidate]:
    own, general = book.receiver_hits(receiver, text.scan), book.text_rules.search(text.masked)
    tiers = [(hit, RECEIVER if hit.rule.rank >= OWN_RANK else TEXT) for hit in own] + [(hit, TEXT) for hit in general]
    return [_candidate(hit, tier, source, at_most) for hit, tier in tiers if _applies(hit, codes)]


def _applies(hit: Hit, codes: _Codes) -> bool:
    """Whether the codes that the rule asks for (if any) are there."""
    need = hit.rule.attributes
    return (
        ("status" not in need or not codes.status.isdisjoint(need["status"]))
        and ("reply" not in need or codes.reply in need["reply"])
        and ("stage" not in need or codes.stage in need["stage"])
    )


def _candidate(hit: Hit, tier: int, source: str, at_most: int) -> _Candidate:
    rule = hit.rule
    if rule.rank < VAGUE_RANK:
        tier = VAGUE_TEXT
    tier = min(tier, at_most)
    confidence = rule.attributes.get("confidence", CONFIDENCE[tier])
    evidence = Evidence(rule.id, text=hit.text[:200])
    return _Candidate(tier, rule.rank, hit.end - hit.start, Reason(rule.label), confidence, evidence, source, hit.start)


def _by_codes(book: Book, status: str | None, reply: int | None, text: Text) -> list[_Candidate]:
    found = []
    for code, rank in ((status, 20), (str(reply) if reply else None, 10)):
        default = _lookup(book.codes, code)
        if default is not None and code is not None:
            tier = CODE if default.telling else VAGUE_CODE
            evidence = Evidence(f"code.{default.code}", text=code)
            found.append(_Candidate(tier, rank, 0, default.reason, default.confidence, evidence, "code"))
    return found


def _general(code: str) -> str:
    return "x" + code[1:]


def _lookup(codes: dict[str, CodeDefault], code: str | None) -> CodeDefault | None:
    """The table's line for a code: itself, any class of it, its range, its subject's x.y.0 (RFC 3463 section 2)."""
    if code is None or "." not in code:
        return codes.get(code or "")
    head, detail = code.rsplit(".", 1)
    tries = [code, _general(code)]
    if len(detail) == 3:
        for tail in (f"{detail[:2]}x", f"{detail[0]}xx"):
            tries += [f"{head}.{tail}", f"{_general(head)}.{tail}"]
    tries.append(f"{_general(head)}.0")
    return next((codes[t] for t in tries if t in codes), None)


def _status(field: str | None, text_codes: list[Code], prose_codes: list[Code], best: _Candidate | None) -> str | None:
    """The most specific enhanced code: of the text that told the reason, of the refusal, of the field, of the prose."""
    from_prose = best is not None and best.source == "prose" and (best.tier >= PROSE or field is None)
    near = best.start if best is not None else None
    text_code = best_code(text_codes, None if from_prose else near)
    prose_code = best_code(prose_codes, near if from_prose else None)
    order = [prose_code, text_code, field] if from_prose else [text_code, field, prose_code]
    if field is not None and field[0] == "5" and (text_code or "")[:1] == "4":
        order.insert(0, field)  # the last try was put off, and the report says that it was the last
    return next((c for c in order if specificity(c) > 0), None) or text_code or field or prose_code


def _finding(
    best: _Candidate | None, found: list[_Candidate], status: str | None, reply: int | None, action: str
) -> Finding:
    reason = best.reason if best else Reason.UNKNOWN
    derived = False
    if status is None and reason in _DERIVED and best is not None and best.confidence >= 0.8:
        temporary = action == "delayed" or (reply is not None and reply < 500)
        status, derived = f"{4 if temporary else 5}.{_DERIVED[reason]}", True
    return Finding(
        reason=reason,
        category=REASONS[reason][0],
        counts_against=REASONS[reason][1],
        status=status,
        status_derived=derived,
        reply_code=reply,
        confidence=best.confidence if best else 0.3,
        evidence=(best.evidence,) if best else (),
        final={"failed": True, "delayed": False}.get(action, True if (status or "").startswith("5") else None),
        alternatives=_lost(best, found),
    )
