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
from classifier.texts.reading import Judgement, Reading
from classifier.verdict import AutoReply, AutoReplyType, Kind

ENOUGH = 3
TITLES = frozenset({"auto", "absence", "received", "thanks", "gone", "moved", "unmonitored"})
_NOTICES = frozenset({"left", "left3", "moved", "absence", "absence3", "ticket", "unmonitored"})
_EXPLAINED = _NOTICES | {"auto", "support", "hint"}
# In the order of what is asked first: who has left may also say "until" and "received".
_TYPES = {
    "left": AutoReplyType.LEFT, "left3": AutoReplyType.LEFT, "gone": AutoReplyType.LEFT,
    "moved": AutoReplyType.MOVED, "absence": AutoReplyType.VACATION, "absence3": AutoReplyType.VACATION,
    "ticket": AutoReplyType.TICKET, "unmonitored": AutoReplyType.UNMONITORED, "received": AutoReplyType.TICKET,
}  # fmt: skip
_GREETING_CHARS = 34
_FULL_STOP = re.compile(r"(?<!\d)[.!?;।]+(?:\s|$)|(?<=[^\x00-\x7f])\.")
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
    new = people.new_address(reading.message, reading.new.text, reading.traits.targets, kind)
    return Judgement(
        Kind.AUTO_REPLY, min(0.99, 0.6 + 0.07 * weighed.points),
        people.sender(reading.message, reading.traits.targets, reading.context),
        auto_reply=AutoReply(kind, returns, new), evidence=reading.evidence("auto", "auto_re", *_TYPES),
        alternatives=((Kind.HUMAN, weighed.against),) if weighed.against else (),
    )  # fmt: skip


def _weigh(reading: Reading) -> _Weighed:
    says, titled, facts = reading.says, reading.titled, reading.traits
    unseen = facts.null_path or facts.to_return_path  # signs that people's mail does not bear
    if facts.person or (facts.listed and not (facts.answer or facts.generated or facts.to_return_path)):
        return _Weighed(0)
    notice = bool(says.keys() & _NOTICES)
    title = bool(titled.keys() & TITLES - {"auto"})
    says_so = "auto" in says or "auto" in titled
    institutional = bool(says.keys() & {"ticket", "unmonitored"})  # a mailbox speaks, nobody in particular
    points = (
        6 * facts.answer + facts.generated + facts.suppresses + 2 * unseen
        + (4 if "auto" in titled else 1 if "auto_re" in titled else 0)
        + 2 * notice
        + (institutional or (notice and _returns(reading) is not None)) + title + 3 * ("auto" in says) + ("support" in says)
        + ("hint" in says and not notice and (unseen or facts.generated))
        - 2 * (facts.bulk and not notice and "auto" not in titled)
    )  # fmt: skip
    programs = unseen and (facts.generated or says.keys() & {"hint", "support"})
    if not (notice or title or says_so or facts.answer or programs):
        return _Weighed(min(points, ENOUGH - 1))
    if points < 6 and not (unseen or facts.generated or says_so) and not _only_a_notice(reading):
        return _Weighed(min(points, ENOUGH - 1), "it says more than a notice")
    against = [
        why
        for why, true in (
            ("it asks a question", reading.asks),
            ("it answers or orders something", reading.personal),
            ("it is long", not reading.short(_LONG_CHARS)),
        )
        if true
    ]
    return _Weighed(points - len(against) * (1 if unseen and notice else 3), " and ".join(against))


def _returns(reading: Reading) -> str | None:
    date, year = reading.message.headers.get("date"), reading.context.received_year
    return returns_on(reading.text, date, year, reading.tongues)


def _only_a_notice(reading: Reading) -> bool:
    """Tell whether every sentence is part of a notice, or short enough for a greeting, a farewell or a name."""
    rules = book()
    for sentence in _FULL_STOP.split(reading.text)[:30]:
        words = [word for word in sentence.strip(" ,;:-").split() if word.strip(",;:.!") not in rules.polite]
        if len(" ".join(words)) > _GREETING_CHARS and not rules.read(sentence, reading.tongues).keys() & _EXPLAINED:
            return False
    return True


def _type(reading: Reading) -> AutoReplyType:
    """What the text says it is about, else what the subject says, else a lone word such as "leave"."""
    for said in (reading.says, book().read(reading.subject, None), reading.titled):
        for label, kind in _TYPES.items():
            if label in said:
                return kind
    return AutoReplyType.VACATION if "hint" in reading.says else AutoReplyType.OTHER
