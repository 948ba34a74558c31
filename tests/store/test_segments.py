"""Segments: frames come back exactly, damage is told, files are bounded and end with their day."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store import segments
from store.segments import DamagedFrame, Frame, SegmentWriter, newest_dictionary, unpack

ID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
BODY = st.binary(max_size=500)


def packed(frame: Frame) -> bytes:
    number = newest_dictionary()
    return b"".join(segments.pack(frame, segments.compressor(number), number))


@given(BODY, BODY, BODY)
def test_frames_come_back(annotation: bytes, original: bytes, verdict: bytes) -> None:
    frame = Frame(ID, annotation, original, verdict)
    assert unpack(packed(frame)) == frame


@settings(max_examples=300)
@given(st.data())
def test_every_changed_byte_is_noticed(data: st.DataObject) -> None:
    good = packed(Frame(ID, b"head\r\n", b"body " * 20, b"{}"))
    at = data.draw(st.integers(0, len(good) - 1))
    bad = bytearray(good)
    bad[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(DamagedFrame):
        unpack(bytes(bad))
    with pytest.raises(DamagedFrame):
        unpack(good[:at])


@given(st.binary(max_size=200))
def test_noise_is_no_frame(noise: bytes) -> None:
    with pytest.raises(DamagedFrame):
        unpack(noise)


def test_files_are_bounded_and_by_day_and_class(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path, 2000)
    places = {}
    for number in range(40):
        frame = Frame(ID, b"head\r\n", random.Random(number).randbytes(400), b"{}")
        key = (f"2026-11-2{number % 2}", "other" if number % 4 < 2 else "delays")
        places[writer.append(*key, frame)] = frame
        if number % 5 == 0:
            writer.sync()
    writer.sync()
    for place, frame in places.items():
        assert segments.read(tmp_path, place) == frame
    names = {path.relative_to(tmp_path).as_posix()[:15] for path in tmp_path.rglob("*.seg")}
    assert names == {f"2026-11-2{day}/{kept}" for day in (0, 1) for kept in ("othe", "dela")}
    assert len(list(tmp_path.rglob("*.seg"))) > 4
    assert max(path.stat().st_size for path in tmp_path.rglob("*.seg")) < 3000
    assert len(writer.open_paths) == 4
    writer.close_before("2026-11-21")
    assert all(path.startswith("2026-11-21") for path in writer.open_paths)
    writer.close()
    assert not writer.open_paths


def test_open_files_are_bounded(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path, 2000)
    for number in range(100):
        writer.append(f"2026-01-{number:03d}", "other", Frame(ID, b"", b"x", b""))
        writer.sync()
    assert len(writer.open_paths) == segments.OPEN_FILES
    writer.close()


def test_a_full_file_may_be_the_one_that_is_closed_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "OPEN_FILES", 1)
    writer = SegmentWriter(tmp_path, 500)
    frames = [Frame(ID, b"", random.Random(n).randbytes(600), b"") for n in range(3)]
    keys = [("2026-01-01", "other"), ("2026-01-02", "other"), ("2026-01-01", "other")]
    places = [writer.append(*key, frame) for key, frame in zip(keys, frames, strict=True)]
    writer.sync()
    assert [segments.read(tmp_path, place) for place in places] == frames
    writer.close()
