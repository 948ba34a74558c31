"""Short messages in some fifty languages (`letters.txt`): each gets the kind it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from classifier import classify
from classifier.verdict import Kind
from tests.support.letters import letter

LINES = (Path(__file__).parent / "letters.txt").read_text(encoding="utf-8").splitlines()
LETTERS = [line.split(" ", 2) for line in LINES if line and not line.startswith("#")]
KINDS = {"U": Kind.UNSUBSCRIBE, "C": Kind.COMPLAINT, "H": Kind.HUMAN}
RETURN_PATH = "bounce+c77.abcdef@news.shop.example"


def of(*kinds: str) -> list[str]:
    return [text for _, kind, text in LETTERS if kind in kinds]


def test_every_language_has_letters_of_each_kind() -> None:
    kinds = {
        language: {"A" if kind == "N" else kind for code, kind, _ in LETTERS if code == language}
        for language, *_ in LETTERS
    }
    assert len(kinds) >= 50
    assert [code for code, found in kinds.items() if found != set("AUCH")] == ["ms"]


@pytest.mark.parametrize(("code", "text"), [(kind, text) for _, kind, text in LETTERS if kind in KINDS])
def test_people(code: str, text: str) -> None:
    assert classify(letter(text, answers=True)).kind is KINDS[code]


@pytest.mark.parametrize("text", of("N"))
def test_automatic_answers_to_any_address(text: str) -> None:
    assert classify(letter(text, answers=True)).kind is Kind.AUTO_REPLY


@pytest.mark.parametrize("text", of("A", "N"))
def test_automatic_answers_to_the_return_path(text: str) -> None:
    assert classify(letter(text, to=RETURN_PATH, subject="Re: Your November digest")).kind is Kind.AUTO_REPLY


@pytest.mark.parametrize("text", [text for text in of("H") if any(mark in text for mark in "?؟;՞")])
def test_whoever_asks_is_a_person_wherever_it_was_sent(text: str) -> None:
    verdict = classify(letter(text, to=RETURN_PATH, answers=True))
    assert verdict.kind is Kind.HUMAN
