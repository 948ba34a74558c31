"""Segments with anything in them: garbage, damage, our own bytes in a message, a later version."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.journal.errors import DamageError, UnknownVersionError
from proxy.journal.format import (
    FRAME_BYTES,
    HEADER_BYTES,
    SegmentHeader,
    new_salt,
    pack_frame,
    pack_header,
    unpack_header,
)
from proxy.journal.scan import Frame, Gap, Segment

fixture_ok = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
HEADER = SegmentHeader(3, 1000, 5, b"saltSALT")


def framed(payloads: list[bytes], header: SegmentHeader = HEADER) -> bytes:
    data, lsn = b"", header.base
    for payload in payloads:
        data += pack_frame(header, 1, lsn, [payload]) + payload
        lsn += FRAME_BYTES + len(payload)
    return data


def walk(path: Path, data: bytes, limit: int = 1 << 60) -> list[Frame | Gap]:
    path.write_bytes(pack_header(HEADER) + data)
    with Segment(path) as segment:
        return list(segment.walk(min(limit, segment.end)))


@given(st.lists(st.binary(max_size=2000), max_size=12), st.binary(max_size=100))
@fixture_ok
def test_what_was_written_is_read(tmp_path: Path, payloads: list[bytes], tail: bytes) -> None:
    items = walk(tmp_path / "s", framed(payloads) + b"\0" * 50 + tail)
    assert [item.payload for item in items if isinstance(item, Frame)] == payloads
    assert not any(isinstance(item, Gap) for item in items)


@given(st.lists(st.binary(min_size=1, max_size=500), min_size=1, max_size=8), st.data())
@fixture_ok
def test_damage_costs_the_damaged_records_only(tmp_path: Path, payloads: list[bytes], data: st.DataObject) -> None:
    whole = bytearray(framed(payloads))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    starts = [sum(FRAME_BYTES + len(p) for p in payloads[:n]) for n in range(len(payloads) + 1)]
    hit = max(n for n in range(len(payloads)) if starts[n] <= at)
    items = walk(tmp_path / "s", bytes(whole))
    expected = payloads[:hit] + payloads[hit + 1 :]
    assert [item.payload for item in items if isinstance(item, Frame)] == expected
    gaps = [(item.lsn - 1000, item.next_lsn - 1000) for item in items if isinstance(item, Gap)]
    assert gaps == ([(starts[hit], starts[hit + 1])] if hit + 1 < len(payloads) else [])


@given(st.binary(max_size=4000))
@fixture_ok
def test_garbage_yields_nothing(tmp_path: Path, data: bytes) -> None:
    assert walk(tmp_path / "s", data) == []


def test_a_message_that_holds_a_journal_is_one_record(tmp_path: Path) -> None:
    other = SegmentHeader(3, 1000, 5, new_salt())
    inner = pack_header(other) + framed([b"forged"] * 50, other)
    whole = framed([b"first", inner, b"last"])
    items = walk(tmp_path / "s", whole)
    assert [item.payload for item in items if isinstance(item, Frame)] == [b"first", inner, b"last"]
    # Even when the frame around it is damaged, nothing in it passes for a record.
    damaged = bytearray(whole)
    damaged[FRAME_BYTES + 5 + 10] ^= 1
    items = walk(tmp_path / "s", bytes(damaged))
    assert [item.payload for item in items if isinstance(item, Frame)] == [b"first", b"last"]


def test_a_record_is_valid_in_its_own_place_only(tmp_path: Path) -> None:
    first = framed([b"one"])
    assert [type(item) for item in walk(tmp_path / "s", first + first)] == [Frame]


def test_a_record_past_the_limit_is_not_read(tmp_path: Path) -> None:
    assert len(walk(tmp_path / "s", framed([b"abc", b"def"]), limit=1000 + 2 * FRAME_BYTES + 5)) == 1


def test_a_huge_record_after_a_wide_gap_is_found(tmp_path: Path) -> None:
    big = os.urandom(3_000_000)
    data = bytearray(framed([os.urandom(2_500_000), big]))
    data[FRAME_BYTES + 77] ^= 1
    items = walk(tmp_path / "s", bytes(data))
    assert [type(item) for item in items] == [Gap, Frame]
    assert isinstance(items[1], Frame)
    assert items[1].payload == big


@given(st.binary(max_size=200))
def test_a_header_is_one_or_damage(data: bytes) -> None:
    with pytest.raises(DamageError):
        unpack_header(data)


def test_a_later_version_is_told_apart_from_damage() -> None:
    header = bytearray(pack_header(HEADER))
    assert len(header) == HEADER_BYTES
    assert unpack_header(bytes(header)) == HEADER
    header[8] = 2
    with pytest.raises(UnknownVersionError):
        unpack_header(bytes(header))
    header[8], header[20] = 1, header[20] ^ 1
    with pytest.raises(DamageError):
        unpack_header(bytes(header))


def test_a_salt_never_begins_with_zero() -> None:
    assert all(new_salt()[0] for _ in range(2000))
