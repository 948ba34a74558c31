"""Runs tests/dialogues/*.txt: one test a dialogue."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.inbound import running

FOLDER = Path(__file__).parent.parent / "dialogues"


def dialogues() -> Iterator[object]:
    for file in sorted(FOLDER.glob("*.txt")):
        _, *blocks = file.read_text("utf-8").split("\n== ")
        for block in blocks:
            title, _, script = block.partition("\n")
            yield pytest.param(script, id=f"{file.stem}: {title}")


@pytest.mark.parametrize("script", list(dialogues()))
async def test_dialogue(script: str) -> None:
    async with running() as tap:
        client = await tap.connect(greeted=False)
        for number, row in enumerate(script.splitlines(), 1):
            mark, text = row[:2], row[3:]
            if mark == "->":
                await client.say(text.encode("utf-8").decode("unicode_escape").encode("latin-1") + b"\r\n")
            elif mark == "<-":
                line = await client.line()
                assert line.startswith(text), f"line {number}: wanted {text!r}, got {line!r}"
            elif mark == "<.":
                assert await client.closed(), f"line {number}: not closed"
