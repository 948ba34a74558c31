"""How much of a text is a notice: that somebody is away or gone, that a mailbox has moved, that a message arrived.

A text is looked at sentence by sentence. Parts of a notice say its matter (`NOTICES`) or what notices say beside it
(`ASIDES`: until when, whom to ask instead, when an answer comes, that mail is not read). Greetings, farewells and
names are neither.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from classifier.texts.book import book
from classifier.texts.reading import Reading

NOTICES = frozenset({"left", "left3", "moved", "absence", "absence3", "ticket", "unmonitored"})
ASIDES = ("support", "until", "instead", "promise", "offline")
# An aside counts nothing: thanks, wishes, excuses; nor does what is said to all patients, or what a bot wants typed.
_PARTS = NOTICES | {"auto", "hint", "aside", "patrons", "bot", "menu", *ASIDES}
_NOT_OF_ONESELF = frozenset({"absence3"})  # "my husband is away" begins no notice
_BEFORE = frozenset({"support", "ticket", "auto", "aside"})  # "Thank you for your mail." stands before the notice
_GREETING_CHARS = 34
_NAME_CHARS = 16
_PREFIX_CHARS = 60
_SIGNATURE_CHARS = 60
_WORD_OR_TWO = 2
_SENTENCES = 30
_WORDS_A_PART = 18  # longer, a sentence says something else as well
# In Thai a full stop abbreviates; a space ends a sentence.
SENTENCE = re.compile(r"(?<![\d\u0e00-\u0e7f])[.!?;]+(?:\s|$)|(?<=[^\x00-\x7f\u0e00-\u0e7f])\.|[।۔؟։]+")
_UNSPACED = re.compile("[\u0e00-\u0e7f\u3005-\u30ff\u3400-\u9fff]")
_TELEPHONE = re.compile(r"(?<![\w.,/-])\+?\(?\d(?:[ \-./()]{0,2}\d){6,11}(?![\d,]|[.\-/ ]\d)")
_MAILBOX = re.compile(r"[^\s@<>()]@[^\s@<>()]")


@dataclass(frozen=True, slots=True)
class Notice:
    """What was seen.

    `stated`: it says a notice's matter; `leads`: it begins with it; `contact`: it names an address or a telephone
    number; `asides`: how many of `ASIDES`; `parts`, `others`: sentences that belong to a notice, and do not; `only`:
    nothing stands beside it, not even a few words.
    """

    stated: bool
    leads: bool
    contact: bool
    asides: int
    parts: int
    others: int
    only: bool

    def covers(self, titled: bool) -> bool:
        """Tell whether it is about nothing else; one sentence more is borne where much speaks for a notice.

        Under a title of a notice half of the sentences are enough: what else would the letter be about?
        """
        if self.others == 0 or (titled and self.others <= self.parts + 1):
            return True
        return self.others == 1 and (self.parts > 1 or (self.leads and self.contact))


def names_contact(text: str) -> bool:
    """Tell whether a text names an address or a telephone number."""
    return names_mailbox(text) or _TELEPHONE.search(text) is not None


def names_mailbox(text: str) -> bool:
    """Tell whether a text names a mail address."""
    return "@" in text and _MAILBOX.search(text) is not None


def names_successor(reading: Reading) -> bool:
    """Tell whether somebody else is said to have gone, and an address is named: that of whom to write to instead."""
    return "left3" in reading.says and names_mailbox(reading.text)


def look(reading: Reading) -> Notice:
    """Look at the new text's first sentences."""
    rules = book()
    contact = names_contact(reading.text)
    stated = bool(reading.says.among(NOTICES))
    parts = others = 0
    only, leads, begun = True, False, False
    sentences = SENTENCE.split(reading.own)[:_SENTENCES]
    for at, sentence in enumerate(sentences):
        words = [word for word in sentence.strip(" ,;:-").split() if word.strip(",;:.!") not in rules.polite]
        rest = " ".join(words)
        if not rest:
            continue
        said = reading.says.within(sentence, _PARTS)
        is_part = bool(said) or names_contact(sentence)
        before = bool(said) and said.keys() <= _BEFORE
        if not begun and not before and (is_part or len(rest) > _NAME_CHARS):
            begun = True
            told = said.keys() & (NOTICES if stated else {"hint"})
            starts = [said[label].start for label in told - _NOT_OF_ONESELF if label != "moved" or contact]
            leads = bool(starts) and min(starts) <= _PREFIX_CHARS
        if is_part:
            parts += 1
            others += len(words) > _WORDS_A_PART * (len(said.keys() & _PARTS - {"hint"}) or 1)
            continue
        # "Bye!" and a name below the last sentence are no matter; "Ich komme mit." is one.
        signed = at == len(sentences) - 1 and len(rest) <= _SIGNATURE_CHARS
        unspaced = len(_UNSPACED.findall(rest))  # two or three of these are a word
        few = signed or len(rest.split()) + unspaced // 4 <= _WORD_OR_TWO
        only = only and few and not any(c.isdigit() for c in rest)
        others += len(rest) + unspaced > _GREETING_CHARS
    return Notice(
        stated=stated,
        leads=leads,
        contact=contact,
        asides=sum(label in reading.says for label in ASIDES) + (contact and "instead" not in reading.says),
        parts=parts,
        others=others,
        only=only,
    )
