"""Header fields: where a header block ends, its fields by name, and parameters (RFC 5322, 2045, 2231)."""

from __future__ import annotations

import re
from collections.abc import Iterable, KeysView
from functools import lru_cache
from itertools import chain, islice
from urllib.parse import unquote_to_bytes

from classifier.mime.encodings import decode, header_text

MAX_FIELDS = 5000
MAX_HEADER_BYTES = 1 << 20
_FEW = 8192  # bytes of header that cannot hold MAX_FIELDS fields

_FIELD = re.compile(rb"^([!-9;-~]{1,200})[ \t]*:(.*(?:\n[ \t].*)*)", re.MULTILINE)
_BLANKS = (b"\n", b" ", b"\t")
_BLANK_LINES = re.compile(rb"(?:[ \t]*\n)*")
_FIELD_LINE = re.compile(rb"[!-9;-~]{1,200}[ \t]*:")
_JUNK_LINE = re.compile(rb"^(?![!-9;-~]{1,200}[ \t]*:)(?![ \t])(?!>?From ).+", re.MULTILINE)
_PARAM = re.compile(r";[ \t]*([^\s=;\"]{1,80})[ \t]*=[ \t]*(?:\"((?:[^\"\\]|\\.)*)\"|([^;]*))", re.DOTALL)
_MAILBOX = re.compile(r"<\s*([^<>\s]+(?: [^<>]*)?)\s*>")
_BARE = re.compile(r"[^\s<>,;:\"()\[\]]+@[^\s<>,;:\"()\[\]]+")


class Headers:
    """The fields of one header block, asked for by lower-cased name; bodies are decoded when asked for.

    `get` gives the first field's text (unfolded, RFC 2047 decoded), `raw` its bytes as they stand.
    """

    __slots__ = ("_all", "_first", "_texts")

    def __init__(self, fields: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self._all = [(name.decode("ascii").lower(), body) for name, body in fields]
        self._first: dict[str, bytes] = {}
        for name, body in self._all:
            self._first.setdefault(name, body)
        self._texts: dict[str, str] = {}

    def get(self, name: str) -> str | None:
        """Give the first field of that name as text, None where there is none."""
        text = self._texts.get(name)
        if text is None and (body := self._first.get(name)) is not None:
            text = self._texts[name] = header_text(body)
        return text

    def get_all(self, name: str) -> list[str]:
        """Give all fields of that name as text, in order."""
        return [header_text(body) for field, body in self._all if field == name] if name in self._first else []

    def raw(self, name: str) -> bytes | None:
        """Give the first field's body as it stands (folds included), None where there is none."""
        return self._first.get(name)

    def names(self) -> KeysView[str]:
        """The lower-cased field names, in order of first appearance."""
        return self._first.keys()

    def __contains__(self, name: object) -> bool:
        return name in self._first

    def __len__(self) -> int:
        return len(self._first)


def split(data: bytes, start: int, end: int) -> tuple[Headers, int, list[str]]:
    """Read the header block that begins at `start`: its fields, where the body begins, and defects seen.

    Leading blank lines and an mbox "From " line are passed over; a block whose first line is no field is all
    body. Lines that are no fields are skipped, unless nothing but text follows: there the body begins.
    """
    defects: list[str] = []
    if data[start : start + 1] in _BLANKS:
        start = _BLANK_LINES.match(data, start, end).end()  # type: ignore[union-attr]
    if data.startswith((b"From ", b">From "), start):
        line = data.find(b"\n", start, end)
        start = end if line < 0 else line + 1
    if not _FIELD_LINE.match(data, start, end):
        return Headers(), start, ["no-header"]
    stop = data.find(b"\n\n", start, end)
    body = stop + 2
    if stop < 0:
        stop, body = end, end
    if stop - start > MAX_HEADER_BYTES:
        stop = start + MAX_HEADER_BYTES
        defects.append("header-too-long")
    if stop - start <= _FEW:
        fields = _FIELD.findall(data, start, stop)
    else:
        fields = [match.groups() for match in islice(_FIELD.finditer(data, start, stop), MAX_FIELDS)]
        if len(fields) >= MAX_FIELDS:
            defects.append("too-many-fields")
            return Headers(fields), body, defects
    # Each field is its name, a colon, its body and a line end: where the lengths do not add up, look for junk.
    whole = sum(map(len, chain.from_iterable(fields))) + 2 * len(fields) - 1 == stop - start
    if not whole and (junk := _JUNK_LINE.search(data, start, stop)):
        defects.append("header-junk")
        if not _FIELD.search(data, junk.end(), stop):
            body = junk.start()
    return Headers(fields), body, defects


def parameters(value: str) -> tuple[str, dict[str, str]]:
    """Split `type; name=value; ...` into its lower-cased first word and its parameters (RFC 2231 too).

    The mapping is shared between calls: read it, never change it.
    """
    return _short_parameters(value) if len(value) < 200 else _parameters(value)


def _parameters(value: str) -> tuple[str, dict[str, str]]:
    head, semicolon, rest = value.partition(";")
    words = head.split(None, 1)
    if len(words) == 2 and "=" in words[1]:  # the semicolon was forgotten
        value, semicolon = f"{words[0]}; {words[1]};{rest}", ";"
    head = words[0] if words else ""
    params: dict[str, str] = {}
    if semicolon:
        pieces: dict[str, dict[int, tuple[str, bool]]] = {}
        for name, quoted, plain in _PARAM.findall(value[:20_000]):
            text = re.sub(r"\\(.)", r"\1", quoted) if quoted else plain.strip().strip('"')
            key, star, rest = name.lower().partition("*")
            if not star:
                params.setdefault(key, text)
                continue
            number, _, encoded = rest.partition("*")
            index = int(number) if number.isascii() and number.isdigit() and len(number) < 5 else 0
            # A slice, not endswith(), whose truth mypyc 2.4 puts into a tuple as a number.
            is_encoded = not number or (encoded == "" and rest[-1:] == "*")
            pieces.setdefault(key, {})[index] = (text, is_encoded)
        for key, parts in pieces.items():
            params[key] = _joined([parts[i] for i in sorted(parts)])
    return head.strip().lower(), params


_short_parameters = lru_cache(maxsize=1024)(_parameters)


def _joined(parts: list[tuple[str, bool]]) -> str:
    """Put the pieces of an RFC 2231 parameter together; the first encoded one names the charset."""
    charset, data = "utf-8", b""
    for i, (text, encoded) in enumerate(parts):
        if encoded and i == 0 and text.count("'") >= 2:
            charset, _, text = text.split("'", 2)  # noqa: PLW2901 the prefix belongs to the charset
        data += unquote_to_bytes(text) if encoded else text.encode("utf-8", "replace")
    return decode(data, charset or "utf-8")


def mailbox(value: str) -> tuple[str, str]:
    """Give the display name and address of the first mailbox in a From-like field; "" for what is missing."""
    value = value[:2000]
    match = _MAILBOX.search(value)
    if match:
        return value[: match.start()].strip().strip('"').strip(), match.group(1).strip()
    bare = _BARE.search(value)
    if bare:
        name = value[bare.end() :].strip()
        return (name[1:-1] if name[:1] == "(" and name[-1:] == ")" else ""), bare.group()
    return value.strip().strip('"'), ""
