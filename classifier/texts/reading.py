"""One message as the deciders see it: its new text, folded, with everything that the rules find in text and subject."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from classifier.context import Context
from classifier.fold import fold
from classifier.mime import Message
from classifier.texts import make, tongue
from classifier.texts.book import book
from classifier.texts.newtext import new_text, quoted_head
from classifier.texts.said import Said
from classifier.texts.traits import Traits, traits
from classifier.verdict import AutoReply, Evidence, Kind, Recipient

MAX_TEXT_CHARS = 3000  # of folded new text; a notice or a demand stands at the head of a message
QUESTION_MARKS = "?؟¿՞⸮"
_LINK = re.compile(r"\bhttps?://\S+")
_ANSWER = re.compile(r"\W{0,3}[^\s:]{1,5}\s?:")
# Some words, not one or two: 'the page that says "unsubscribe"' is told by its own words as well.
_CITED = re.compile(
    r'(?:(?<=[\s(:,])|^)"(?:(?=\w)(?:[^"\s]{1,40} ){2,30}[^"\s]{1,40}| (?:[^"\s]{1,40} ){3,30})"(?=[\s.,;:!?)]|$)'
    r"|[「『][^」』]{6,120}[」』]"
)
_GREETING_CHARS = 90
_LIST_ADDRESSES = ("list-post", "mailing-list", "x-mailing-list", "x-beenthere", "list-id")
_OWN_CHARS = 20  # beside what is cited


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


class Reading:
    """All that may be asked of a message, found out when it is first asked for: most list mail needs no text at all.

    `text` and `subject` are folded; `says` and `titled` hold the first hit of each label in them. Bounded by
    `MAX_TEXT_CHARS` and the bounds of the message's own parts.
    """

    def __init__(self, message: Message, context: Context) -> None:
        self.message = message
        self.context = context
        self._traits: Traits | None = None
        self._new: str | None = None
        self._text: str | None = None
        self._own: str | None = None
        self._subject: str | None = None
        self._tongues: tuple[frozenset[str] | None] | None = None
        self._says: Said | None = None
        self._titled: Said | None = None
        self._made: tuple[tuple[int, Evidence], ...] | None = None

    @property
    def traits(self) -> Traits:
        """Who sent it, by its header fields."""
        if self._traits is None:
            facts = traits(self.message, self.context)
            if facts.listed and not facts.by_program and self._answers_the_list(facts):
                facts = replace(facts, listed=False, bulk=False, campaign=False)
            self._traits = facts
        return self._traits

    def _answers_the_list(self, facts: Traits) -> bool:
        """Tell whether somebody answers what the list itself had sent: ours, where a group is behind our address.

        On lists that people talk on, members quote members.
        """
        if self.own_title:
            return False
        headers = self.message.headers
        named = " ".join(headers.get(name) or "" for name in _LIST_ADDRESSES).lower()
        lists = [t.lower() for t in facts.targets if t.lower() in named or f"<{t.replace('@', '.').lower()}>" in named]
        head = quoted_head(self.message.text).lower() if lists else ""
        return any(address in head for address in lists)

    @property
    def new(self) -> str:
        """What the sender wrote now."""
        if self._new is None:
            self._new = new_text(self.message.text)
        return self._new

    @property
    def text(self) -> str:
        """The new text, folded; without a greeting's question where it tells an address, as farewells do."""
        if self._text is None:
            text = folded_text(self.new)
            greets = "?" in text[:_GREETING_CHARS] and "@" in text
            self._text = text[book().greeting_ends(text) :] if greets else text
        return self._text

    @property
    def own(self) -> str:
        """The text with blanks for what it cites: whoever writes what a page or a program said does not say it."""
        if self._own is None:
            self._own = _without_citations(self.text)
        return self._own

    @property
    def subject(self) -> str:
        """The subject, folded."""
        if self._subject is None:
            self._subject = fold(self.message.subject[:400])
        return self._subject

    @property
    def tongues(self) -> frozenset[str] | None:
        """The languages that the text can be in; None: in any."""
        if self._tongues is None:
            self._tongues = (tongue.possible(self.text, book().common),)
        return self._tongues[0]

    @property
    def says(self) -> Said:
        """What the rules find in the sender's own words."""
        if self._says is None:
            self._says = book().read(self.own, self.tongues)
        return self._says

    @property
    def titled(self) -> Said:
        """What they find in the subject."""
        if self._titled is None:
            self._titled = book().read(self.subject, None, title=True)
        return self._titled

    @property
    def made(self) -> tuple[tuple[int, Evidence], ...]:
        """The marks of bulk mail that stand outside the text, each with its points."""
        if self._made is None:
            self._made = tuple(make.marks(self.message, self.traits.flagged))
        return self._made

    @property
    def asks(self) -> bool:
        """A question mark of any script in the new text, outside of links."""
        marks = [mark for mark in QUESTION_MARKS if mark in self.text]
        return bool(marks) and any(mark in self.unlinked for mark in marks)

    @property
    def unlinked(self) -> str:
        """The new text without its links, whose question marks ask nothing."""
        return _LINK.sub(" ", self.text) if "://" in self.text else self.text

    @property
    def personal(self) -> bool:
        """The sender answers, plans, orders or hands something over."""
        return bool(self.says.among({"person", "business", "plans", "reported"}))

    @property
    def new_title(self) -> bool:
        """The subject is not that of an answer: a person who answers keeps ours, a program often chooses its own."""
        return not _ANSWER.match(self.subject)

    @property
    def own_title(self) -> bool:
        """The sender chose the subject: it is no answer and nothing forwarded."""
        # "Maternity leave Re: Warm light": what a program sets before the title that it answers.
        return not self.message.headers.get("in-reply-to") and self.new_title and " re: " not in self.subject

    def short(self, limit: int) -> bool:
        """The folded new text has at most so many characters."""
        return len(self.text) <= limit

    def found(self, *labels: str) -> tuple[Evidence, ...]:
        """What the rules with these labels found in subject and text."""
        hits = [hit for label in labels for hit in (self.titled.get(label), self.says.get(label)) if hit is not None]
        return tuple(dict.fromkeys(Evidence(h.rule.id, "", -1, h.text[:200]) for h in hits))

    def evidence(self, *labels: str) -> tuple[Evidence, ...]:
        """What was found under these labels, with the headers' evidence."""
        return self.found(*labels) + self.traits.evidence


def _without_citations(text: str) -> str:
    if '"' not in text and "「" not in text:
        return text
    own = _CITED.sub(lambda cited: " " * len(cited.group()), text)
    return own if len(own.split()) > 3 and len(own) - own.count(" ") > _OWN_CHARS else text


def folded_text(text: str) -> str:
    """The head of a text, folded."""
    return fold(text[: MAX_TEXT_CHARS * 2])[:MAX_TEXT_CHARS]
