"""Automatic answers, with or without header fields that say so (`weighing`), and what they tell."""

from __future__ import annotations

from classifier.texts import people
from classifier.texts.book import book
from classifier.texts.dates import returns_on
from classifier.texts.notice import ASIDES
from classifier.texts.reading import Judgement, Reading
from classifier.texts.weighing import ENOUGH, weigh
from classifier.verdict import AutoReply, AutoReplyType, Kind

# In the order of what is asked first: who has left may also say "until" and "received".
_TYPES = {
    "left": AutoReplyType.LEFT, "left3": AutoReplyType.LEFT, "gone": AutoReplyType.LEFT,
    "moved": AutoReplyType.MOVED, "absence": AutoReplyType.VACATION, "absence3": AutoReplyType.VACATION,
    "ticket": AutoReplyType.TICKET, "unmonitored": AutoReplyType.UNMONITORED, "received": AutoReplyType.TICKET,
}  # fmt: skip


def likely(reading: Reading) -> bool:
    """Tell whether it would be taken for an automatic answer."""
    return weigh(reading).points >= ENOUGH


def answer(reading: Reading) -> Judgement | None:
    """An automatic answer, with its type, the day of return and the new address that it tells."""
    weighed = weigh(reading)
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
