"""One message as the deciders see it: its new text, folded, with everything that the rules find in text and subject."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from classifier.context import Context
from classifier.mime import Message
from classifier.rulebook import Hit
from classifier.texts import tongue
from classifier.texts.book import book
from classifier.texts.fold import fold
from classifier.texts.newtext import NewText, new_text
from classifier.texts.traits import Traits, traits
from classifier.verdict import AutoReply, Evidence, Kind, Recipient

MAX_TEXT_CHARS = 4000  # of folded new text; a notice or a demand stands at the head of a message
QUESTION_MARKS = "?؟¿՞⸮"
_ANSWER = re.compile(r"\W{0,3}[^\s:]{1,5}\s?:")


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
        return any(mark in self.text for mark in QUESTION_MARKS)

    @property
    def personal(self) -> bool:
        """The sender answers, orders or hands something over."""
        return "person" in self.says or "business" in self.says

    @property
    def own_title(self) -> bool:
        """The sender chose the subject: it is no answer and nothing forwarded."""
        return not self.message.headers.get("in-reply-to") and not _ANSWER.match(self.subject)

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


def folded_text(text: str) -> str:
    """The head of a text, folded."""
    return fold(text[: MAX_TEXT_CHARS * 2])[:MAX_TEXT_CHARS]


def read(message: Message, context: Context) -> Reading:
    """Look at everything once; bounded by `MAX_TEXT_CHARS` and the bounds of the message's own parts."""
    new = new_text(message.text)
    text, subject = folded_text(new.text), fold(message.subject[:400])
    rules = book()
    tongues = tongue.possible(text, rules.common)
    says, titled = rules.read(text, tongues), rules.read(subject, None, title=True)
    return Reading(message, context, traits(message, context), new, text, subject, tongues, says, titled)
