"""`judge()`: what a message that is no delivery report is; where in doubt, a person's mail.

An automatic answer, a challenge, an opt-out, a complaint, a notice by a machine, bulk mail, or a person's: one lost
customer reply costs more than a hundred misfiled bounces.

What decides, in this order: challenges and providers' complaint forms; mail to an unsubscribe address; what the new
text says (`newtext`: quoted text never counts) by the rules of `classifier/rules/texts/`; who sent it (`traits`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from classifier.context import Context
from classifier.mime import Message
from classifier.rulebook import Hit
from classifier.texts import forms, optout, people, tongue
from classifier.texts.book import book
from classifier.texts.dates import returns_on
from classifier.texts.fold import fold
from classifier.texts.newtext import NewText, new_text
from classifier.texts.traits import Traits, traits
from classifier.verdict import AutoReply, AutoReplyType, Evidence, Kind, Recipient

_GREETING_CHARS = 34
_FULL_STOP = re.compile(r"(?<!\d)[.!?;।]+(?:\s|$)|(?<=[^\x00-\x7f])\.")
MAX_HTML_BYTES = 128 * 1024
_QUESTIONS = "?؟¿՞⸮"
_ANSWER = re.compile(r"\W{0,3}[^\s:]{1,5}\s?:")
_SENTENCE_END = re.compile(r"[.!?؟।。！？]+[ )]*")
MAX_TEXT_CHARS = 4000  # of folded new text; a notice or a demand stands at the head of a message
_TYPES = {
    "left": AutoReplyType.LEFT, "left3": AutoReplyType.LEFT, "moved": AutoReplyType.MOVED,
    "absence": AutoReplyType.VACATION, "absence3": AutoReplyType.VACATION, "ticket": AutoReplyType.TICKET,
    "unmonitored": AutoReplyType.UNMONITORED,
}  # fmt: skip
_EXPLAINED = frozenset(_TYPES) | {"auto", "support", "hint"}


@dataclass(frozen=True, slots=True)
class Judgement:
    """The part of a Verdict that texts decide; members as there. `confidence` is a probability in 0..1."""

    kind: Kind
    confidence: float
    recipients: tuple[Recipient, ...] = ()
    opt_out: bool = False
    auto_reply: AutoReply | None = None
    feedback_type: str | None = None
    evidence: tuple[Evidence, ...] = ()
    alternatives: tuple[tuple[Kind, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """All that is known when the deciding begins. `text` and `subject` are folded; `says` and `titled` their labels."""

    message: Message
    context: Context
    traits: Traits
    new: NewText
    text: str
    subject: str
    tongues: frozenset[str] | None
    says: Mapping[str, Hit]
    titled: Mapping[str, Hit]

    @property
    def asks(self) -> bool:
        """A question mark of any script in the new text."""
        return any(mark in self.text for mark in _QUESTIONS)

    @property
    def personal(self) -> bool:
        """The sender answers, orders or hands something over."""
        return "person" in self.says or "business" in self.says

    def evidence(self, *names: str) -> tuple[Evidence, ...]:
        """What was found under these labels, with the headers' evidence."""
        hits = [hit for name in names for hit in (self.titled.get(name), self.says.get(name)) if hit is not None]
        return tuple(Evidence(h.rule.id, "", -1, h.text[:200]) for h in hits) + self.traits.evidence


def judge(message: Message, context: Context) -> Judgement:
    """Decide. Pure; bounded by `MAX_TEXT_CHARS` and the bounds of the message's own parts."""
    reading = _read(message, context)
    for decide in (_challenge, _form, _unsubscribe_address, _complaint, _opt_out, _automatic, _machine, _bulk):
        judgement = decide(reading)
        if judgement is not None:
            return judgement
    return _human(reading)


def _read(message: Message, context: Context) -> Reading:
    new = new_text(message.text)
    text, subject = fold(new.text[: MAX_TEXT_CHARS * 2])[:MAX_TEXT_CHARS], fold(message.subject[:400])
    rules = book()
    tongues = tongue.possible(text, rules.common)
    says, titled = rules.read(text, tongues), rules.read(subject, None, title=True)
    return Reading(message, context, traits(message, context), new, text, subject, tongues, says, titled)


def is_challenge(message: Message) -> bool:
    """Tell whether a message in a report's clothes (some systems send them so) asks its reader to prove being human."""
    return "challenge" in book().read(fold(message.text[: MAX_TEXT_CHARS * 2])[:MAX_TEXT_CHARS], None)


def _challenge(reading: Reading) -> Judgement | None:
    if reading.traits.listed:
        return None
    found = reading.evidence("challenge")
    if len(found) == len(reading.traits.evidence):
        return None
    return Judgement(Kind.CHALLENGE_RESPONSE, 0.95, people.sender(reading.message), evidence=found)


def _form(reading: Reading) -> Judgement | None:
    form = forms.find(reading.message, reading.context)
    if form is None:
        return None
    return Judgement(form.kind, 0.95, form.recipients, feedback_type=form.feedback_type, evidence=form.evidence)


def _unsubscribe_address(reading: Reading) -> Judgement | None:
    target = optout.address(reading.traits.targets, reading.context)
    if target is None or reading.traits.listed:
        return None
    told = (Evidence("optout.address", "", -1, target.address[:200]),)
    if (
        "optout" not in reading.says
        and "optout" not in reading.titled
        and not _short(reading, 200)
        and (reading.asks or reading.personal)
    ):
        return Judgement(
            Kind.HUMAN, 0.7, people.sender(reading.message), opt_out=True, evidence=told,
            alternatives=((Kind.UNSUBSCRIBE, "sent to an unsubscribe address, but the text asks for something else"),),
        )  # fmt: skip
    if reading.traits.answer and reading.titled.keys() & {"auto", "absence"}:
        return None
    person = people.opting_out(reading.message, reading.new.text, reading.traits.targets, target.person)
    return Judgement(Kind.UNSUBSCRIBE, 0.98, person, opt_out=True, evidence=told + reading.evidence("optout"))


def _complaint(reading: Reading) -> Judgement | None:
    """A person who complains of our mail: it is about mail, it is no letter about an order, and it is their own."""
    facts = reading.traits
    if (
        facts.listed
        or facts.bulk
        or facts.answer
        or facts.generated
        or facts.to_return_path
        or "auto" in reading.titled
    ):
        return None
    strong = "complaint" in reading.says or ("complaint" in reading.titled and _own_title(reading))
    if (
        not strong
        or "business" in reading.says
        or "footer" in reading.says
        or not _short(reading, 1500 if _own_title(reading) else 3000)
    ):
        return None
    if "about_mail" not in reading.says and "about_mail" not in reading.titled:
        return None
    return Judgement(
        Kind.COMPLAINT, 0.9 if "person" not in reading.says else 0.8, people.sender(reading.message), opt_out=True,
        feedback_type="abuse", evidence=reading.evidence("complaint", "legal"),
    )  # fmt: skip


def _opt_out(reading: Reading) -> Judgement | None:
    if reading.traits.listed or reading.traits.bulk or reading.traits.answer or "auto" in reading.titled:
        return None
    bare = reading.subject if not reading.text or (reading.new.signed and not reading.text) else reading.text
    word = book().asks_to_end(bare) or (
        _short(reading, 300) and not reading.asks and book().asks_to_end(reading.subject)
    )
    asked = "optout" in reading.says or (
        _own_title(reading) and "optout" in reading.titled and not reading.personal and not reading.asks
    )
    if not word and not asked:
        return None
    if not word and (reading.traits.to_return_path or reading.traits.null_path) and _points(reading)[0] >= 3:
        return None
    found = reading.evidence("optout") or (Evidence("optout.word", "", -1, bare[:80]),)
    person = people.opting_out(reading.message, reading.new.text, reading.traits.targets, None)
    if not word and ("footer" in reading.says or _points_elsewhere(reading)):
        return None
    if not word and (_wants_more(reading) or not _short(reading, 1500)):
        why = "asks for an opt-out, but wants an answer as well"
        return Judgement(Kind.HUMAN, 0.7, person, opt_out=True, evidence=found, alternatives=((Kind.UNSUBSCRIBE, why),))
    return Judgement(Kind.UNSUBSCRIBE, 0.97 if word else 0.92, person, opt_out=True, evidence=found)


def _points_elsewhere(reading: Reading) -> bool:
    """A link close to the phrase tells readers how to unsubscribe: bulk mail, unless it is an answer."""
    hit = reading.says.get("optout")
    if hit is None or not _own_title(reading):
        return False
    near = reading.text[max(0, hit.start - 150) : hit.end + 150]
    return "http" in near or "www." in near or "send a blank" in near


def _wants_more(reading: Reading) -> bool:
    """Tell whether the text asks or orders anything beside the sentence that asks for the opt-out."""
    hit = reading.says.get("optout")
    if hit is None:
        return reading.personal
    ends = [0, *(m.end() for m in _SENTENCE_END.finditer(reading.text)), len(reading.text)]
    before = max(e for e in ends if e <= hit.start)
    after = min(e for e in ends if e >= hit.end)
    rest = f"{reading.text[:before]} {reading.text[after:]}"
    said = book().read(rest, reading.tongues)
    if "business" in said:
        return True
    asks = "person" in said or any(mark in rest for mark in _QUESTIONS)
    return asks and not said.keys() & {"optout", "grumble"}


def _automatic(reading: Reading) -> Judgement | None:
    points, why = _points(reading)
    if points < 3:
        return None
    notice = next((name for name in _TYPES if name in reading.says), None) or _title_type(reading)
    kind = _TYPES.get(notice or "", AutoReplyType.OTHER)
    year = reading.context.received_year
    reply = AutoReply(
        kind,
        returns_on(reading.text, reading.message.headers.get("date"), year, reading.tongues)
        if kind is AutoReplyType.VACATION
        else None,
        people.new_address(reading.message, reading.new.text, reading.traits.targets, kind),
    )
    return Judgement(
        Kind.AUTO_REPLY, min(0.99, 0.6 + 0.07 * points),
        people.sender(reading.message, reading.traits.targets, reading.context),
        auto_reply=reply, evidence=reading.evidence("auto", "auto_re", "absence", *_TYPES),
        alternatives=((Kind.HUMAN, why),) if why else (),
    )  # fmt: skip


def _points(reading: Reading) -> tuple[int, str]:
    """How much speaks for a program that answers: 3 is enough. Also what spoke for a person."""
    says, titled, facts = reading.says, reading.titled, reading.traits
    if (
        facts.person
        or "report" in titled
        or (facts.listed and not (facts.answer or facts.generated or facts.to_return_path))
    ):
        return 0, ""
    unseen = facts.null_path or facts.to_return_path  # signs that people's mail does not bear
    notice = bool(says.keys() & _TYPES.keys())
    title = bool(titled.keys() & {"absence", "received"})
    told = notice or title or "auto" in says or "auto" in titled or facts.answer
    points = 6 * facts.answer + facts.generated + facts.suppresses + 2 * unseen
    points += 4 if "auto" in titled else 1 if "auto_re" in titled else 0
    points += 2 * notice + title + 3 * ("auto" in says) + ("support" in says)
    points += "hint" in says and not notice and (unseen or facts.generated)
    points -= 2 * (facts.bulk and not notice and "auto" not in titled)
    if not told and not (unseen and (facts.generated or says.keys() & {"hint", "support"})):
        return min(points, 2), ""
    if (
        points < 6
        and not (unseen or facts.generated)
        and "auto" not in titled
        and "auto" not in says
        and not _only_a_notice(reading)
    ):
        return min(points, 2), "it says more than a notice"
    against = []
    if reading.asks:
        against.append("it asks a question")
    if "person" in says or "business" in says:
        against.append("it answers or orders something")
    if not _short(reading, 1500):
        against.append("it is long")
    return points - len(against) * (1 if unseen and notice else 3), " and ".join(against)


def _only_a_notice(reading: Reading) -> bool:
    """Tell whether every sentence is part of a notice, or short enough for a greeting, a farewell or a name."""
    rules = book()
    for sentence in _FULL_STOP.split(reading.text)[:30]:
        words = [word for word in sentence.strip(" ,;:-").split() if word.strip(",;:.!") not in rules.polite]
        if len(" ".join(words)) > _GREETING_CHARS and not rules.read(sentence, reading.tongues).keys() & _EXPLAINED:
            return False
    return True


def _title_type(reading: Reading) -> str | None:
    if "absence" in reading.titled or "hint" in reading.says:
        return "absence"
    return "ticket" if "received" in reading.titled else None


def _machine(reading: Reading) -> Judgement | None:
    facts = reading.traits
    title = "report" in reading.titled or "report" in reading.says
    if "receipt" in reading.titled and _short(reading, 1200) and not reading.asks:
        return Judgement(Kind.RECEIPT, 0.85, people.sender(reading.message), evidence=reading.evidence("receipt"))
    if title or facts.notified:
        return Judgement(Kind.REPORT, 0.85, evidence=reading.evidence("report"))
    if facts.generated and not reading.personal:
        return Judgement(
            Kind.REPORT, 0.7, evidence=facts.evidence, alternatives=((Kind.AUTO_REPLY, "not said to be an answer"),)
        )
    return None


def _bulk(reading: Reading) -> Judgement | None:
    if any(p.content_type == "text/calendar" for p in reading.message.walk()):
        return Judgement(Kind.OTHER, 0.85, evidence=(Evidence("other.calendar", "", -1, "text/calendar"),))
    if reading.traits.listed or reading.traits.bulk:
        return Judgement(Kind.OTHER, 0.8, evidence=reading.traits.evidence)
    if "footer" in reading.says and _own_title(reading) and not _short(reading, 400):
        return Judgement(Kind.OTHER, 0.7, evidence=reading.evidence("footer"))
    if _composed(reading):
        return Judgement(
            Kind.OTHER, 0.65, evidence=(Evidence("other.composed", "", -1, "HTML only, with pictures and links"),)
        )
    return None


def _composed(reading: Reading) -> bool:
    """Tell whether it is HTML with no text beside it, full of pictures and links, that answers nothing."""
    message = reading.message
    if not message.html_only or not _own_title(reading) or "references" in message.headers:
        return False
    html = b"".join(p.decoded(MAX_HTML_BYTES) for p in message.walk() if p.content_type == "text/html")[
        :MAX_HTML_BYTES
    ].lower()
    pictures, links = html.count(b"<img"), html.count(b"<a ")
    return (pictures >= 3 and links >= 2) or links >= 8


def _human(reading: Reading) -> Judgement:
    sure = 0.95 if reading.asks or reading.personal or reading.traits.person else 0.8
    return Judgement(Kind.HUMAN, sure, people.sender(reading.message), evidence=reading.evidence("person", "business"))


def _own_title(reading: Reading) -> bool:
    """The sender chose the subject: it is no answer and nothing forwarded."""
    return not reading.message.headers.get("in-reply-to") and not _ANSWER.match(reading.subject)


def _short(reading: Reading, limit: int) -> bool:
    return len(reading.text) <= limit
