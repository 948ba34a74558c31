"""Address lists of message headers as ENVELOPE shows them (RFC 3501 section 7.4.2), tolerant and linear.

Whatever the field holds, the result is a list of well-formed address structures; nothing raises.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_TOKEN = re.compile(rb"\s+|\"((?:[^\"\\]|\\.)*)\"?|(\[[^\]]*\]?)|([<>@,:;()])|(\\.|[^\s\"<>@,:;()\[\\]+|.)", re.DOTALL)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_LIMIT = 1000  # addresses of one field


@dataclass(frozen=True, slots=True)
class Address:
    """One address structure: `host` None opens a group named `mailbox`, both None close it."""

    name: bytes | None
    mailbox: bytes | None
    host: bytes | None
    route: bytes | None = None


GROUP_END = Address(None, None, None)


def parse_addresses(value: bytes) -> list[Address]:
    """The addresses of a From-, To- or the like field, at most 1,000."""
    return _AddressList(value).found[:_LIMIT]


class _AddressList:
    """Collects words until a comma, an angle bracket, a colon or a semicolon says what they were."""

    def __init__(self, value: bytes) -> None:
        self.found: list[Address] = []
        self._in_group = False
        self._reset()
        depth = 0
        for token in _TOKEN.finditer(value):
            quoted, bracket, special, atom = token.groups()
            if special == b"(":
                depth += 1
                if depth == 1:
                    continue
            elif special == b")" and depth:
                depth -= 1
                if depth == 0:
                    continue
            if depth:
                self._comment.append(token[0])
            elif special:
                self._special(special)
            elif quoted is not None:
                self._word(_ESCAPED.sub(rb"\1", quoted))
            elif bracket or atom:
                self._word(bracket or atom)
            elif self._words and not self._angle:
                self._words.append(b" ")
            if len(self.found) >= _LIMIT:
                return
        self._flush()
        if self._in_group:
            self.found.append(GROUP_END)

    def _reset(self) -> None:
        self._words: list[bytes] = []  # before an angle bracket: the name, or the address itself
        self._spec: list[bytes] | None = None  # inside or after angle brackets
        self._angle = False
        self._has_at = False  # among the words
        self._comment: list[bytes] = []

    def _word(self, word: bytes) -> None:
        if self._angle and self._spec is not None:
            self._spec.append(word)
        elif self._spec is None:
            self._words.append(word)
            self._has_at = self._has_at or word == b"@"

    def _special(self, special: bytes) -> None:
        if special == b"<" and self._spec is None:
            self._spec, self._angle = [], True
        elif special == b">":
            self._angle = False
        elif self._angle:
            self._word(special)
        elif special == b",":
            self._flush()
        elif special == b":" and self._spec is None and not self._in_group and not self._has_at:
            self.found.append(Address(None, b"".join(self._words).strip(), None))
            self._in_group = True
            self._reset()
        elif special == b";":
            self._flush()
            if self._in_group:
                self.found.append(GROUP_END)
                self._in_group = False
        else:
            self._word(special)

    def _flush(self) -> None:
        name: bytes | None = b"".join(self._words).strip() or None
        route = None
        if self._spec is None:
            spec, name = [w for w in self._words if w != b" "], b"".join(self._comment).strip() or None
        else:
            spec = self._spec
            if spec and spec[0] == b"@" and b":" in spec:  # a source route, RFC 5322 section 4.4
                colon = spec.index(b":")
                route, spec = b"".join(spec[:colon]), spec[colon + 1 :]
        if spec or (name and self._spec is not None):  # an empty `<>` must not hide a name
            at = len(spec) - 1 - spec[::-1].index(b"@") if b"@" in spec else len(spec)
            self.found.append(Address(name, b"".join(spec[:at]), b"".join(spec[at + 1 :]), route))
        self._reset()
