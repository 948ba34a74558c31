"""What a segment looks like: a header of 64 bytes, then framed records up to its end, zeros after that.

Each segment draws eight random bytes, its salt: four open every frame, four seed every CRC. A message that carries
journal bytes, or a stale block of an older file, therefore cannot pass for a record; and every frame names its own
LSN, so that it is valid in one place only. Pure functions; nothing here touches a file.
"""

from __future__ import annotations

import secrets
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from proxy.journal.errors import DamageError, UnknownVersionError

MAGIC = b"BTapJrnl"
VERSION = 1
HEADER_BYTES = 64
FRAME_BYTES = 24

_HEADER = struct.Struct("<8sHHQQq8s")  # magic, version, header size, seq, base LSN, created_ns, salt; CRC at the end
_HEADER_CRC = struct.Struct("<I")
_FRAME = struct.Struct("<4sBxxxIQ")  # salt's first half, kind, payload length, LSN; then the CRC
_CRC = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """A segment's first bytes: its place in the stream, when it was made (Unix, ns), and its salt."""

    seq: int
    base: int
    created_ns: int
    salt: bytes

    @property
    def mark(self) -> bytes:
        """The four bytes that open each frame of this segment."""
        return self.salt[:4]

    @property
    def seed(self) -> int:
        """What each CRC of this segment starts from."""
        return int.from_bytes(self.salt[4:], "little")


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """A frame's first 24 bytes, not yet checked against its payload."""

    kind: int
    length: int
    lsn: int
    crc: int
    crc_of_head: int

    @property
    def next_lsn(self) -> int:
        """Where the record after this one begins."""
        return self.lsn + FRAME_BYTES + self.length

    def fits(self, payload: bytes) -> bool:
        """Whether `payload` is what was written."""
        return len(payload) == self.length and zlib.crc32(payload, self.crc_of_head) == self.crc


def new_salt() -> bytes:
    """Eight random bytes, the first of them never zero: preallocated zeros are no frame."""
    salt = secrets.token_bytes(8)
    return salt if salt[0] else new_salt()


def pack_header(header: SegmentHeader) -> bytes:
    """64 bytes."""
    packed = _HEADER.pack(MAGIC, VERSION, HEADER_BYTES, header.seq, header.base, header.created_ns, header.salt)
    packed = packed.ljust(HEADER_BYTES - _HEADER_CRC.size, b"\0")
    return packed + _HEADER_CRC.pack(zlib.crc32(packed))


def unpack_header(data: bytes) -> SegmentHeader:
    """Raises UnknownVersionError for a later version, DamageError for what is no header at all."""
    if len(data) < HEADER_BYTES or not data.startswith(MAGIC):
        raise DamageError("no segment header")
    _, version, size, seq, base, created_ns, salt = _HEADER.unpack_from(data)
    if version != VERSION:
        raise UnknownVersionError(f"segment format version {version}, this program knows {VERSION}")
    body = data[: HEADER_BYTES - _HEADER_CRC.size]
    (crc,) = _HEADER_CRC.unpack_from(data, len(body))
    if size != HEADER_BYTES or zlib.crc32(body) != crc:
        raise DamageError("damaged segment header")
    return SegmentHeader(seq, base, created_ns, salt)


def pack_frame(header: SegmentHeader, kind: int, lsn: int, payload: Sequence[bytes]) -> bytes:
    """The 24 bytes that go before `payload` (given in parts)."""
    head = _FRAME.pack(header.mark, kind, sum(map(len, payload)), lsn)
    crc = zlib.crc32(head, header.seed)
    for part in payload:
        crc = zlib.crc32(part, crc)
    return head + _CRC.pack(crc)


def unpack_frame(header: SegmentHeader, data: bytes, lsn: int) -> FrameHeader | None:
    """What stands at `lsn`, None if that is no frame that was written for this place."""
    if len(data) < FRAME_BYTES or not data.startswith(header.mark):
        return None
    _, kind, length, written_lsn = _FRAME.unpack_from(data)
    if written_lsn != lsn:
        return None
    (crc,) = _CRC.unpack_from(data, _FRAME.size)
    return FrameHeader(kind, length, lsn, crc, zlib.crc32(data[: _FRAME.size], header.seed))
