"""Letters of Northern Europe and of smaller languages (`letters_north.toml`): each gets the kind it is."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from classifier import classify
from tests.support.letters import letter

LETTERS = tomllib.loads(Path(__file__).with_name("letters_north.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in LETTERS.items() for text in texts])
def test_a_letter_is_what_it_says(kind: str, text: str) -> None:
    assert classify(letter(text, answers=True)).kind == kind
