"""One message, one verdict: with CRLF, LF or bare CR line ends, and in whatever kind of buffer it comes.

There are no exceptions: line ends become LF before anything is read, so the bare CRs of a message with mixed ones are
line ends too. What a message had in a base64 body is made LF likewise, once it is decoded.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from classifier import classify
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


def test_nothing_is_remembered_from_one_message_to_the_next() -> None:
    first = [classify(path.read_bytes()) for path in FIXTURES]
    again = [classify(path.read_bytes()) for path in reversed(FIXTURES)]
    assert again[::-1] == first
