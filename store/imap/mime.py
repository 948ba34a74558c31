"""A tolerant, bounded walker over the MIME tree of a message, giving byte ranges rather than copies.

It is not the classifier's walker (`classifier.mime`), which reads a copy with LF line ends and decodes what it finds:
here each range is that of the exact bytes, and each part has its number, whether anybody reads it or not.

Nothing here raises on any input. A multipart whose boundary is missing or never occurs is taken for plain text, so
that an analyst can still read it; what lies deeper or further than the bounds is a leaf.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

DEPTH_LIMIT = 32
PARTS_LIMIT = 1000
HEADER_LIMIT_BYTES = 1_000_000  # fields are looked for in so many bytes of a header
_VALUE_LIMIT_BYTES = 16_384  # one field's unfolded value, as a summary shows it
_CANDIDATES_LIMIT = 20_000  # lines that begin like a boundary, over the whole message
_SCAN_LIMIT_BYTES = 256_000_000  # bytes searched for boundaries, over all levels

_HEADER_END = re.compile(rb"\n\r?\n")
_FIELD_START = re.compile(rb"\n(?![ \t])")
_FOLD = re.compile(rb"\r?\n")
_TOKEN = re.compile(rb"[^\s()<>@,;:\\\"/\[\]?=\x00-\x1f\x7f-\xff]+")
_PARAMETER = re.compile(rb";\s*([^\s=;\"()]+)\s*=\s*(\"(?:[^\"\\]|\\.)*\"?|[^\s;]*)", re.DOTALL)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_DELIMITER_END = re.compile(rb"(--)?[ \t]{0,200}(?:\r?\n|\r?\Z)")

Parameters = tuple[tuple[bytes, bytes], ...]


@dataclass(slots=True)
class Part:
    """One entity: its header is `raw[start:body]`, its body `raw[body:end]`.

    `kind` is (type, subtype) in lower case. `parts` are the children of a multipart, or the one message inside a
    `message/rfc822`. `fields` maps lower-case names to the first such field's unfolded value.
    """

    start: int
    body: int
    end: int
    kind: tuple[bytes, bytes] = (b"text", b"plain")
    parameters: Parameters = ()
    fields: dict[bytes, bytes] = field(default_factory=dict)
    parts: list[Part] = field(default_factory=list)

    @property
    def is_multipart(self) -> bool:
        """Whether the children are numbered parts of this entity."""
        return self.kind[0] == b"multipart"

    @property
    def is_message(self) -> bool:
        """Whether the one child is a message of its own."""
        return self.kind == (b"message", b"rfc822")


def header_end(raw: bytes, start: int, end: int) -> int:
    """Where the body begins: after the first empty line, or `end` where there is none."""
    for blank in (b"\r\n", b"\n"):
        if raw.startswith(blank, start, end):
            return start + len(blank)
    found = _HEADER_END.search(raw, start, end)
    return found.end() if found else end


def field_lines(header: bytes) -> list[tuple[bytes, bytes]]:
    """(lower-case name, whole field with folds, without its last line end) for each field, in order."""
    lines = []
    for line in _FIELD_START.split(header):
        name, colon, _ = line.partition(b":")
        if colon and (name := name.strip()):
            lines.append((name.lower(), line.removesuffix(b"\r") if line.endswith(b"\r") else line))
    return lines


def split_value(value: bytes) -> tuple[bytes, Parameters]:
    """A structured field's first word, and its parameters unquoted (RFC 2045 section 5.1, tolerant)."""
    first = value.split(b";", 1)[0].strip()
    parameters = []
    for found in _PARAMETER.finditer(value):
        name, given = found.groups()
        if given.startswith(b'"'):
            given = _ESCAPED.sub(rb"\1", given[1:].removesuffix(b'"'))
        parameters.append((name, given))
    return first, tuple(parameters)


def parse(raw: bytes) -> Part:
    """The tree of a whole message."""
    return _Walk(raw).entity(0, len(raw), 0)


class _Walk:
    """One walk with its bounds."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._parts_left = PARTS_LIMIT
        self._candidates_left = _CANDIDATES_LIMIT
        self._bytes_left = _SCAN_LIMIT_BYTES

    def entity(self, start: int, end: int, depth: int, *, in_digest: bool = False) -> Part:
        self._parts_left -= 1
        body = header_end(self._raw, start, end)
        part = Part(start, body, end, fields=_summary(self._raw[start : min(body, start + HEADER_LIMIT_BYTES)]))
        part.kind, part.parameters = _content_type(part.fields.get(b"content-type"), in_digest)
        if part.is_multipart:
            part.parts = self._children(part, depth)
            if not part.parts:
                part.kind, part.parameters = (b"text", b"plain"), ()
        elif part.is_message:
            if depth >= DEPTH_LIMIT or self._parts_left <= 0:
                part.kind, part.parameters = (b"application", b"octet-stream"), ()
            else:
                part.parts = [self.entity(body, end, depth + 1)]
        return part

    def _children(self, part: Part, depth: int) -> list[Part]:
        boundary = next((v for k, v in part.parameters if k.lower() == b"boundary"), b"").rstrip()
        if not boundary or depth >= DEPTH_LIMIT or self._bytes_left < part.end - part.body:
            return []
        self._bytes_left -= part.end - part.body
        children: list[Part] = []
        opened = -1
        for at, after, closes in self._delimiters(b"--" + boundary, part):
            if opened >= 0:
                children.append(self._child(part, opened, max(at, opened), depth))
            opened = -1 if closes else after
            if closes or self._parts_left <= 0:
                break
        if opened >= 0 and (opened < part.end or not children) and self._parts_left > 0:
            children.append(self._child(part, opened, part.end, depth))
        return children

    def _child(self, part: Part, start: int, end: int, depth: int) -> Part:
        return self.entity(start, end, depth + 1, in_digest=part.kind[1] == b"digest")

    def _delimiters(self, dashes: bytes, part: Part) -> list[tuple[int, int, bool]]:
        """(where the line before ends, where the next begins, is it the last) of each boundary line."""
        raw, found, at = self._raw, [], part.body
        if raw.startswith(dashes, at, part.end) and (m := _DELIMITER_END.match(raw, at + len(dashes), part.end)):
            found.append((at, m.end(), bool(m[1])))
        needle = b"\n" + dashes
        while (at := raw.find(needle, at, part.end)) >= 0 and self._candidates_left > 0:
            self._candidates_left -= 1
            m = _DELIMITER_END.match(raw, at + len(needle), part.end)
            if m:
                before = at - 1 if at > part.body and raw[at - 1] == 0x0D else at
                found.append((before, m.end(), bool(m[1])))
                if m[1] or len(found) > PARTS_LIMIT:
                    break
            at += 1
        return found


def _summary(header: bytes) -> dict[bytes, bytes]:
    """The first field of each name, unfolded."""
    fields: dict[bytes, bytes] = {}
    for name, line in field_lines(header):
        if name not in fields:
            fields[name] = _FOLD.sub(b"", line.partition(b":")[2]).strip()[:_VALUE_LIMIT_BYTES]
    return fields


def _content_type(value: bytes | None, in_digest: bool) -> tuple[tuple[bytes, bytes], Parameters]:
    default = (b"message", b"rfc822") if in_digest else (b"text", b"plain")
    if value is None:
        return default, () if in_digest else ((b"charset", b"us-ascii"),)
    first, parameters = split_value(value)
    kind, slash, subtype = first.partition(b"/")
    kind_token, subtype_token = _TOKEN.match(kind.strip()), _TOKEN.match(subtype.strip())
    if not slash or not kind_token or not subtype_token:
        return (b"text", b"plain"), parameters
    return (kind_token[0].lower(), subtype_token[0].lower()), parameters
