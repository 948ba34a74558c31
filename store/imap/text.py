"""What a message says, as case-folded text for SEARCH: decoded headers and the decoded text parts of the body.

Bounded and tolerant, with the classifier's decoders; at most 4 MB of a body count.
"""

from __future__ import annotations

import quopri
import re
from collections.abc import Iterator

from classifier.mime.encodings import codec, decode, from_base64, from_transfer
from store.imap.mime import Part, field_lines, header_end, parse

_TEXT_LIMIT_BYTES = 4_000_000
_HEADER_LIMIT_BYTES = 1_000_000
_WORD = re.compile(rb"=\?([^?\s]{1,60})\?([bBqQ])\?([^?\s]*)\?=(?:\s+(?==\?[^?\s]{1,60}\?[bBqQ]\?[^?\s]*\?=))?")
_FOLD = re.compile(rb"\r?\n")


def decode_words(value: bytes) -> str:
    """A header value with its encoded words decoded (RFC 2047), case-folded."""
    return decode(_WORD.sub(_word, value) if b"=?" in value else value).casefold()


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
        encoding = part.fields.get(b"content-transfer-encoding", b"").partition(b";")[0].strip().lower()
        stored = raw[part.body : min(part.end, part.body + left[0])]
        data = from_transfer(stored, encoding.decode("ascii", "replace"), _TEXT_LIMIT_BYTES)
        left[0] -= part.end - part.body
        charset = next((v for k, v in part.parameters if k.lower() == b"charset"), b"utf-8")
        yield decode(data, charset.decode("ascii", "replace")).casefold()


def _word(found: re.Match[bytes]) -> bytes:
    charset, encoding, text = found.groups()
    data = from_base64(text) if encoding in b"bB" else quopri.decodestring(text, header=True)
    name = codec(charset.decode("ascii", "replace"))
    try:
        return data if name is None else data.decode(name).encode("utf-8", "replace")
    except UnicodeError:  # maybe half a character, whose other half is in the next word
        return data


def _header(header: bytes) -> str:
    return decode_words(_FOLD.sub(b"\n", header).replace(b"\n ", b" ").replace(b"\n\t", b" "))
