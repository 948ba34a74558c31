"""Bulk mail: what lists and mailers send to many, and advertising that hides what it is.

A list's or a mailer's own header fields are enough. Without them marks are counted, each of which some people's mail
bears as well; three of different kinds hardly any does. An answer to a message (In-Reply-To, References) is never
counted out: whoever answers us is read. A title that looks like an answer's is believed, unless far more speaks
against it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from classifier.linear import Linear
from classifier.texts import make
from classifier.texts.book import REPLIES
from classifier.texts.reading import Judgement, Reading
from classifier.verdict import Evidence, Kind

ENOUGH = 3
ENOUGH_OF_AN_ANSWER = 8
LONG_CHARS = 1500
SHORT_CHARS = 400
NOTICE_TITLES = frozenset(
    {"auto", "auto_re", "absence", "received", "thanks", "gone", "moved", "unmonitored", "challenge"}
)
_ADVERTISED = (
    "ad.price", "ad.call", "ad.promise", "ad.money", "ad.goods", "ad.adult", "ad.fortune", "ad.plea", "ad.edition",
)  # fmt: skip
_STRONG = frozenset({"ad.fortune"})  # an advance-fee letter has hardly any other mark
_ROBOT = re.compile(
    rf"^(?:{make.UNANSWERED}|robot)(?:[+._-].*)?$",
    re.IGNORECASE,
)
_MONITOR = re.compile(rf"^(?:{make.MONITORS})(?:[+._-].*)?$", re.IGNORECASE)
_LINK = re.compile(r"https?:\W{1,3}[\w.-]{4,60}|\bwww\.[\w.-]{4,60}")
_TITLE_OF_ANSWER = Linear(f"^{REPLIES}")


def calendar(reading: Reading) -> Judgement | None:
    """Invitations and answers to them, RFC 5546: calendars read them, whatever their words."""
    if any(p.content_type == "text/calendar" for p in reading.message.walk()):
        return Judgement(Kind.OTHER, 0.85, evidence=(Evidence("other.calendar", "", -1, "text/calendar"),))
    return None


def sent_to_many(reading: Reading) -> Judgement | None:
    """List traffic and campaigns by their header fields alone, of which nobody needs to read a word.

    What a program may have written in answer to us is read all the same; so is a campaign's title.
    """
    facts = reading.traits
    if facts.by_program or not (facts.listed or facts.campaign):
        return None
    if not facts.listed and (reading.titled.among({"auto", "challenge"}) or _answers(reading)):
        return None
    return Judgement(Kind.OTHER, 0.8, evidence=facts.evidence)


def composed(reading: Reading) -> Judgement | None:
    """A long text whose make alone shows that it was sent to many: no word of it need be read."""
    if reading.traits.by_program or _answers(reading) or len(reading.message.text) <= LONG_CHARS:
        return None
    made = reading.made
    if sum(points for points, _ in made) < ENOUGH or reading.titled.among(NOTICE_TITLES):
        return None
    return Judgement(Kind.OTHER, 0.7, evidence=tuple(evidence for _, evidence in made))


def advertising(reading: Reading) -> Judgement | None:
    """A text of some length that is advertising beyond doubt, by its make and what it offers: no more need be asked."""
    if reading.traits.by_program or reading.short(SHORT_CHARS) or _answers(reading):
        return None
    if _TITLE_OF_ANSWER.within(reading.subject) or reading.titled.among(NOTICE_TITLES):
        return None
    found = [*_offered(reading), *reading.made]
    if sum(points for points, _ in found) <= ENOUGH:
        return None
    return Judgement(Kind.OTHER, 0.7, evidence=tuple(evidence for _, evidence in found))


def mail(reading: Reading) -> Judgement | None:
    """What lists and mailers send, and advertising."""
    if reading.traits.listed or reading.traits.bulk:
        return Judgement(Kind.OTHER, 0.8, evidence=reading.traits.evidence)
    if sure(reading):
        return Judgement(Kind.OTHER, 0.65, evidence=tuple(evidence for _, evidence in marks(reading)))
    return None


def sure(reading: Reading) -> bool:
    """Tell whether it is bulk mail beyond doubt, before what its text seems to ask for is believed."""
    if _answers(reading):
        return False
    return sum(points for points, _ in marks(reading)) >= (
        ENOUGH_OF_AN_ANSWER if _TITLE_OF_ANSWER.within(reading.subject) else ENOUGH
    )


def _answers(reading: Reading) -> bool:
    headers = reading.message.headers
    return "in-reply-to" in headers or "references" in headers


def marks(reading: Reading) -> Iterator[tuple[int, Evidence]]:
    """Each mark with its points."""
    yield from _offered(reading)
    if reading.own_title:
        yield from _told(reading)
    yield from reading.made


def _offered(reading: Reading) -> Iterator[tuple[int, Evidence]]:
    """The marks of its text: what it offers, and whom to write to for no more of it."""
    for evidence in reading.found("footer")[:1]:
        yield (2 if reading.short(SHORT_CHARS) else 3), evidence
    for label in _ADVERTISED:
        for evidence in reading.found(label)[:1]:
            yield (2 if label in _STRONG else 1), evidence


def _told(reading: Reading) -> Iterator[tuple[int, Evidence]]:
    """Under a title of its own: links, what programs tell their customers, and that nobody shall answer."""
    if (link := _linked(reading)) and reading.found(*_ADVERTISED) and not reading.personal:
        yield 1, Evidence("bulk.link", "", -1, link)
    told, unanswered = reading.found("ad.notice")[:1], reading.found("auto", "unmonitored")[:1]
    if told and (unanswered or not reading.personal):
        yield 2, told[0]
    if unanswered:
        yield 1, unanswered[0]
    local = reading.message.from_address.partition("@")[0]
    # By a forum's or a form's program.
    passed_on = "reply-to" in reading.message.headers or make.addressed(reading.message)
    watches = _MONITOR.match(local) is not None
    if (watches or _ROBOT.match(local)) and not passed_on and not reading.asks and not reading.personal:
        yield (ENOUGH if watches else 1), Evidence("bulk.robot", "", -1, reading.message.from_address[:200])


def _linked(reading: Reading) -> str:
    """The first link; "" where one leads to a site of ours: people write of that as well."""
    links = _LINK.findall(reading.text)
    ours = {".".join(target.rpartition("@")[2].lower().split(".")[-2:]) for target in reading.traits.targets}
    return "" if not links or any(site in link for link in links for site in ours) else links[0]
