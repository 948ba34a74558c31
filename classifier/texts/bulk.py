"""Bulk mail: what lists and mailers send to many, and advertising that hides what it is.

A list's or a mailer's own header fields are enough. Without them marks are counted, each of which some people's mail
bears as well; three of different kinds hardly any does. An answer to a message (In-Reply-To, References) is never
counted out: whoever answers us is read. A title that looks like an answer's is believed, unless far more speaks
against it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from classifier import addresses
from classifier.linear import Linear
from classifier.texts.book import REPLIES
from classifier.texts.reading import Judgement, Reading
from classifier.verdict import Evidence, Kind

ENOUGH = 3
ENOUGH_OF_AN_ANSWER = 8
MAX_HTML_BYTES = 128 * 1024
LONG_CHARS = 1500
SHORT_CHARS = 400
NOTICE_TITLES = frozenset(
    {"auto", "auto_re", "absence", "received", "thanks", "gone", "moved", "unmonitored", "challenge"}
)
_ADVERTISED = (
    "ad.price", "ad.call", "ad.promise", "ad.money", "ad.goods", "ad.adult", "ad.fortune", "ad.plea", "ad.edition",
)  # fmt: skip
_STRONG = frozenset({"ad.fortune"})  # an advance-fee letter has hardly any other mark
_MAILERS = Linear(
    r"accucast|mass ?mail|bulk|group ?mail|e-?mail ?(?:blast|campaign)|newsletter|store-mailer|campaign|mailchimp"
    r"|sendgrid|mailjet|phpmailer|swiftmailer|ocxmail|aspmail|jmail|cgi|listserv|majordomo|mail(?:man|ing ?list)"
    r"|dartmail|lyris|zustellservice|constant contact|atlas mailer|\bsupermailer|turbomail|the bat! .{0,20}bulk"
)
_UNANSWERED = (
    r"no[._-]?reply|do[._-]?not[._-]?reply|n[aã]o[._-]?respond(?:a|er)|no[._-]?respond(?:a|er|as)"
    r"|ne[._-]?pas[._-]?repondre|(?:bitte[._-]?)?nicht[._-]?antworten|non[._-]?rispondere|niet[._-]?(?:be)?antwoorden"
    r"|nie[._-]?odpowiadac?j?|svara[._-]?ej|svar[._-]?ikke|voicemail|asterisk|alerts?|notifications?|notify"
    r"|monitor(?:ing)?|automail(?:er)?"
)
_NOBODY = re.compile(
    rf"^(?:{_UNANSWERED}|news(?:letters?)?|e-?news|nobody|updates?|offers?"
    r"|deals|promo(?:tions?)?|marketing|mailer|weboffers|specials|digest|list|nic|orders?|billing|invoices?|statements?|tracking|shipping)(?:[+._-].*)?$",
    re.IGNORECASE,
)
_ROBOT = re.compile(
    rf"^(?:{_UNANSWERED}|robot)(?:[+._-].*)?$",
    re.IGNORECASE,
)
_SUBJECT_MARKS = Linear(
    r"^\[alert\]|\bnotification\b|"
    r"\badv\s?:|\(광고\)|\[광고\]|【廣告】|\$\$|!{2,}|\b\d{1,3} ?% off\b|\bfree\b.*!|\s{4,}\S*\d\S*$|\s{4,}\S+$|"
    r"[a-z]\s?#\s?\d{3,}[a-z]?$|[a-z?!.]{3,}\s?\d{4,}$|(?:newsletter|digest|enews|announcements?)\b.*\d|v[1i]agra|\[[a-z]{5}\]$"
)
_LINK = re.compile(r"https?:\W{1,3}[\w.-]{4,60}|\bwww\.[\w.-]{4,60}")
_TITLE_OF_ANSWER = Linear(f"^{REPLIES}")
_MANY = 5


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
    made = list(_made(reading))
    if sum(points for points, _ in made) < ENOUGH or reading.titled.among(NOTICE_TITLES):
        return None
    return Judgement(Kind.OTHER, 0.7, evidence=tuple(evidence for _, evidence in made))


def advertising(reading: Reading) -> Judgement | None:
    """A text of some length that is advertising beyond doubt, by its make and what it offers: no more need be asked."""
    if reading.traits.by_program or reading.short(SHORT_CHARS) or _answers(reading):
        return None
    if _TITLE_OF_ANSWER.within(reading.subject) or reading.titled.among(NOTICE_TITLES):
        return None
    found = [*_offered(reading), *_made(reading)]
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
    yield from _made(reading)


def _offered(reading: Reading) -> Iterator[tuple[int, Evidence]]:
    """The marks of its text: what it offers, and whom to write to for no more of it."""
    for evidence in reading.found("footer")[:1]:
        yield (2 if reading.short(SHORT_CHARS) else 3), evidence
    for label in _ADVERTISED:
        for evidence in reading.found(label)[:1]:
            yield (2 if label in _STRONG else 1), evidence


def _made(reading: Reading) -> Iterator[tuple[int, Evidence]]:
    """The marks that stand outside the text: of header fields, subject, address fields and HTML."""
    message = reading.message
    if reading.traits.flagged:
        yield 2, Evidence("bulk.flagged", "", -1, "a spam filter says so")
    mailer = message.headers.get("x-mailer") or message.headers.get("user-agent") or ""
    if found := _MAILERS.first(mailer[:200]):
        yield 2, Evidence("bulk.mailer", "", -1, found[:80])
    local = message.from_address.partition("@")[0]
    if _NOBODY.match(local) or (sum(c.isdigit() for c in local) >= 3 and not local.isdigit()):
        yield 1, Evidence("bulk.sender", "", -1, message.from_address[:200])
    if mark := _SUBJECT_MARKS.first(message.subject[:300].strip()):
        yield (3 if "adv" in mark.lower() else 1), Evidence("bulk.subject", "", -1, mark[-80:])
    if why := _addressed(reading):
        yield 1, Evidence("bulk.to", "", -1, why)
    yield from _composed(reading)


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
    passed_on = "reply-to" in reading.message.headers or _addressed(reading)  # by a forum's or a form's program
    if _ROBOT.match(local) and not passed_on and not reading.asks and not reading.personal:
        yield 1, Evidence("bulk.robot", "", -1, reading.message.from_address[:200])


def _linked(reading: Reading) -> str:
    """The first link; "" where one leads to a site of ours: people write of that as well."""
    links = _LINK.findall(reading.text)
    ours = {".".join(target.rpartition("@")[2].lower().split(".")[-2:]) for target in reading.traits.targets}
    return "" if not links or any(site in link for link in links for site in ours) else links[0]


def _addressed(reading: Reading) -> str:
    """Name what is odd in whom it is addressed to; "" for mail as people address it."""
    headers = reading.message.headers
    to = (headers.get("to") or "")[:4000]
    people = [f.address.lower() for f in addresses.find(to, _MANY + 1)]
    if not to.strip() or "undisclosed" in to.lower() or not people:
        return "to nobody"
    if len(people) > _MANY:
        return "to many"
    return "to its own sender" if people == [reading.message.from_address.lower()] else ""


def _composed(reading: Reading) -> Iterator[tuple[int, Evidence]]:
    """HTML with no text beside it, the more so when it is full of pictures and links."""
    message = reading.message
    if not message.html_only:
        return
    yield 1, Evidence("bulk.html", "", -1, "HTML only")
    parts = (p.decoded(MAX_HTML_BYTES) for p in message.walk() if p.content_type == "text/html")
    html = b"".join(parts)[:MAX_HTML_BYTES].lower()
    pictures, links = html.count(b"<img"), html.count(b"<a ") + html.count(b"<area") + html.count(b"<form")
    if (pictures >= 3 and links >= 2) or links >= 8:
        yield 2, Evidence("bulk.html", "", -1, f"{pictures} pictures, {links} links")
    elif pictures and links:
        yield 1, Evidence("bulk.html", "", -1, f"{pictures} pictures, {links} links")
