"""One message, one verdict: with CRLF, LF or bare CR line ends, and in whatever kind of buffer it comes.

There are no exceptions: line ends become LF before anything is read, so the bare CRs of a message with mixed ones are
line ends too. What a message had in a base64 body is made LF likewise, once it is decoded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from classifier import classify
from classifier.context import Context, Patterns
from classifier.verdict import Verdict
from tests.support.verdicts import places, without_places

FIXTURES = sorted((Path(__file__).parents[2] / "fixtures").rglob("*.eml"))


def check(raw: bytes) -> None:
    """The verdict with each line end, and the offsets, which count the bytes of the message as it stands."""
    lf = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    crlf, cr = lf.replace(b"\n", b"\r\n"), lf.replace(b"\n", b"\r")
    told = classify(lf)
    for other in (crlf, cr):
        assert without_places(classify(other)) == without_places(told)
    assert places(classify(cr)) == places(told)
    assert places(classify(crlf)) == [at + lf.count(b"\n", 0, at) if at >= 0 else -1 for at in places(told)]


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_fixtures_with_each_line_end(path: Path) -> None:
    check(path.read_bytes())


@pytest.mark.corpus
def test_labelled_messages_with_each_line_end(corpus: Path) -> None:
    for path in sorted(corpus.iterdir()):
        check(path.read_bytes())


@pytest.mark.parametrize("path", FIXTURES[::7], ids=lambda path: path.stem)
def test_any_buffer_will_do(path: Path) -> None:
    raw = path.read_bytes()
    padded = b"x" + raw + b"x"
    told: Verdict = classify(raw)
    assert classify(bytearray(raw)) == told
    assert classify(memoryview(padded)[1:-1]) == told
    assert classify(b"".join(raw[at : at + 7] for at in range(0, len(raw), 7))) == told


@pytest.mark.parametrize("what", [5, True, [65], "From: a@b.example", None, Path("x")])
def test_what_is_no_message_is_refused(what: Any) -> None:
    with pytest.raises(TypeError):
        classify(what)


def test_a_context_of_lists_is_the_same() -> None:
    lists: Any = {"envelope_to": ["bounce+ann=dest.example@shop.example"]}
    given = Context(**lists, patterns=Patterns(verp=["bounce+{address}@shop.example"]))  # type: ignore[arg-type]
    assert given == Context(
        envelope_to=("bounce+ann=dest.example@shop.example",),
        patterns=Patterns(verp=("bounce+{address}@shop.example",)),
    )
    for wrong in ("a@b.example", None):
        with pytest.raises(TypeError, match="envelope_to are texts"):
            Context(envelope_to=wrong)  # type: ignore[arg-type]


def test_nothing_is_remembered_from_one_message_to_the_next() -> None:
    first = [classify(path.read_bytes()) for path in FIXTURES]
    again = [classify(path.read_bytes()) for path in reversed(FIXTURES)]
    assert again[::-1] == first
