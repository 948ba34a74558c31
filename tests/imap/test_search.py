"""SEARCH's tests of one message: what is passed over quickly is what would not have matched."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from store.imap.search import _ENVELOPE_FIELDS, _in_envelope, _test
from store.imap.search_keys import Text
from store.imap.structure import describe

PIECES = ["ab", "AB", "x1", "@", ".", " ", '"', "\\", "<", ">", ",", "=?utf-8?q?=C3=A4b?=", "é", "K", "-", "(", ")"]
VALUES = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)


@given(VALUES, VALUES, st.sampled_from(["from:", "subject:", "to:"]), VALUES)
def test_the_quick_look_changes_no_result(sender: str, subject: str, where: str, needle: str) -> None:
    header = f"From: {sender}\r\nTo: {subject}\r\nSubject: {subject}\r\n\r\n".encode()
    envelope = describe(header).envelope
    folded = needle.casefold()
    expected = _in_envelope(envelope, _ENVELOPE_FIELDS.index(where), folded)
    assert _test(Text(where, folded.encode()))(envelope) == expected
