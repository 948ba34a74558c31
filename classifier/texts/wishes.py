"""What people wish of our mail: to get no more of it, by address or by words; and complaints of it."""

from __future__ import annotations

import re

from classifier.rulebook import Hit
from classifier.texts import automatic, bulk, optout, people
from classifier.texts.book import book
from classifier.texts.notice import NOTICES, SENTENCE, names_contact, names_successor
from classifier.texts.reading import QUESTION_MARKS, Judgement, Reading
from classifier.texts.weighing import ENOUGH, TITLES, weigh
from classifier.verdict import Evidence, Kind

# A full stop within an address ends nothing; behind a Chinese character it needs no blank.
_SENTENCE_END = re.compile(r"[!?؟।]+[ )]*|\.+(?:[ )]+|$)|(?<=[^\x00-\x7f])\.+")
_OF_MAIL = frozenset({"optout", "theirs", "grumble", "our_mail", "about_mail", "complaint", "legal", "bereaved"})
_ELSE = frozenset({"goods", "activity"})  # that people sign off from, and is no mail of ours
_REQUEST_WORDS, _REQUEST_BYTES = 20, 150
_WISH_CHARS = 280  # nobody's mere wish to get no more mail is much longer
_LONG_CHARS = 1500
_TITLED_CHARS = 300
_REMARK_CHARS = 60
_REASONS = 2  # sentences why
_GREETING_CHARS = 34
_SIGNATURE_CHARS = 60
_ADDRESS = re.compile(r"https?:|www\.|@")
_LINKED = re.compile(r"https?:|www\.|send a blank|click|clic\b|klick")  # beside an opt-out: how to, not a request


def unsubscribe_address(reading: Reading) -> Judgement | None:
    """Mail to a List-Unsubscribe address, which is the request, unless its text asks for something else.

    A text that says more than such a request needs is read as anywhere else: people cancel contracts and tickets there.
    """
    target = unsubscribe_target(reading)
    if target is None:
        return None
    told = (Evidence("optout.address", "", -1, target.address[:200]),)
    stays = _stays(reading)
    asked = ("optout" in reading.says or "optout" in reading.titled) and not stays
    if _says_more(reading) and not (asked and _titles_a_signature(reading)):
        return None
    matters = ("goods" in reading.says) + reading.asks + reading.personal
    if stays or (matters > 1 and not asked):
        return letter_there(reading, target)
    if reading.traits.answer and reading.titled.among(TITLES):
        return None
    if not asked and _answers_by_program(reading):
        return None
    person = people.opting_out(reading.message, reading.new, reading.traits.targets, target.person)
    return Judgement(Kind.UNSUBSCRIBE, 0.98, person, opt_out=True, evidence=told + reading.evidence("optout"))


def letter_there(reading: Reading, target: optout.Target) -> Judgement:
    """A person's letter to an unsubscribe address: somebody reads it, and no more mail is sent, unless they stay."""
    told = Evidence("optout.address", "", -1, target.address[:200])
    return Judgement(
        Kind.HUMAN, 0.7, people.sender(reading.message), opt_out=not _stays(reading),
        evidence=(told, *reading.evidence("person", "business", "stays")),
        alternatives=((Kind.UNSUBSCRIBE, "sent to an unsubscribe address, but the text asks for something else"),),
    )  # fmt: skip


def unsubscribe_target(reading: Reading) -> optout.Target | None:
    """The unsubscribe address that it was sent to; None for list mail, which may name one among others."""
    return None if reading.traits.listed else optout.address(reading.traits.targets, reading.context)


def _stays(reading: Reading) -> bool:
    """Tell whether somebody says that they do not want to leave, but ...; of several lists some leave one."""
    return "stays" in reading.says and not _leaves_one(reading)


def _leaves_one(reading: Reading) -> bool:
    """Tell whether one of several lists is left, and others are not: "off the one for farmers, but keep the other"."""
    if not {"several", "optout"} <= reading.says.among({"several", "optout"}):
        return False
    hit = reading.says["optout"]
    before, after = _sentence(reading.text, hit.start, hit.end)
    return "goods" not in reading.says.within(reading.own[before:after], {"goods"})


def _says_more(reading: Reading) -> bool:
    """Tell whether a text is longer than a mere request: in words, or in bytes, since Chinese has no blanks."""
    return len(reading.text.encode()) > _REQUEST_BYTES or len(reading.text.split()) > _REQUEST_WORDS


def _titles_a_signature(reading: Reading) -> bool:
    """The subject is the request, and the text says nothing that matters: a signature, a disclaimer."""
    said = reading.says.among({"optout", "person", "business", "plans", "goods", "kin", "complaint", *NOTICES})
    return book().asks_to_end(reading.subject) and not said and not reading.asks


def _answers_by_program(reading: Reading) -> bool:
    """Where the address that we write from is the one for opt-outs, absences arrive there as well."""
    if reading.own_title or not reading.says.among({"absence", "unmonitored"}):
        return False
    return weigh(reading).points > ENOUGH


def complaint(reading: Reading) -> Judgement | None:
    """A person who complains of our mail: it is about mail, it is no letter about an order, and it is their own."""
    facts = reading.traits
    if facts.listed or facts.bulk or facts.answer or facts.generated or "auto" in reading.titled:
        return None
    if "complaint" not in reading.says and not ("complaint" in reading.titled and reading.own_title):
        return None
    if "about_mail" not in reading.says and "about_mail" not in reading.titled:
        return None
    ordered = "business" in reading.says and "authority" not in reading.says  # no shop's mistake goes to a regulator
    if ordered or reading.says.among({"stays", "footer"}) or bulk.sure(reading):
        return None
    if not reading.short(1500 if reading.own_title else 3000) or _names_deputy(reading):
        return None
    return Judgement(
        Kind.COMPLAINT, 0.9 if "person" not in reading.says else 0.8, people.sender(reading.message),
        opt_out="optout" in reading.says or "optout" in reading.titled,
        feedback_type="abuse", evidence=reading.evidence("complaint", "legal"),
    )  # fmt: skip


def _names_deputy(reading: Reading) -> bool:
    """A notice of absence whose sentence about a lawyer says whom to ask instead: law firms are away as well."""
    hit = reading.says.get("complaint")
    if hit is None or "absence" not in reading.says:
        return False
    before, after = _sentence(reading.text, hit.start, hit.end)
    said = book().read(reading.text[before:after], reading.tongues)
    return bool(said.among({"instead", "support"})) and automatic.likely(reading)


def opt_out(reading: Reading) -> Judgement | None:
    """A person who asks to be left out: by a word that is the whole message, or by a sentence with no other wish."""
    facts = reading.traits
    if facts.listed or facts.bulk or facts.answer or "auto" in reading.titled:
        return None
    rules = book()
    bare = reading.text or reading.subject
    command = None if reading.text else optout.command(reading.subject)
    word = (
        command is not None
        or rules.asks_to_end(bare)
        or (rules.asks_to_end(reading.subject) and _titles_its_text(reading))
    )
    if not word and not _asked(reading):
        return None
    found = reading.evidence("optout", "theirs") or (Evidence("optout.word", "", -1, bare[:80]),)
    token = command.person if command else None
    person = people.opting_out(reading.message, reading.new, facts.targets, token, reading.context)
    if word:
        return Judgement(Kind.UNSUBSCRIBE, 0.97, person, opt_out=True, evidence=found)
    if why := _beside(reading):
        return Judgement(Kind.HUMAN, 0.7, person, opt_out=True, evidence=found, alternatives=((Kind.UNSUBSCRIBE, why),))
    return Judgement(Kind.UNSUBSCRIBE, 0.92, person, opt_out=True, evidence=found)


def _wish(reading: Reading) -> Hit | None:
    """Where the text asks to be left out, or that a relative be who has died."""
    wish = reading.says.get("optout")
    theirs = reading.says.get("theirs") if wish is None else None
    return theirs if theirs is not None and "bereaved" in reading.says else wish


def _asked(reading: Reading) -> bool:
    """Tell whether new text or subject ask for it, and are neither an automatic answer nor an advertisement."""
    if _wish(reading) is None and not _asked_by_title(reading):
        return False
    if _stays(reading) or not _about_our_mail(reading):
        return False
    if _by_program(reading) and automatic.likely(reading):
        return False
    return not _has_footer(reading) and not _instructs(reading) and not bulk.sure(reading)


def _by_program(reading: Reading) -> bool:
    """Tell of whom it may be a program's: "She has left, please remove her", above all with whom to write to instead.

    A wish with no notice beside it is its writer's, and so is one for a relative who has died.
    """
    facts, says = reading.traits, reading.says
    if facts.null_path or "auto" in says:
        return True
    if "bereaved" in says:
        return False
    return bool((facts.to_return_path and says.among(NOTICES)) or names_successor(reading))


def _has_footer(reading: Reading) -> bool:
    """It tells how to get out, as senders of bulk mail do; a short answer that speaks of our link does not."""
    if "footer" not in reading.says:
        return False
    return reading.own_title or not reading.short(_WISH_CHARS) or _ADDRESS.search(reading.text) is not None


def _asked_by_title(reading: Reading) -> bool:
    """The subject asks for it in a sentence, and the text says nothing else."""
    return reading.own_title and "optout" in reading.titled and not reading.personal and _titles_its_text(reading)


def _titles_its_text(reading: Reading) -> bool:
    """The text under a subject that asks for it is short or about mail: people cancel orders and tables as well."""
    if reading.asks or not reading.short(_TITLED_CHARS) or _stays(reading):
        return False
    return reading.short(_REMARK_CHARS) or bool(reading.says.among({"our_mail", "about_mail", "grumble"}))


def _about_our_mail(reading: Reading) -> bool:
    """Tell whether the sentence that asks is about mail or a list; where it has no such word, about nothing else."""
    if not reading.says.among(_ELSE) or _leaves_one(reading):
        return True
    wish = _wish(reading)
    before, after = (0, 0) if wish is None else _sentence(reading.text, wish.start, wish.end)
    said = book().read(reading.text[before:after] or reading.subject, reading.tongues)
    return bool(said.among({"our_mail", "legal"})) or not said.among(_ELSE)  # "article 21" is no goods


def _sentence(text: str, start: int, end: int) -> tuple[int, int]:
    """Where the sentence around a place begins and ends."""
    ends = [0, *(m.end() for m in _SENTENCE_END.finditer(text)), len(text)]
    return max(e for e in ends if e <= start), min(e for e in ends if e >= end)


def _instructs(reading: Reading) -> bool:
    """The phrase tells readers how to get out: with a link close to it, or at the foot of a long text of one's own."""
    hit = _wish(reading)
    if hit is None or not reading.own_title:
        return False
    if not reading.short(600) and hit.start > 0.6 * len(reading.text):
        return True
    return bool(_LINKED.search(reading.text[max(0, hit.start - 150) : hit.end + 150]))


def _beside(reading: Reading) -> str:
    """Name what the text does beside asking for it: asking, ordering, telling a story; "" if nothing.

    Whoever wants out says so in a line or two, with a reason, thanks or grumbling. A long letter that speaks of
    unsubscribing is mostly about something else, so that somebody should read it.
    """
    hit = _wish(reading)
    if {"bereaved", "how"} <= reading.says.among({"bereaved", "how"}):
        return "it asks how to do so for somebody else"
    if hit is None:
        return "it wants an answer as well" if reading.personal else ""
    before, after = _sentence(reading.text, hit.start, hit.end)
    rest = f"{reading.own[:before]} {reading.own[after:]}"
    if "business" in book().read(rest, reading.tongues) or _wants_answer(rest, reading):
        return "it wants an answer as well"
    if reading.short(_WISH_CHARS):
        return ""
    topic = " " not in hit.text.strip()  # "unsubscribe", and neither "me" nor "please"
    if topic or not reading.short(_LONG_CHARS) or _other_matters(rest, reading) > _REASONS:
        return "it tells more than a wish to get no more mail"
    return ""


def _wants_answer(text: str, reading: Reading) -> bool:
    """Tell whether a sentence asks or orders anything but an end; "my husband has died" does neither."""
    start = 0
    for end in [*(m.end() for m in _SENTENCE_END.finditer(text)), len(text)]:
        sentence, start = text[start:end], end
        said = reading.says.within(sentence, {"person", "optout", "theirs", "grumble", "bereaved"})
        asks = any(mark in sentence for mark in QUESTION_MARKS) or ("person" in said and "bereaved" not in said)
        if asks and not said.keys() & {"optout", "theirs", "grumble"}:
            return True
    return False


def _other_matters(text: str, reading: Reading) -> int:
    """Count the sentences that say nothing of mail, lists or complaints; but for the signature."""
    told = [s for s in SENTENCE.split(text) if len(s.strip()) > _GREETING_CHARS]
    other = [s for s in told if not reading.says.within(s, _OF_MAIL)]
    return len(other) - bool(other and other[-1] is told[-1] and _signed(other[-1]))


def _signed(sentence: str) -> bool:
    """Tell whether a last sentence is a farewell with a name, or a signature with a telephone number."""
    return len(sentence) <= _SIGNATURE_CHARS or names_contact(sentence)
