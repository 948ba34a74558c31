"""The returned copy: which message a report is about, as far as the report carries it along.

It may be an embedded message, its headers alone, or text behind a marker line; `find` gives its headers, and
`before` cuts a text where the copy begins.
"""

from __future__ import annotations

import re

import re2

from classifier.mime import Headers, Message
from classifier.mime.headers import split
from classifier.mime.message import EMBEDDED, HEADERS_ONLY

# What stands on the line above a returned copy (lower case, RE2); then a line that only a copied header can be.
_MARKERS = (
    "below this line is (?:a copy of|the original)",
    "below is (?:a copy of )?your (?:original )?message",
    "this is a copy of (?:the|your) message",
    "here is a copy of",
    "copy of (?:the )?(?:original )?message",
    "original message[ -]*$",
    "original message follows",
    "original message headers",
    "original message as received",
    "original mail(?: info)?",
    "the original message headers",
    "message (?:headers?|text) follows?",
    "message header",
    "message body suppressed",
    "(?:the )?header of the (?:original|source)",
    "the body of the message is",
    "returned mail(?: follows)?",
    "returned message",
    "start of returned message",
    "undelivered message follows",
    "unsent message(?: follows| below)?",
    "forwarded message",
    "ursprüngliche nachricht",
    "original-nachrichtenkopfzeilen",
    "hier folgt eine kopie",
    "kopie der nachricht",
    "es folgt (?:die originalnachricht|eine kopie)",
    "message d'origine",
    "en-têtes du message d'origine",
    "copie du message",
    "mensaje original",
    "cabeceras del mensaje original",
    "mensagem original",
    "copia del (?:mensaje|messaggio)",
    "eredeti üzenet",
    "копия (?:вашего )?(?:исходного )?(?:письма|сообщения)",
    "元のメッセージ",
)
_MARKER = re2.compile(r"(?m)^[ \t>|]*(?:[-=_*]{2,} ?)?(?:" + "|".join(_MARKERS) + ")")
_HEADER_LINE = re2.compile(
    r"(?m)^>?[ \t]?(?:received: ?(?:from|by|\(|with)|return-path: ?<|dkim-signature: ?|x-received: ?by|arc-seal: ?i=|"
    r"message-id: ?<|mime-version: ?1|x-google-dkim|domainkey-signature:|delivered-to: )"
)
_FIELD = re.compile(rb"(?:from|to|cc|subject|date|sender|reply-to|organization|x-[a-z-]{2,40}): ?\S|[ \t]+\S")
_QUOTED_FIELDS = re.compile(rb"(?:following|these) header (?:fields|lines):\s{1,8}(?:[^\n]+\n){1,12}")
MAX_SEARCH = 128 * 1024


def before(text: str) -> tuple[str, str]:
    """Split a report's text where the returned copy begins: (what the machine said, the copy or "")."""
    lowered = text[:MAX_SEARCH].lower()
    if len(lowered) != len(text[:MAX_SEARCH]):
        lowered = text[:MAX_SEARCH]
    data = lowered.encode("utf-8", "replace")
    marker, header = _MARKER.search(data), _HEADER_LINE.search(data, _behind_quoted_fields(data))
    starts = [marker.start()] if marker else []
    if header:
        starts.append(_first_field(data, header.start()))
    starts = [start for start in starts if data[:start].strip()]
    if not starts:
        return text, ""
    cut = min(starts)
    if len(data) != len(lowered):
        cut = len(data[:cut].decode("utf-8", "replace"))
    return text[:cut], text[cut:]


def _behind_quoted_fields(data: bytes) -> int:
    """Where to look for the copy in a notice that first quotes some fields of the message, to say which it is about."""
    quoted = _QUOTED_FIELDS.search(data)
    return quoted.end() if quoted else 0


def _first_field(data: bytes, start: int) -> int:
    """Where the header block begins to which the field at `start` belongs."""
    while True:
        before = data.rfind(b"\n", 0, max(start - 1, 0)) + 1
        if before >= start or not _FIELD.match(data, before, start):
            return start
        start = before


def find(message: Message, copied_text: str) -> Headers | None:
    """Give the headers of the returned copy, None where there is none."""
    for part in message.walk():
        if part.content_type in EMBEDDED and part.children:
            if len(part.children[0].headers):
                return part.children[0].headers
        elif part.content_type in HEADERS_ONLY:
            headers, _, _ = _parse(part.decoded(65_536))
            if headers is not None:
                return headers
    if copied_text:
        data = copied_text[:65_536].encode("utf-8", "replace")
        start = re.search(rb"^>?[ \t]{0,4}[A-Za-z][A-Za-z-]{1,40}: ?\S", data, re.MULTILINE)
        if start:
            return _parse(data[start.start() :])[0]
    return None


def _parse(data: bytes) -> tuple[Headers | None, int, list[str]]:
    data = data.lstrip(b"\n")
    if data.startswith(b">"):
        data = re.sub(rb"^>[ \t]?", b"", data, flags=re.MULTILINE)
    headers, body, defects = split(data, 0, len(data))
    return (headers if len(headers) else None), body, defects
