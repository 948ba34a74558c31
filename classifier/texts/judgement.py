"""`judge()`: what a message that is no delivery report is; where in doubt, a person's mail.

An automatic answer, a challenge, an opt-out, a complaint, a notice by a machine, bulk mail, or a person's: one lost
customer reply costs more than a hundred misfiled bounces. Quoted text never counts (`newtext`). The first of these
that is sure decides; each has its module, and says there what it needs to be sure.

1. providers' complaint forms; list mail and campaigns, by header fields; reports by machines that say so; long bulk
   mail and advertising beyond doubt; challenges, which must never count as answers
2. mail to an unsubscribe address: the address alone is the request, but for a text that says more than one needs
3. complaints before opt-outs: who complains wants out as well
4. opt-outs before automatic answers: a request may come from somebody who is "no longer" a reader
5. automatic answers; what else a program sent by itself; bulk mail
6. all the rest is human
"""

from __future__ import annotations

from classifier.context import Context
from classifier.mime import Message
from classifier.texts import automatic, bulk, forms, machines, people, wishes
from classifier.texts.book import book
from classifier.texts.reading import Judgement, Reading, folded_text
from classifier.verdict import Kind

__all__ = ["Judgement", "is_challenge", "judge"]


def judge(message: Message, context: Context) -> Judgement:
    """Decide. Pure; bounded by `reading.MAX_TEXT_CHARS` and the bounds of the message's own parts."""
    reading = Reading(message, context)
    for decide in (
        bulk.calendar, _form, bulk.sent_to_many, bulk.composed, machines.report, machines.waiting,
        bulk.advertising, _challenge, _passed_on, wishes.unsubscribe_address, wishes.complaint, wishes.opt_out,
        automatic.answer, machines.notice, bulk.mail,
    ):  # fmt: skip
        judgement = decide(reading)
        if judgement is not None:
            return judgement
    return _human(reading)


def is_challenge(message: Message) -> bool:
    """Tell whether a message in a report's clothes (some systems send them so) asks its reader to prove being human."""
    return bool(book().challenge.search(folded_text(message.text)))


def _challenge(reading: Reading) -> Judgement | None:
    """Known wording, or a text that says both that the mail waits and what its sender has to prove."""
    if reading.traits.listed:
        return None
    found = reading.found("challenge")
    if not found and all(said in reading.says or said in reading.titled for said in ("held", "prove")):
        found = reading.found("held", "prove")
    if not found:
        return None
    return Judgement(
        Kind.CHALLENGE_RESPONSE, 0.95, people.sender(reading.message), evidence=found + reading.traits.evidence
    )


def _form(reading: Reading) -> Judgement | None:
    form = forms.find(reading.message, reading.context)
    if form is not None:
        return Judgement(form.kind, 0.95, form.recipients, feedback_type=form.feedback_type, evidence=form.evidence)
    return None


def _passed_on(reading: Reading) -> Judgement | None:
    """A complaint that a provider's desk passes on in words."""
    told = reading.found("passed_on")
    if not told or not reading.own_title or reading.traits.listed or reading.traits.bulk:
        return None
    customer = forms.customer(reading.message, reading.traits.targets)
    return Judgement(Kind.COMPLAINT, 0.9, customer, feedback_type="abuse", evidence=told + reading.traits.evidence)


def _human(reading: Reading) -> Judgement:
    if target := wishes.unsubscribe_target(reading):
        return wishes.letter_there(reading, target)
    sure = 0.95 if reading.asks or reading.personal or reading.traits.person else 0.8
    return Judgement(Kind.HUMAN, sure, people.sender(reading.message), evidence=reading.evidence("person", "business"))
