"""Letters that speak of absences, lists, spam or orders and that somebody must read (`persons.toml`)."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from classifier import classify
from classifier.verdict import Kind
from tests.support.letters import letter

PERSONS = tomllib.loads((Path(__file__).parent / "persons.toml").read_text(encoding="utf-8"))["person"]
ADDRESSES = {
    "return path": "bounces+20261124-771-bob=client.example@rp.shop.example",
    "newsletter": "newsletter@news.shop.example",
    "service": "service@shop.example",
}


@pytest.mark.parametrize("person", PERSONS, ids=lambda person: f"{person['language']}-{person['text'][:40]}")
def test_a_person_stays_a_person(person: dict[str, Any]) -> None:
    to = ADDRESSES[person["to"]]
    raw = letter(person["text"], to=to, subject=person["subject"], answers=person.get("answers", False))
    assert classify(raw).kind is Kind.HUMAN


@pytest.mark.parametrize(
    "text",
    [
        "Your free shipping code fails. I click here https://shop.example/c and it says expired. I'd like to be done.",
        "The 20% off banner goes to https://shop.example/sale which is blank. Click here: https://pics.example/8812.",
        "Der Rabatt von 20 % wird unter https://shop.example/k nicht abgezogen, trotz hier klicken. Jetzt 49 statt 39.",
        "I run a small gift shop in Ludlow, www.ludlowlanterns.example. Please send me your wholesale prices.",
    ],
)
def test_whoever_writes_of_our_offers_sends_no_advertisement(text: str) -> None:
    assert classify(letter(text, to=ADDRESSES["service"], subject="Your offer")).kind is Kind.HUMAN


def test_persons_of_many_languages() -> None:
    assert len({person["language"] for person in PERSONS}) >= 12
