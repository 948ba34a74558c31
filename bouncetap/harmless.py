"""What senders and handlers wrote, made fit for a terminal: nothing of theirs may move its cursor or turn its text.

`isprintable` is the measure: control characters of both sets (C0, and C1 with its one-octet escape sequences), line and
paragraph separators, marks that turn the direction of text, and surrogates, which no encoding can write.
"""

from __future__ import annotations

import json
import re
from typing import Any

# Of what is not printable, all that JSON leaves as it is, and that is more than an odd space.
_STEERING = re.compile("[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")


def printable(text: object) -> str:
    """Text for people: what is not printable comes as Python writes it, an escape character as 4 of them."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode("ascii") for c in str(text))


def harmless_json(text: str) -> str:
    """A JSON text in which what could steer a terminal is escaped: it means the same to whoever parses it."""
    if text.isascii() and "\x7f" not in text:
        return text
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def json_line(value: Any) -> str:
    """One object as a line of JSON, letters of all scripts as they are."""
    return harmless_json(json.dumps(value, ensure_ascii=False)) + "\n"
