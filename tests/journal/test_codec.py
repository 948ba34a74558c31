"""Records to bytes and back, and bytes that are no records."""

from __future__ import annotations

import contextlib
import dataclasses

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.journal.codec import ENTRY, MARK, decode, encode_entry, encode_mark
from proxy.journal.errors import DamageError, JournalError
from proxy.journal.ids import ALPHABET, IdSource, encode
from proxy.journal.records import Entry, Fate, Mark
from tests.support.journal import make_entry

ids = st.text(max_size=60)
entries = st.builds(
    Entry,
    id=ids,
    received_ns=st.integers(-(2**63), 2**63 - 1),
    peer=st.text(max_size=100),
    helo=st.binary(max_size=600),
    tls=st.text(max_size=50),
    mail_arg=st.binary(max_size=2048),
    rcpt_args=st.lists(st.binary(max_size=100), max_size=30).map(tuple),
    wire=st.binary(max_size=3000),
    digest=st.binary(min_size=32, max_size=32),
    smtputf8=st.booleans(),
    proxied_for=st.text(max_size=60),
    refused=st.text(max_size=200),
    copied_from=st.text(max_size=80),
)
marks = st.builds(
    Mark,
    id=ids,
    at_ns=st.integers(-(2**63), 2**63 - 1),
    rcpts=st.lists(st.integers(0, 2**32 - 1), max_size=40).map(tuple),
    fate=st.none() | st.sampled_from(Fate),
    code=st.integers(0, 999),
    text=st.text(max_size=500),
    host=st.text(max_size=80),
    answered=st.none() | st.integers(0, 599),
    moved_to=st.text(max_size=80),
)


@given(entries)
@example(make_entry(0, rcpts=0))
@example(make_entry(0, rcpts=1000))
def test_entry_round_trip(entry: Entry) -> None:
    head, wire = encode_entry(entry)
    assert decode(ENTRY, head + wire) == entry
    envelope = dataclasses.replace(entry, wire=b"")
    assert decode(ENTRY, head, body=False) == envelope
    assert decode(ENTRY, head + wire[:7], body=False) == envelope


@given(marks)
def test_mark_round_trip(mark: Mark) -> None:
    assert decode(MARK, encode_mark(mark)) == mark


@given(st.sampled_from([ENTRY, MARK]), st.binary(max_size=300))
def test_garbage_is_damage_and_nothing_else(kind: int, data: bytes) -> None:
    with contextlib.suppress(DamageError):
        decode(kind, data)


@given(entries, st.data())
def test_no_truncated_entry_passes(entry: Entry, data: st.DataObject) -> None:
    whole = b"".join(encode_entry(entry))
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(DamageError):
        decode(ENTRY, whole[:cut])


def test_a_later_kind_of_record_is_passed_over() -> None:
    assert decode(77, b"whatever") is None


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(JournalError):
        encode_entry(make_entry(10, helo=b"x" * 70_000))
    with pytest.raises(JournalError):
        encode_entry(make_entry(10, digest=b"short"))
    with pytest.raises(JournalError):
        encode_mark(Mark("i", 1 << 80))


def test_a_long_reply_is_cut() -> None:
    decoded = decode(MARK, encode_mark(Mark("i", 1, (0,), Fate.REJECTED, 550, "é" * 10_000)))
    assert isinstance(decoded, Mark)
    assert decoded.text == "é" * 500


@given(st.lists(st.integers(0, 2**60), min_size=2, max_size=50))
def test_ids_grow_whatever_the_clock_does(clock: list[int]) -> None:
    source = IdSource()
    made = [source.next(now_ns) for now_ns in clock]
    assert sorted(set(made)) == made
    assert all(len(ident) == 26 and set(ident) <= set(ALPHABET) for ident in made)


def test_ids_are_ulids() -> None:
    assert encode(0) == "0" * 26
    assert encode(2**128 - 1) == "7" + "Z" * 25
    assert encode(1_469_918_176_385 << 80)[:10] == "01ARYZ6S41"
