"""Message bytes on disk: append-only segment files of zstd-compressed frames, each with a CRC.

    <state_dir>/quarantine/<arrival day>/<retention class>-<unique>.seg

Messages that arrive on the same day and stay equally long lie together, so that expiry can unlink whole files. A file
has one writer process, is never appended to by a later one, and a failed write ends it: what a crash or a failure
leaves behind the last committed frame (no row of the index points there) goes with its file.

A frame is self-describing: a header (magic, dictionary, lengths, journal id, CRC of all) and the compressed
concatenation of annotation headers, original message and the verdict's JSON.
"""

from __future__ import annotations

import os
import re
import struct
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from proxy.journal.files import Files
from proxy.journal.ids import new_id
from store.folders import FOLDERS
from store.settings import DAY_S, Retention

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LEVEL = 3
OPEN_FILES = 64

_FILE_HEADER = b"BOUNCETAP-SEG\x00\x01\n"
_FRAME_MAGIC = b"BTF1"
_FRAME = struct.Struct("<4sBIIII26s")  # magic, dictionary, stored, annotation, original and verdict bytes, id
_CRC = struct.Struct("<I")
_FRAME_HEADER_BYTES = _FRAME.size + _CRC.size
FIRST_FRAME = len(_FILE_HEADER)
PATHS = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]/*-*.seg"  # a glob in the quarantine directory
CHECKED_TIMES = 4  # a file's size: what may be spent on CRCs in search of frames


class DamagedFrame(Exception):
    """The bytes on disk are not the frame that was written."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message as it is stored. `annotation + original` is what IMAP shows."""

    id: str
    annotation: bytes
    original: bytes
    verdict: bytes  # JSON

    @property
    def shown(self) -> bytes:
        """Annotation headers and original."""
        return self.annotation + self.original


@dataclass(frozen=True, slots=True)
class Place:
    """Where a frame lies: `path` is relative to the quarantine directory, `size_bytes` counts its header."""

    path: str
    offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """What a frame says of itself, which no CRC has been asked about; `size_bytes` as in `Place`."""

    id: str
    offset: int
    size_bytes: int
    original_bytes: int


@dataclass(frozen=True, slots=True)
class Gap:
    """Bytes that are no frame: what a crash left at the end, or a frame whose header is damaged."""

    offset: int
    size_bytes: int


@cache
def _dictionary(number: int) -> Any:
    """A shipped dictionary (the first was trained on this project's fixtures); 0 is none.

    It holds nothing of anyone's mail, so expiry need not think of it. Once released, a dictionary never changes.
    """
    if number == 0:
        return None
    data = resources.files("store").joinpath(f"dictionary{number}.dict").read_bytes()
    return zstd.ZstdDict(data)


@cache
def newest_dictionary() -> int:
    """The number of the dictionary that new frames are written with."""
    number = 0
    while resources.files("store").joinpath(f"dictionary{number + 1}.dict").is_file():
        number += 1
    return number


def compressor(dictionary: int) -> Any:
    """One for the frames of one writer."""
    return zstd.ZstdCompressor(level=LEVEL, zstd_dict=_dictionary(dictionary))


def pack(frame: Frame, squeeze: Any, dictionary: int) -> tuple[bytes, bytes]:
    """(header, compressed payload)."""
    payload = b"".join((frame.annotation, frame.original, frame.verdict))
    stored = squeeze.compress(payload, squeeze.FLUSH_FRAME)
    lengths = (len(stored), len(frame.annotation), len(frame.original), len(frame.verdict))
    header = _FRAME.pack(_FRAME_MAGIC, dictionary, *lengths, frame.id.encode("ascii"))
    return header + _CRC.pack(zlib.crc32(stored, zlib.crc32(header))), stored


def unpack(data: bytes) -> Frame:
    """The frame in `data`, which is exactly its bytes. Raises DamagedFrame."""
    if len(data) < _FRAME_HEADER_BYTES:
        raise DamagedFrame("too short")
    magic, dictionary, stored_bytes, annotation, original, verdict, ident = _FRAME.unpack_from(data)
    stored = data[_FRAME_HEADER_BYTES:]
    if magic != _FRAME_MAGIC or stored_bytes != len(stored):
        raise DamagedFrame("not a frame")
    if not _crc_fits(data):
        raise DamagedFrame("its CRC does not fit")
    try:
        payload = zstd.decompress(stored, _dictionary(dictionary))
    except (zstd.ZstdError, OSError) as error:
        raise DamagedFrame(f"cannot be decompressed: {error}") from error
    if len(payload) != annotation + original + verdict:
        raise DamagedFrame("its length does not fit")
    middle, end = annotation, annotation + original
    return Frame(ident.decode("ascii"), payload[:middle], payload[middle:end], payload[end:])


def read(directory: Path, place: Place) -> Frame:
    """A frame from disk. Raises FileNotFoundError where the file has gone, OSError, DamagedFrame."""
    with (directory / place.path).open("rb", buffering=0) as file:
        return unpack(os.pread(file.fileno(), place.size_bytes, place.offset))


def walk(path: Path, start: int = FIRST_FRAME) -> Iterator[FrameHeader | Gap]:
    """What lies in a file from `start` on. Frames are told by their headers; behind a damaged one the next is sought.

    What follows a gap is a frame whose CRC was asked about. Raises OSError.
    """
    with path.open("rb", buffering=0) as file:
        size_bytes = os.fstat(file.fileno()).st_size
        offset, may_check_bytes = start, CHECKED_TIMES * size_bytes
        while offset < size_bytes:
            header = _header(file.fileno(), offset, size_bytes)
            if header is not None:
                yield header
                offset += header.size_bytes
                continue
            end, may_check_bytes = _next_frame(file.fileno(), offset + 1, size_bytes, may_check_bytes)
            yield Gap(offset, end - offset)
            offset = end


def _header(fd: int, offset: int, size_bytes: int) -> FrameHeader | None:
    head = os.pread(fd, _FRAME.size, offset)
    if len(head) < _FRAME.size:
        return None
    magic, _, stored_bytes, _, original_bytes, _, ident = _FRAME.unpack(head)
    whole = _FRAME_HEADER_BYTES + stored_bytes
    if magic != _FRAME_MAGIC or not ident.isalnum() or offset + whole > size_bytes:
        return None
    return FrameHeader(ident.decode("ascii"), offset, whole, original_bytes)


def _next_frame(fd: int, offset: int, size_bytes: int, may_check_bytes: int) -> tuple[int, int]:
    """Where the next whole frame begins, or the end; and how many bytes may still be checked.

    Mail may hold what looks like headers, so what is spent on CRCs is bounded.
    """
    while offset < size_bytes:
        piece = os.pread(fd, 1 << 20, offset)
        for found in re.finditer(_FRAME_MAGIC, piece):
            header = _header(fd, offset + found.start(), size_bytes)
            if header is not None and header.size_bytes <= may_check_bytes:
                may_check_bytes -= header.size_bytes
                if _crc_fits(os.pread(fd, header.size_bytes, header.offset)):
                    return header.offset, may_check_bytes
        offset += max(len(piece) - len(_FRAME_MAGIC) + 1, 1)  # one may lie across the border
    return size_bytes, may_check_bytes


def _crc_fits(data: bytes) -> bool:
    (crc,) = _CRC.unpack_from(data, _FRAME.size)
    return bool(zlib.crc32(data[_FRAME_HEADER_BYTES:], zlib.crc32(data[: _FRAME.size])) == crc)


def retention_class(folder: str) -> str:
    """A folder's name as it stands in a segment's name."""
    return re.sub(r"[^a-z0-9]", "_", folder.lower())


def ends_s(path: str, retention: Retention, otherwise_s: int) -> float:
    """When (Unix, s) the time is over of all that a segment may hold.

    `otherwise_s`: how long it stays where its class is no folder's. Raises ValueError where its directory is no day.
    """
    times = {retention_class(name): retention.for_folder(name) for name in FOLDERS}
    begins_s = datetime.fromisoformat(path.partition("/")[0]).replace(tzinfo=UTC).timestamp()
    return begins_s + DAY_S + times.get(class_of(path), otherwise_s)


def class_of(path: str) -> str:
    """The retention class in a segment's path."""
    return path.rpartition("/")[2].rpartition("-")[0]


class _OpenSegment:
    """A file being written: `size_bytes` is what has been handed out, `fd` its descriptor."""

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self.fd = fd
        self.size_bytes = len(_FILE_HEADER)
        self.written_bytes = 0
        self.buffers: list[bytes] = [_FILE_HEADER]


class SegmentWriter:
    """Appends frames. Not thread-safe; one writer for a quarantine directory (the filer's lock sees to it).

    `append` gives a frame its place, `sync` puts all that was appended on disk. After an OSError call `abandon`: the
    next frame begins new files, and no descriptor that failed is used again.
    """

    def __init__(self, directory: Path, segment_bytes: int, files: Files | None = None) -> None:
        self.directory = directory
        self.segment_bytes = segment_bytes
        self._files = files or Files()
        self._open: dict[tuple[str, str], _OpenSegment] = {}
        self._dirty: set[tuple[str, str]] = set()
        self._new_dirs: set[Path] = set()
        self._dictionary = newest_dictionary()
        self._compressor = compressor(self._dictionary)

    @property
    def open_paths(self) -> set[str]:
        """Files that may still be appended to: neither swept nor deleted."""
        return {segment.path for segment in self._open.values()}

    def append(self, day: str, kept: str, frame: Frame) -> Place:
        """Place a frame into the segment of its day (YYYY-MM-DD) and retention class. Raises OSError."""
        key = (day, kept)
        segment = self._open.get(key)
        if segment is None or segment.size_bytes >= self.segment_bytes:
            segment = self._begin(key)
        header, stored = pack(frame, self._compressor, self._dictionary)
        place = Place(segment.path, segment.size_bytes, len(header) + len(stored))
        segment.buffers += (header, stored)
        segment.size_bytes += place.size_bytes
        self._open[key] = self._open.pop(key)  # the least recently used is first
        self._dirty.add(key)
        return place

    def sync(self) -> None:
        """All that was appended is on disk when this returns. Raises OSError."""
        for key in sorted(self._dirty):
            self._write(self._open[key])
        self._files.point("segment_appended")
        for key in sorted(self._dirty):
            self._files.fdatasync(self._open[key].fd)
        for path in self._new_dirs:
            self._files.sync_dir(path)
        self._new_dirs.clear()
        self._dirty.clear()
        self._files.point("segment_synced")
        while len(self._open) > OPEN_FILES:
            self._close(next(iter(self._open)))

    def abandon(self) -> None:
        """Give all files up, as they are."""
        for key in list(self._open):
            self._close(key)
        self._dirty.clear()
        self._new_dirs.clear()

    close = abandon

    def close_path(self, path: str) -> None:
        """End one file, so that it may be deleted; all that was appended has been synced."""
        for key, segment in list(self._open.items()):
            if segment.path == path:
                self._close(key)

    def close_before(self, day: str) -> None:
        """End the files of earlier days."""
        for key in list(self._open):
            if key[0] < day:
                self._close(key)

    def _begin(self, key: tuple[str, str]) -> _OpenSegment:
        day, kept = key
        if key in self._dirty:  # its last frames are not written yet
            self.sync()
        if key in self._open:  # `sync` may have closed it
            self._close(key)
        parent = self.directory / day
        for path in (self.directory, parent):
            if not path.is_dir():
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._new_dirs.add(path.parent)
        path_name = f"{day}/{kept}-{new_id()}.seg"
        fd = self._files.open(self.directory / path_name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        self._new_dirs.add(parent)
        segment = self._open[key] = _OpenSegment(path_name, fd)
        return segment

    def _write(self, segment: _OpenSegment) -> None:
        left = memoryview(b"".join(segment.buffers))
        segment.buffers = []
        while left:
            count = self._files.pwritev(segment.fd, [left], segment.written_bytes)
            segment.written_bytes += count
            left = left[count:]

    def _close(self, key: tuple[str, str]) -> None:
        self._files.close(self._open.pop(key).fd)
