"""Letters from around the world (`letters_world.txt`): each is what it says, wherever it was sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from classifier import classify
from classifier.verdict import Kind
from tests.support.letters import letter

LINES = (Path(__file__).parent / "letters_world.txt").read_text(encoding="utf-8").splitlines()
LETTERS = [line.split(" ", 2) for line in LINES if line and not line.startswith("#")]
KINDS = {"N": Kind.AUTO_REPLY, "U": Kind.UNSUBSCRIBE, "C": Kind.COMPLAINT, "H": Kind.HUMAN}
ADDRESSES = ("newsletter@news.shop.example", "bounces+17188-bob=client.example@rp.shop.example")


@pytest.mark.parametrize("language", sorted({language for language, _, _ in LETTERS}))
@pytest.mark.parametrize("kind", KINDS)
def test_a_letter_is_what_it_says_wherever_it_was_sent(language: str, kind: str) -> None:
    texts = [text.replace(" // ", "\n") for code, said, text in LETTERS if (code, said) == (language, kind)]
    mistaken = [
        (text, address)
        for text in texts
        for address in ADDRESSES
        if classify(letter(text, to=address, subject="Re: Spring")).kind is not KINDS[kind]
    ]
    assert not mistaken
