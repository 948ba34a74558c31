"""What a message says, as case-folded text for SEARCH: decoded headers and the decoded text parts of the body.

Bounded and tolerant: what cannot be decoded is taken as Latin-1; at most 4 MB of a body count.
"""

from __future__ import annotations

import base64
import binascii
import quopri
import re
from collections.abc import Iterator

from classifier.mime.encodings import codec
from store.imap.mime import Part, field_lines, header_end, parse

_TEXT_LIMIT_BYTES = 4_000_000
_HEADER_LIMIT_BYTES = 1_000_000
_WORD = re.compile(rb"=\?([^?\s]{1,60})\?([bBqQ])\?([^?\s]*)\?=(?:\s+(?==\?[^?\s]{1,60}\?[bBqQ]\?[^?\s]*\?=))?")
_FOLD = re.compile(rb"\r?\n")
_BASE64_NOISE = re.compile(rb"[^A-Za-z0-9+/]")


def decode_words(value: bytes) -> str:
    """A header value with its encoded words decoded (RFC 2047), case-folded."""
    if b"=?" not in value:
        return _decoded(value, "utf-8")
    return _decoded(_WORD.sub(_word, value), "utf-8")


def header_text(raw: bytes) -> str:
    """All fields of the top header, one a line."""
    return _header(raw[: min(header_end(raw, 0, len(raw)), _HEADER_LIMIT_BYTES)])


def field_text(raw: bytes, name: bytes) -> Iterator[str]:
    """The values of all top header fields of that lower-case name."""
    for found, line in field_lines(raw[: min(header_end(raw, 0, len(raw)), _HEADER_LIMIT_BYTES)]):
        if found == name:
            yield decode_words(_FOLD.sub(b"", line.partition(b":")[2]).strip())


def body_text(raw: bytes) -> str:
    """Preamble aside, all text parts, and the headers of all parts."""
    root = parse(raw)
    return "\n".join(_texts(raw, root, [_TEXT_LIMIT_BYTES]))


def _texts(raw: bytes, part: Part, left: list[int]) -> Iterator[str]:
    if left[0] <= 0:
        return
    if part.parts:
        for child in part.parts:
            yield _header(raw[child.start : min(child.body, child.start + _HEADER_LIMIT_BYTES)])
            yield from _texts(raw, child, left)
    elif part.kind[0] in (b"text", b"message"):
        data = _transfer_decoded(part, raw[part.body : min(part.end, part.body + left[0])])
        left[0] -= part.end - part.body
        charset = next((v for k, v in part.parameters if k.lower() == b"charset"), b"utf-8")
        yield _decoded(data, charset.decode("ascii", "replace"))


def _transfer_decoded(part: Part, data: bytes) -> bytes:
    encoding = part.fields.get(b"content-transfer-encoding", b"").lower()
    if encoding.startswith(b"base64"):
        return _base64(data)
    return quopri.decodestring(data) if encoding.startswith(b"quoted-printable") else data


def _base64(data: bytes) -> bytes:
    clean = _BASE64_NOISE.sub(b"", data)
    clean = clean[: len(clean) - 1] if len(clean) % 4 == 1 else clean
    try:
        return base64.b64decode(clean + b"=" * (-len(clean) % 4))
    except binascii.Error:
        return data


def _word(found: re.Match[bytes]) -> bytes:
    charset, encoding, text = found.groups()
    data = _base64(text) if encoding in b"bB" else quopri.decodestring(text, header=True)
    name = codec(charset.decode("ascii", "replace"))
    try:
        return data if name is None else data.decode(name).encode("utf-8", "replace")
    except UnicodeError:
        return data


def _header(header: bytes) -> str:
    return decode_words(_FOLD.sub(b"\n", header).replace(b"\n ", b" ").replace(b"\n\t", b" "))


def _decoded(data: bytes, charset: str) -> str:
    name = codec(charset)
    try:
        return data.decode("utf-8" if name in (None, "ascii") else name).casefold()
    except UnicodeError:
        return data.decode("latin-1").casefold()
