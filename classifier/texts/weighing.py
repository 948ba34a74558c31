"""How much speaks for an automatic answer: `weigh()`.

Signs are weighed, because none alone is enough where programs say nothing of themselves. `ENOUGH` is three:

    a header field says that a program answers                          6
    the subject is one that mail programs make                          4   (1 behind "Re:": somebody answered it)
    the text says that it is automatic, or that a bot speaks            3
    null path, or the return path's address: people's mail has neither  2
    the text says a notice's matter: away, gone, moved, arrived         2
    the subject does, or is on a list of titles                         1   (2 if the sender chose it, about the same)
    what notices say beside it: until when, whom to ask instead         1   each, two at most
    a mailbox speaks, and nobody in particular                          1   (in place of these)
    the matter comes first, and nothing stands beside it                1
    a lone word such as "leave" where more points the same way          1
    Auto-Submitted: auto-generated; asks for no automatic answers       1   each
    a short statement to an address with a token                        1
    sent to many, and no notice                                        -2

What only people do speaks against it: answering, ordering, wanting our mail, length. Each takes three; but beside a
notice one by a null path, and one or two at the return path, unless it is said to us. Whatever was counted, some things
end it where no header field says otherwise: it asks something of us, it tells of an automatic answer or of somebody
else, it says more than a notice, it answers nothing of ours.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from classifier.texts.book import book
from classifier.texts.notice import NOTICES, SENTENCE, Notice, look, names_successor
from classifier.texts.reading import QUESTION_MARKS, Reading

ENOUGH = 3
TITLES = frozenset({"auto", "absence", "received", "thanks", "gone", "moved", "unmonitored"})
_ANSWERS = 6
_TITLED_BY_PROGRAM, _ANSWERS_A_PROGRAM = 4, 1
_SAYS_SO = 3
_UNSEEN = 2
_STATED = 2
_ASIDES = 2
_BULK = 2
_AGAINST, _AGAINST_RETURN_PATH, _AGAINST_UNSEEN = 3, 2, 1
_TO_US = frozenset({"person", "plans", "our_letter"})
_OF_KIN = frozenset({"kin", "bereaved"})
_ABSENCES = frozenset({"absence", "absence3"})  # people say so as well, on their way to something else
_PLENTY = 6  # of points: then one sentence more than a notice has is borne
_INSTITUTIONAL = frozenset({"ticket", "unmonitored"})  # a mailbox speaks, nobody in particular
_OF_PEOPLE = frozenset({
    "person", "business", "plans", "goods", "kin", "stays", "several", "optout", "complaint", "challenge",
})  # fmt: skip
_STATEMENT_CHARS = 600
_LONG_CHARS = 1500
_FEW_OTHERS = 2
_STOP = re.compile(r"[.!;:]\s")
_QUESTION = re.compile(f"[{QUESTION_MARKS}]+")
_ASIDE_WORDS = 7
_AND = re.compile(r"\w (?:and|und|et|y|e|og|och|ja|i|и|та|і|ve|és|și|και) \w|[\u3040-\u9fff]と[おご]")
_DIRECTORY = re.compile(r": ?[^\s@:]{1,64}@")
_ANSWERING = frozenset({"instead", "support", "promise", "unmonitored"})  # what a notice says behind "Urgent?"


@dataclass(frozen=True, slots=True)
class Weighed:
    """The points, and what speaks against an automatic answer."""

    points: int
    against: str = ""


def weigh(reading: Reading) -> Weighed:
    """Weigh the signs; most people's mail bears none, so that nobody goes through its sentences."""
    facts, titled = reading.traits, reading.titled
    if facts.person or (facts.listed and not (facts.answer or facts.generated or facts.to_return_path)):
        return Weighed(0)
    title = _is_titled(reading)
    titled_auto = "auto" in titled and not reading.subject.rstrip().endswith("?")
    unseen = facts.null_path or facts.to_return_path
    automatic = "auto" in reading.says or _is_bot(reading)
    told = title or titled_auto or automatic or facts.answer
    if not (told or unseen or facts.to_token or reading.says.among(NOTICES | {"hint"})):
        return Weighed(0)
    return _Scales(reading, look(reading), title, titled_auto, automatic, unseen).weigh()


@dataclass(frozen=True, slots=True)
class _Scales:
    reading: Reading
    notice: Notice
    title: bool
    titled_auto: bool
    automatic: bool
    unseen: bool

    def weigh(self) -> Weighed:
        reading, notice, facts = self.reading, self.notice, self.reading.traits
        says_so = self.automatic or self.titled_auto
        against = self._against()
        points = self._points(asides := self._asides(), clean=not against)
        if not (
            notice.stated or self.title or says_so or facts.answer
            or self._programs_only(asides) or (self._hinted and notice.leads)
        ):  # fmt: skip
            return Weighed(min(points, ENOUGH - 1))
        if why := self._ends(points, says_so):
            return Weighed(min(points, ENOUGH - 1), why)
        if facts.null_path and notice.stated:
            each = _AGAINST_UNSEEN
        elif facts.to_return_path and notice.stated and not reading.says.among(_TO_US | _OF_KIN):
            each = _AGAINST_UNSEEN if notice.leads and notice.others == 0 else _AGAINST_RETURN_PATH
            if reading.says.among(NOTICES) <= _ABSENCES and not notice.only:
                each = _AGAINST
        else:
            each = _AGAINST
        return Weighed(points - each * len(against), " and ".join(against))

    def _points(self, asides: int, clean: bool) -> int:
        says, titled, facts, notice = self.reading.says, self.reading.titled, self.reading.traits, self.notice
        return (
            _ANSWERS * facts.answer
            + (_TITLED_BY_PROGRAM if self.titled_auto else _ANSWERS_A_PROGRAM if "auto_re" in titled else 0)
            + _SAYS_SO * self.automatic
            + _UNSEEN * self.unseen
            + _STATED * notice.stated
            + self._titled_points()
            + (bool(says.among(_INSTITUTIONAL)) or asides)
            + (notice.stated and notice.leads and notice.only and clean and "stays" not in says)
            + self._hint_fits()
            + facts.generated + facts.suppresses
            + self._alone
            - _BULK * (facts.bulk and not notice.stated and "auto" not in titled)
        )  # fmt: skip

    def _against(self) -> list[str]:
        """Name what only people do."""
        return [
            why
            for why, true in (
                ("it asks a question", _asks(self.reading)),
                ("it answers or orders something", _personal(self.reading, self.notice)),
                ("it does so of goods", {"person", "business", "goods"} <= self.reading.says.among(_OF_PEOPLE)),
                ("it wants our mail", "stays" in self.reading.says),
                ("it is long", not self.reading.short(_LONG_CHARS)),
            )
            if true
        ]

    def _ends(self, points: int, says_so: bool) -> str:
        """Name what ends it; "" where nothing does."""
        reading, facts = self.reading, self.reading.traits
        by_header = facts.answer or facts.null_path or facts.generated
        if not by_header and "reported" in reading.says:
            return "it tells of an automatic answer"
        if not (by_header or self.titled_auto) and _asks(reading):
            return "it asks a question"
        if self._is_no_answer(by_header or says_so):
            return "it is no answer"
        return self._says_more(points, says_so, by_header)

    def _is_no_answer(self, told: bool) -> bool:
        """Nothing of ours is answered: a program says "do not reply" of itself, a person begins a letter."""
        reading, notice, facts = self.reading, self.notice, self.reading.traits
        if facts.answer or self.unseen:
            return False
        if reading.own_title and not self.titled_auto and "ad.notice" in reading.says:
            return True
        if reading.own_title and facts.bulk and not self.title and "footer" in reading.says:
            return True
        if reading.own_title and not (self.title or told or facts.suppresses):
            return not reading.says.among({"moved", "ticket"})
        answers = self.title or not reading.own_title or "auto" in reading.titled
        return not (
            answers or reading.says.among(NOTICES - {"unmonitored"}) or facts.suppresses
            or (notice.covers(self.title and reading.new_title) and notice.leads)
        )  # fmt: skip

    def _says_more(self, points: int, says_so: bool, by_header: bool) -> str:
        """Name what it says beside a notice; "" where it says no more."""
        reading, notice = self.reading, self.notice
        covered = notice.covers(self.title and reading.new_title)
        as_much = notice.others >= notice.parts
        to_all = notice.leads and notice.asides > 0 and "patrons" in reading.says
        more = points < _PLENTY and not (self.unseen or by_header or says_so or covered or to_all)
        if not (by_header or self.titled_auto):
            more = more or notice.others > max(_FEW_OTHERS, notice.parts)
        if not (by_header or says_so or notice.stated or notice.contact):
            more = more or as_much
        if self.unseen and not (by_header or says_so or (self.title and reading.new_title) or notice.contact):
            said = reading.says.among(NOTICES)
            if said == {"absence3"} and not reading.says.among(_ANSWERING):
                return "it tells of somebody else"
            receipt = {"ticket", "promise"} <= reading.says.among({"ticket", "promise"})
            more = more or (as_much and not receipt) or (said <= _ABSENCES and not (notice.asides or notice.only))
        return "it says more than a notice" if more else ""

    def _asides(self) -> int:
        """What notices say beside their matter; people say until when as well, of what they want of us."""
        notice, says = self.notice, self.reading.says
        dated = (
            notice.stated and notice.asides == ("until" in says) and not (self.unseen or (notice.leads and notice.only))
        )
        return 0 if "stays" in says or dated else min(notice.asides, 1 if notice.stated else _ASIDES)

    @property
    def _hinted(self) -> bool:
        """A lone word such as "leave" is a notice where somebody else is named, or it is said until when."""
        return "hint" in self.reading.says and not self.notice.stated

    def _hint_fits(self) -> bool:
        reading, notice = self.reading, self.notice
        return self._hinted and (
            self.unseen or reading.traits.generated or reading.own_title or (notice.leads and notice.asides > 1)
        )

    @property
    def _alone(self) -> bool:
        """Nobody but a program knows the address; what it says is a notice, if only in words that no rule has."""
        return self.reading.traits.to_token and self._fits and _plain_statement(self.reading)

    @property
    def _fits(self) -> bool:
        """It says as much as notices do beside their matter; people say "until Thursday" as well, and no more of it."""
        notice, says = self.notice, self.reading.says
        facts = self.reading.traits
        told = facts.generated or facts.null_path or says.among({"auto", "promise"})
        return (
            bool(told)
            or notice.stated
            or (notice.contact and "@" in self.reading.own)
            or notice.asides + ("hint" in says) > 1
        )

    def _programs_only(self, asides: int) -> bool:
        """Tell whether the address and little else betray a program."""
        reading = self.reading
        wished = "optout" in reading.says or "optout" in reading.titled or "complaint" in reading.says
        beside = reading.traits.generated or self._hinted or asides > (not reading.own_title)
        return self._alone or (self.unseen and self._fits and beside and not ("stays" in reading.says or wished))

    def _titled_points(self) -> int:
        if not self.title:
            return 0
        about = self.notice.stated or self.reading.says.among({"until", "promise"})
        return 2 if self.reading.new_title and about else 1


def _is_bot(reading: Reading) -> bool:
    """Tell whether a chat-bot speaks: some people are virtual assistants as well, but nobody wants 1 or 2 typed."""
    return "bot" in reading.says and bool(reading.says.among({"menu", "ticket", "unmonitored"}))


def _converses(reading: Reading) -> bool:
    """Tell whether a bot asks and offers, as they do: "Did that help? Reply YES or NO"."""
    return {"bot", "menu"} <= reading.says.among({"bot", "menu"})


def _is_titled(reading: Reading) -> bool:
    """Tell whether the subject is a notice's, by the lists of titles or, where the sender chose it, by what it says.

    "Holiday and samples" is a letter's: programs know of one matter only.
    """
    if reading.own_title and _AND.search(reading.subject):
        return False
    if reading.titled.among(TITLES - {"auto"}):
        return True
    return reading.new_title and bool(book().read(reading.subject, None).among(NOTICES))


def _plain_statement(reading: Reading) -> bool:
    """Tell whether it states something, shortly, and neither asks nor wants anything of us."""
    wishes = reading.titled.among(_OF_PEOPLE) or reading.says.among(_OF_PEOPLE)
    return bool(reading.text) and reading.short(_STATEMENT_CHARS) and not wishes and not _asks(reading)


def _asks(reading: Reading) -> bool:
    """Tell whether something is asked of us; "Urgent? Call the office." asks nothing."""
    if _converses(reading):
        return False
    *asked, rest = _QUESTION.split(reading.unlinked)
    if not asked or not rest.strip() or "instead" not in reading.says:
        return bool(asked)
    for question, answer in zip(asked, [*asked[1:], rest], strict=True):
        if len(_STOP.split(question)[-1].split()) > _ASIDE_WORDS:
            return True
        if not book().read(SENTENCE.split(answer)[0], reading.tongues).among(_ANSWERING):
            return True
    return False


def _personal(reading: Reading, notice: Notice) -> bool:
    """Tell whether it answers, orders or speaks of things between us; "for orders call the shop" does not."""
    if _converses(reading):
        return False
    # "She has left, write to him and strike her off your list": the list is spoken of to strike her off.
    aside = {"our_letter"} if "optout" in reading.says and names_successor(reading) else set()
    if reading.says.among(_TO_US - aside) or (reading.says.among(_OF_KIN) and "instead" not in reading.says):
        return True
    if "goods" in reading.says and not (
        notice.contact or reading.says.among({"auto", "support", "instead", "promise"})
    ):
        return True
    if "business" not in reading.says or (notice.stated and "patrons" in reading.says):
        return False
    at = reading.says["business"].start
    start = max((m.end() for m in SENTENCE.finditer(reading.text) if m.end() <= at), default=0)
    sentence = SENTENCE.split(reading.text[start:])[0]
    if notice.stated and _DIRECTORY.search(sentence):  # "Invoices: accounts@dest.example"
        return False
    return "instead" not in book().read(sentence, reading.tongues)
