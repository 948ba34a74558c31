"""The annotation: header fields that stand before the exact original when a message is shown.

They are frozen when a message is filed. The last one is `X-Bouncetap-Id`: everything after its line is the original,
or, where the original does not begin with a header field, everything after the empty line that then follows. No value
can end its field early: what is not plain printable ASCII is written as encoded words (RFC 2047).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

from classifier.verdict import Verdict

PEOPLE_LIMIT = 1000  # fields of one name
_VALUE_CHARS = 900  # a line has at most 998 (RFC 5322 section 2.1.1)
_PLAIN = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:")  # RFC 5322 sections 2.2 and 4.5
_MORE = re.compile("and [0-9]+ more")
_WORD = "=?utf-8?b?"
_WORD_OCTETS = 45  # 60 characters of base64: an encoded word has at most 75 (RFC 2047 section 2)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the annotation says beside the verdict.

    `return_path` is the reverse-path without its brackets, "" for the null one; `legacy` the handler's reply, or
    `pending`; `expires_s` Unix time.
    """

    id: str
    return_path: str
    envelope_to: tuple[str, ...]
    legacy: str
    expires_s: int


def annotation(verdict: Verdict, facts: Facts, original: bytes) -> bytes:
    """The header fields, and the empty line after them where `original` needs one. CRLF line ends."""
    lines = b"".join(_field(name, value) for name, value in _fields(verdict, facts))
    return lines if begins_with_field(original) else lines + b"\r\n"


def begins_with_field(original: bytes) -> bool:
    """Whether the first line is a header field: a name, maybe spaces, a colon."""
    return _FIELD.match(original) is not None


def split(shown: bytes) -> tuple[bytes, bytes]:
    """(annotation, original) of a shown message. Raises ValueError where there is no annotation."""
    at = 0
    while at < len(shown):
        end = shown.find(b"\r\n", at) + 2
        if end < 2:
            break
        if shown.startswith(b"X-Bouncetap-Id:", at):
            if shown.startswith(b"\r\n", end):
                end += 2
            return shown[:end], shown[end:]
        at = end
    raise ValueError("no annotation")


def read(head: bytes) -> Facts:
    """The facts in an annotation, the inverse of `annotation` but for what was cut there. Raises ValueError."""
    values: dict[str, list[str]] = {}
    for line in head.replace(b"\r\n ", b" ").split(b"\r\n"):
        name, _, value = line.decode("ascii").partition(": ")
        values.setdefault(name, []).append(_decoded(value))
    envelope_to = tuple(value for value in values.get("X-Bouncetap-Envelope-To", ()) if not _MORE.fullmatch(value))
    try:
        (return_path,), (legacy,) = values["Return-Path"], values["X-Bouncetap-Legacy"]
        (expires,), (ident,) = values["X-Bouncetap-Expires"], values["X-Bouncetap-Id"]
    except KeyError as error:
        raise ValueError(f"no {error} in the annotation") from None
    expires_s = int(parsedate_to_datetime(expires).timestamp())
    return Facts(ident, return_path.removeprefix("<").removesuffix(">"), envelope_to, legacy, expires_s)


def _fields(verdict: Verdict, facts: Facts) -> Iterator[tuple[str, str]]:
    worst = next((r for r in verdict.recipients if r.category is verdict.category), None)
    yield "Return-Path", f"<{facts.return_path}>"
    yield "X-Bouncetap-Kind", str(verdict.kind)
    yield "X-Bouncetap-Category", str(verdict.category)
    if worst is not None and worst.reason is not None:
        yield "X-Bouncetap-Reason", str(worst.reason)
    if worst is not None and worst.status:
        yield "X-Bouncetap-Status", worst.status
    people = dict.fromkeys(r.address or r.original or "" for r in verdict.recipients)
    people.pop("", None)
    yield from _people("X-Bouncetap-Recipient", people)
    yield from _people("X-Bouncetap-Envelope-To", facts.envelope_to)
    yield "X-Bouncetap-Legacy", facts.legacy
    yield "X-Bouncetap-Expires", format_datetime(datetime.fromtimestamp(facts.expires_s, UTC))
    yield "X-Bouncetap-Id", facts.id


def _people(name: str, addresses: Iterable[str]) -> Iterator[tuple[str, str]]:
    everyone = tuple(addresses)
    yield from ((name, address) for address in everyone[:PEOPLE_LIMIT])
    if len(everyone) > PEOPLE_LIMIT:
        yield name, f"and {len(everyone) - PEOPLE_LIMIT} more"


def _field(name: str, value: str) -> bytes:
    return name.encode("ascii") + b": " + encoded(value) + b"\r\n"


def encoded(value: str) -> bytes:
    """A field's value, at most 900 characters of it: as it is if printable ASCII, else as folded encoded words."""
    value = value[:_VALUE_CHARS]
    if not value or (_PLAIN.fullmatch(value) and "=?" not in value):
        return value.encode("ascii")
    words, piece = [], b""
    for character in value:  # an encoded word holds whole characters (RFC 2047 section 5)
        octets = character.encode("utf-8", "replace")
        if len(piece) + len(octets) > _WORD_OCTETS:
            words.append(piece)
            piece = b""
        piece += octets
    words.append(piece)
    return b"\r\n ".join(b"=?utf-8?b?%b?=" % base64.b64encode(word) for word in words)


def _decoded(value: str) -> str:
    """The inverse of `encoded`."""
    if not value.startswith(_WORD):
        return value
    words = (word.removeprefix(_WORD).removesuffix("?=") for word in value.split(" "))
    return b"".join(map(base64.b64decode, words)).decode("utf-8")
