"""Automatic answers, with or without header fields that say so, and what they tell.

Signs are weighed, because none alone is enough where programs say nothing of themselves: header fields, an address
that only programs write to, a subject as mail programs make it, sentences of a notice. What only people do (asking,
ordering, writing at length) speaks against them; three points are enough.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from classifier.texts import people
from classifier.texts.book import book
from classifier.texts.dates import returns_on
from classifier.texts.notice import ASIDES, NOTICES, SENTENCE, Notice, look
from classifier.texts.reading import QUESTION_MARKS, Judgement, Reading
from classifier.verdict import AutoReply, AutoReplyType, Kind

ENOUGH = 3
TITLES = frozenset({"auto", "absence", "received", "thanks", "gone", "moved", "unmonitored"})
_INSTITUTIONAL = frozenset({"ticket", "unmonitored"})  # a mailbox speaks, nobody in particular
# In the order of what is asked first: who has left may also say "until" and "received".
_TYPES = {
    "left": AutoReplyType.LEFT, "left3": AutoReplyType.LEFT, "gone": AutoReplyType.LEFT,
    "moved": AutoReplyType.MOVED, "absence": AutoReplyType.VACATION, "absence3": AutoReplyType.VACATION,
    "ticket": AutoReplyType.TICKET, "unmonitored": AutoReplyType.UNMONITORED, "received": AutoReplyType.TICKET,
}  # fmt: skip
_OF_PEOPLE = frozenset({"person", "business", "plans", "goods", "stays", "optout", "complaint", "challenge"})
_STATEMENT_CHARS = 600
_STOP = re.compile(r"[.!;:]\s")
_QUESTION = re.compile(f"[{QUESTION_MARKS}]+")
_ASIDE_WORDS = 7
_LONG_CHARS = 1500


@dataclass(frozen=True, slots=True)
class _Weighed:
    points: int
    against: str = ""


def likely(reading: Reading) -> bool:
    """Tell whether it would be taken for an automatic answer."""
    return _weigh(reading).points >= ENOUGH


def answer(reading: Reading) -> Judgement | None:
    """An automatic answer, with its type, the day of return and the new address that it tells."""
    weighed = _weigh(reading)
    if weighed.points < ENOUGH:
        return None
    kind = _type(reading)
    returns = _returns(reading) if kind is AutoReplyType.VACATION else None
    new = people.new_address(reading.message, reading.new, reading.traits.targets, kind)
    return Judgement(
        Kind.AUTO_REPLY, min(0.99, 0.6 + 0.07 * weighed.points),
        people.sender(reading.message, reading.traits.targets, reading.context),
        auto_reply=AutoReply(kind, returns, new),
        evidence=reading.evidence("auto", "auto_re", *_TYPES, "hint", *ASIDES),
        alternatives=((Kind.HUMAN, weighed.against),) if weighed.against else (),
    )  # fmt: skip


def _weigh(reading: Reading) -> _Weighed:
    says, titled, facts = reading.says, reading.titled, reading.traits
    unseen = facts.null_path or facts.to_return_path  # signs that people's mail does not bear
    if facts.person or (facts.listed and not (facts.answer or facts.generated or facts.to_return_path)):
        return _Weighed(0)
    title = _is_titled(reading)
    titled_auto = "auto" in titled and not reading.subject.rstrip().endswith("?")
    says_so = "auto" in says or titled_auto
    maybe = title or says_so or facts.answer or unseen or facts.to_token or says.among(NOTICES | {"hint"})
    if not maybe:  # most people's mail: no need to go through its sentences
        return _Weighed(0)
    notice = look(reading)
    # Nobody but a program knows the address; what it says is a notice, if only in words that no rule has.
    alone = facts.to_token and _plain_statement(reading)
    # A lone word such as "leave" is a notice where somebody else is named, or it is said until when.
    hinted = "hint" in says and not notice.stated
    stays = "stays" in says
    # People say until when as well; alone it tells something only of a text that says nothing else.
    dated = notice.stated and notice.asides == ("until" in says) and not (unseen or (notice.leads and notice.only))
    asides = 0 if stays or dated else min(notice.asides, 1 if notice.stated else 2)
    against = [
        why
        for why, true in (
            ("it asks a question", _asks(reading)),
            ("it answers or orders something", _personal(reading, notice)),
            ("it wants our mail", stays),
            ("it is long", not reading.short(_LONG_CHARS)),
        )
        if true
    ]
    points = (
        6 * facts.answer + facts.generated + facts.suppresses + 2 * unseen + alone
        + (4 if titled_auto else 1 if "auto_re" in titled else 0) + 3 * ("auto" in says)
        + 2 * notice.stated + _titled_points(reading, notice, title)
        + (bool(says.among(_INSTITUTIONAL)) or asides)
        + (notice.stated and notice.leads and notice.only and not stays and not against)
        + (hinted and (unseen or facts.generated or reading.own_title or (notice.leads and notice.asides > 1)))
        - 2 * (facts.bulk and not notice.stated and "auto" not in titled)
    )  # fmt: skip
    wished = "optout" in says or "optout" in titled or "complaint" in says
    beside = facts.generated or hinted or asides > (not reading.own_title)
    programs = alone or (unseen and beside and not (stays or wished))
    if not (notice.stated or title or says_so or facts.answer or programs or (hinted and notice.leads)):
        return _Weighed(min(points, ENOUGH - 1))
    # A program may say "automatic" or "do not reply" of itself, and nothing that would be an answer.
    covered = notice.covers(title and reading.own_title)
    answers = title or says.among(NOTICES - {"unmonitored"}) or "auto" in titled or not reading.own_title
    if not (answers or unseen or facts.answer or facts.suppresses or (covered and notice.leads)):
        return _Weighed(min(points, ENOUGH - 1), "it is no answer")
    if points < 6 and not (unseen or facts.generated or says_so or covered):
        return _Weighed(min(points, ENOUGH - 1), "it says more than a notice")
    return _Weighed(points - len(against) * (1 if unseen and notice.stated else 3), " and ".join(against))


def _is_titled(reading: Reading) -> bool:
    """Tell whether the subject is a notice's, by the lists of titles or, where the sender chose it, by what it says."""
    if reading.titled.among(TITLES - {"auto"}):
        return True
    return reading.own_title and bool(book().read(reading.subject, None).among(NOTICES))


def _titled_points(reading: Reading, notice: Notice, title: bool) -> int:
    """One for a title as notices have; two where the sender chose it and the text is about the same."""
    if not title:
        return 0
    return 2 if reading.own_title and (notice.stated or reading.says.among({"until", "promise"})) else 1


def _plain_statement(reading: Reading) -> bool:
    """Tell whether it states something, shortly, and neither asks nor wants anything of us."""
    wishes = reading.titled.among(_OF_PEOPLE) or reading.says.among(_OF_PEOPLE)
    return bool(reading.text) and reading.short(_STATEMENT_CHARS) and not wishes and not _asks(reading)


def _asks(reading: Reading) -> bool:
    """Tell whether something is asked; "Urgent? Call the office." asks nothing."""
    *asked, rest = _QUESTION.split(reading.text)
    if not asked or not rest.strip() or "instead" not in reading.says:
        return bool(asked)
    return any(len(_STOP.split(question)[-1].split()) > _ASIDE_WORDS for question in asked)


def _personal(reading: Reading, notice: Notice) -> bool:
    """Tell whether it answers, orders or speaks of things between us; "for orders call the shop" does not."""
    if reading.says.among({"person", "plans", "our_letter"}):
        return True
    if "goods" in reading.says and not (
        notice.contact or reading.says.among({"auto", "support", "instead", "promise"})
    ):
        return True
    if "business" not in reading.says:
        return False
    at = reading.says["business"].start
    start = max((m.end() for m in SENTENCE.finditer(reading.text) if m.end() <= at), default=0)
    sentence = SENTENCE.split(reading.text[start:])[0]
    return "instead" not in book().read(sentence, reading.tongues)


def _returns(reading: Reading) -> str | None:
    date, year = reading.message.headers.get("date"), reading.context.received_year
    return returns_on(reading.text, date, year, reading.tongues)


def _type(reading: Reading) -> AutoReplyType:
    """What the text says it is about, else what the subject says, else a lone word such as "leave"."""
    for said in (reading.says, book().read(reading.subject, None), reading.titled):
        for label, kind in _TYPES.items():
            if label in said:
                return kind
    return AutoReplyType.VACATION if "hint" in reading.says else AutoReplyType.OTHER
