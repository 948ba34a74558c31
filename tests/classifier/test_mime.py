"""Header blocks, parts and texts of well-formed and broken messages, as the classifier reads them."""

from __future__ import annotations

from classifier.mime.headers import split


def read(block: bytes) -> tuple[list[str], bytes, list[str]]:
    """The names of the fields, what follows them, and the defects of a message."""
    headers, body, defects = split(block, 0, len(block))
    return headers.names(), block[body:], defects


def test_clean_header_has_no_defects() -> None:
    assert read(b"A: 1\nB: 2\n 3\n\nbody\n") == (["a", "b"], b"body\n", [])
    assert read(b"A: 1\nB: 2") == (["a", "b"], b"", [])
    assert read(b"A: 1\nB : 2\nC:\n\n") == (["a", "b", "c"], b"", [])


def test_junk_between_fields_is_passed_over_wherever_it_stands() -> None:
    assert read(b"A: 1\njunk\nB: 2\n\nbody") == (["a", "b"], b"body", ["header-junk"])
    assert read(b"A: 1\n>From x\nB: 2\n\nbody") == (["a", "b"], b"body", [])


def test_junk_after_the_last_field_begins_the_body() -> None:
    assert read(b"A: 1\nno colon here\nnor here\n\nmore") == (
        ["a"],
        b"no colon here\nnor here\n\nmore",
        ["header-junk"],
    )
    assert read(b"A: 1\nB: 2\nlast line") == (["a", "b"], b"last line", ["header-junk"])


def test_junk_is_seen_in_a_header_of_many_kilobytes() -> None:
    fields = b"".join(b"X-%d: %s\n" % (i, b"v" * 100) for i in range(200))
    names, body, defects = read(fields + b"junk\n\nbody")
    assert (len(names), body, defects) == (200, b"junk\n\nbody", ["header-junk"])


def test_block_without_a_field_is_all_body() -> None:
    assert read(b"hello you\n\nthere") == ([], b"hello you\n\nthere", ["no-header"])
    assert read(b"From a@b Mon Jan 1\nA: 1\n\nx") == (["a"], b"x", [])


def test_fields_are_counted_no_further_than_the_bound() -> None:
    headers, body, defects = split(b"A: 1\n" * 6000 + b"\nx", 0, 30_002)
    assert (len(headers), body, defects) == (1, 30_001, ["too-many-fields"])
