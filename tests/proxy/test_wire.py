"""Bodies on the wire: where they end however the stream is cut, what could smuggle, how often it was relayed."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.journal.records import unstuffed
from proxy.wire import Smuggling, Splitter, inspect, normalized, received_count

pieces = st.lists(st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"\r\n.\r\n", b"\r\n..", b"a", b"\0"]), max_size=40)
octets = pieces.map(b"".join)


def reference(stream: bytes) -> tuple[bytes, bytes] | None:
    """Body and rest by the plainest means: the first CRLF.CRLF, the DATA command's own CRLF included."""
    end = (b"\r\n" + stream).find(b"\r\n.\r\n")
    return None if end < 0 else (stream[:end], stream[end + 3 :])


@given(octets, st.lists(st.integers(1, 7), min_size=1))
@example(b".\r\nQUIT\r\n", [1])
@example(b"a\r\n.\r\n", [1, 2])
def test_every_chunking_gives_what_the_reference_gives(stream: bytes, cuts: list[int]) -> None:
    splitter, position, turn = Splitter(), 0, 0
    while position < len(stream):
        size = cuts[turn % len(cuts)]
        rest = splitter.feed(bytearray(stream[position : position + size]))
        position, turn = position + size, turn + 1
        if rest is not None:
            body = splitter.wire()
            assert (body, rest + stream[position:]) == reference(stream)
            assert body == b"" or body.endswith(b"\r\n")
            return
    assert reference(stream) is None


def test_discarding_still_finds_the_end() -> None:
    splitter = Splitter()
    splitter.discard()
    assert splitter.feed(b"x" * 100_000 + b"\r\n.") is None
    assert splitter.feed(b"\r\nNOOP\r\n") == b"NOOP\r\n"
    assert splitter.discarded


def test_a_line_of_200_kb_passes() -> None:
    splitter = Splitter()
    assert splitter.feed(b"x" * 200_000 + b"\r\n.\r\n") == b""
    assert splitter.wire() == b"x" * 200_000 + b"\r\n"


SMUGGLERS = [b"a\n.\nb\r\n", b"a\n.\r\nb\r\n", b"a\r.\rb\r\n", b"a\r.\r\nb\r\n", b"a\r\n.\nb\r\n", b"a\r\n.\rb\r\n"]


@pytest.mark.parametrize("wire", [*SMUGGLERS, b".\nMAIL FROM:<>\r\n", b"a\n.\rb\r\n"])
def test_a_lone_dot_beside_a_bare_line_end_is_refused(wire: bytes) -> None:
    assert inspect(wire, Smuggling.REFUSE).refused.startswith("554 5.6.11 ")
    assert inspect(wire, Smuggling.STRICT).refused.startswith("554 5.6.11 ")


@pytest.mark.parametrize("wire", [b"a\nb\r\n", b"a\rb\r\n", b"a\r\r\n", b"\n..\n\r\n", b"\n.text\r\n", b"x.\n\r\n"])
def test_other_bare_line_ends_pass_unchanged_and_are_counted(wire: bytes) -> None:
    inspected = inspect(wire, Smuggling.REFUSE)
    assert (inspected.wire, inspected.refused) == (wire, "")
    assert inspected.bare_cr + inspected.bare_lf > 0
    assert inspect(wire, Smuggling.STRICT).refused


@given(octets)
def test_normalizing_leaves_only_crlf_and_the_same_text(stream: bytes) -> None:
    found = reference(stream + b"\r\n.\r\n")
    assert found is not None
    wire = found[0]
    out = normalized(wire)
    assert out.count(b"\r") == out.count(b"\n") == out.count(b"\r\n")
    assert b"\r\n.\r\n" not in b"\r\n" + out
    lines = unstuffed(wire).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    assert unstuffed(out).replace(b"\r\n", b"\n") == lines


@given(octets)
def test_what_refuse_lets_pass_ends_once_however_line_ends_are_read(stream: bytes) -> None:
    found = reference(stream + b"\r\n.\r\n")
    assert found is not None
    inspected = inspect(found[0], Smuggling.REFUSE)
    if not inspected.refused:
        loose = (b"\n" + inspected.wire).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        assert b"\n.\n" not in loose


def test_received_counts_the_header_only() -> None:
    assert received_count(b"Received: a\r\nreceived: b\r\nX-Received: c\r\n\r\nReceived: d\r\n") == 2
    assert received_count(b"\r\nReceived: d\r\n\r\n") == 0
    assert received_count(b"") == 0
