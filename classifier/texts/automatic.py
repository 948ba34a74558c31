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
_TO_BE_TOLD = frozenset({"absence", "left", "left3"})  # "my husband is away" is no answer
_INSTITUTIONAL = frozenset({"ticket", "unmonitored"})  # a mailbox speaks, nobody in particular
_ASIDES = ("support", "until", "instead", "promise")  # what notices say beside their matter
_EXPLAINED = _NOTICES | {"auto", "hint", *_ASIDES}
# In the order of what is asked first: who has left may also say "until" and "received".
_TYPES = {
    "left": AutoReplyType.LEFT, "left3": AutoReplyType.LEFT, "gone": AutoReplyType.LEFT,
    "moved": AutoReplyType.MOVED, "absence": AutoReplyType.VACATION, "absence3": AutoReplyType.VACATION,
    "ticket": AutoReplyType.TICKET, "unmonitored": AutoReplyType.UNMONITORED, "received": AutoReplyType.TICKET,
}  # fmt: skip
_OF_PEOPLE = frozenset({"person", "business", "plans", "goods", "stays", "optout", "complaint", "challenge"})
_STATEMENT_CHARS = 600
_GREETING_CHARS = 34
_NAME_CHARS = 16
_SENTENCE = re.compile(r"(?<!\d)[.!?;।]+(?:\s|$)|(?<=[^\x00-\x7f])\.")
_STOP = re.compile(r"[.!;:]\s")
_QUESTION = re.compile("[?؟¿՞⸮]+")
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
    says_so = "auto" in says or ("auto" in titled and not reading.subject.rstrip().endswith("?"))
    aside = sum(label in says for label in _ASIDES) - ("until" in says and notice and not (unseen or _leads(reading)))
    points = (
        6 * facts.answer + facts.generated + facts.suppresses + 2 * unseen
        + (4 if says_so and "auto" in titled else 1 if "auto_re" in titled else 0) + 3 * ("auto" in says)
        + 2 * notice + _titled_points(reading, notice)
        + (bool(says.keys() & _INSTITUTIONAL) or min(aside, 1 if notice else 2))
        + ("hint" in says and not notice and (unseen or facts.generated or reading.own_title))
        - 2 * (facts.bulk and not notice and "auto" not in titled)
    )  # fmt: skip
    # Nobody but a program knows the address; what it says is a notice, if only in words that no rule has.
    alone = facts.to_token and _plain_statement(reading)
    points += alone + (notice and _nothing_else(reading))
    hinted = facts.generated or aside > (not reading.own_title) or "hint" in says
    programs = alone or (unseen and hinted and "stays" not in says)
    if not (notice or title or says_so or facts.answer or programs):
        return _Weighed(min(points, ENOUGH - 1))
    # A program may say "automatic" or "do not reply" of itself, and nothing that would be an answer.
    answers = title or says.keys() & _NOTICES - {"unmonitored"} or "auto" in titled or not reading.own_title
    if not (answers or unseen or facts.answer or facts.suppresses or _only_a_notice(reading)):
        return _Weighed(min(points, ENOUGH - 1), "it is no answer")
    if points < 6 and not (unseen or facts.generated or says_so) and not _only_a_notice(reading):
        return _Weighed(min(points, ENOUGH - 1), "it says more than a notice")
    against = [
        why
        for why, true in (
            ("it asks a question", _asks(reading)),
            ("it answers or orders something", _personal(reading)),
            ("it is long", not reading.short(_LONG_CHARS)),
        )
        if true
    ]
    return _Weighed(points - len(against) * (1 if unseen and notice else 3), " and ".join(against))


def _plain_statement(reading: Reading) -> bool:
    """Tell whether it states something, shortly, and neither asks nor wants anything of us."""
    wishes = _OF_PEOPLE & (reading.says.keys() | reading.titled.keys())
    return bool(reading.text) and reading.short(_STATEMENT_CHARS) and not wishes and not _asks(reading)


def _leads(reading: Reading) -> bool:
    """Tell whether the text begins with the notice, as programs do; people come to it on their way to something."""
    starts = [hit.start for label in _NOTICES if (hit := reading.says.get(label)) is not None]
    before = reading.text[: min(starts, default=0)].strip()
    if not before:
        return bool(starts)
    words = [word for word in before.split() if word.strip(",;:.!") not in book().polite]
    return len(" ".join(words)) <= _NAME_CHARS or bool(book().read(before, reading.tongues).keys() & _EXPLAINED)


def _titled_points(reading: Reading, notice: bool) -> int:
    """One for a title as notices have; two where the sender chose it and the text is about the same."""
    if not reading.titled.keys() & TITLES - {"auto"}:
        return 0
    return 2 if reading.own_title and (notice or reading.says.keys() & {"until", "promise"}) else 1


def _asks(reading: Reading) -> bool:
    """Tell whether something is asked; "Urgent? Call the office." asks nothing."""
    *asked, rest = _QUESTION.split(reading.text)
    if not asked or not rest.strip() or "instead" not in reading.says:
        return bool(asked)
    return any(len(_STOP.split(question)[-1].split()) > _ASIDE_WORDS for question in asked)


def _personal(reading: Reading) -> bool:
    """Tell whether it answers or orders; "for orders call the shop" does not."""
    if reading.says.keys() & {"person", "plans"} or "business" not in reading.says:
        return bool(reading.says.keys() & {"person", "plans"})
    at = reading.says["business"].start
    start = max((m.end() for m in _SENTENCE.finditer(reading.text) if m.end() <= at), default=0)
    sentence = _SENTENCE.split(reading.text[start:])[0]
    return "instead" not in book().read(sentence, reading.tongues)


def _returns(reading: Reading) -> str | None:
    date, year = reading.message.headers.get("date"), reading.context.received_year
    return returns_on(reading.text, date, year, reading.tongues)


def _only_a_notice(reading: Reading) -> bool:
    """Tell whether each sentence is part of a notice, or short enough for a greeting, a farewell or a name.

    Under a title of a notice, half of them are enough: what else would the letter be about?
    """
    rules = book()
    parts = others = 0
    for sentence in _SENTENCE.split(reading.text)[:30]:
        words = [word for word in sentence.strip(" ,;:-").split() if word.strip(",;:.!") not in rules.polite]
        if len(" ".join(words)) <= _GREETING_CHARS:
            continue
        if "@" in sentence or rules.read(sentence, reading.tongues).keys() & _EXPLAINED:
            parts += 1
        else:
            others += 1
    titled = reading.own_title and bool(reading.titled.keys() & TITLES)
    return others == 0 or (titled and others <= parts + 1) or (others == 1 and parts > 1)


def _nothing_else(reading: Reading) -> bool:
    """Tell whether it begins with the notice of an absence or a farewell and says nothing beside it.

    Even if a person wrote it, nobody has to answer it.
    """
    if not reading.says.keys() & _TO_BE_TOLD or "stays" in reading.says or not _leads(reading):
        return False
    if _asks(reading) or _personal(reading):
        return False
    rules = book()
    for sentence in _SENTENCE.split(reading.text)[:30]:
        words = [word for word in sentence.strip(" ,;:-").split() if word.strip(",;:.!") not in rules.polite]
        rest = " ".join(words)
        said = rules.read(sentence, reading.tongues).keys() & _EXPLAINED or "@" in sentence
        if not said and (len(rest) > _NAME_CHARS or any(c.isdigit() for c in rest)):
            return False
    return True


def _type(reading: Reading) -> AutoReplyType:
    """What the text says it is about, else what the subject says, else a lone word such as "leave"."""
    for said in (reading.says, book().read(reading.subject, None), reading.titled):
        for label, kind in _TYPES.items():
            if label in said:
                return kind
    return AutoReplyType.VACATION if "hint" in reading.says else AutoReplyType.OTHER
