"""Mailbox names: modified UTF-7 (RFC 3501 section 5.1.3) and the wildcards of LIST."""

from __future__ import annotations

import base64
import binascii
import re

from store.imap.scanner import ImapSyntaxError

_SHIFTED = re.compile(rb"&([A-Za-z0-9+,]*)-")
_UNPRINTABLE = re.compile(r"[^ -~]+")
_WILDCARDS = re.compile(r"[*%]+")


def decode_name(name: bytes) -> str:
    """The name as text; raw UTF-8, which some clients send, is understood too. Raises ImapSyntaxError."""
    try:
        if b"&" not in name:
            return name.decode("utf-8")
        return _SHIFTED.sub(_unshift, name).decode("utf-8")
    except (UnicodeDecodeError, binascii.Error) as error:
        raise ImapSyntaxError("invalid mailbox name") from error


def _unshift(found: re.Match[bytes]) -> bytes:
    shifted = found[1].replace(b",", b"/")
    if not shifted:
        return b"&"
    units = base64.b64decode(shifted + b"=" * (-len(shifted) % 4), validate=True)
    return units.decode("utf-16-be").encode("utf-8")


def encode_name(name: str) -> bytes:
    """The name in modified UTF-7."""
    return _UNPRINTABLE.sub(_shift, name.replace("&", "&-")).encode("ascii")


def _shift(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "&" + base64.b64encode(units).decode().rstrip("=").replace("/", ",") + "-"


def name_matches(name: str, pattern: str) -> bool:
    """Whether a LIST pattern covers the name: `*` any characters, `%` any but the separator `/`.

    INBOX is matched without regard to case. Linear in the product of the lengths.
    """
    pattern = _WILDCARDS.sub(lambda run: "*" if "*" in run[0] else "%", pattern)
    if name == "INBOX":
        pattern = pattern.upper()
    states = {0}
    for character in name:
        states = {state for s in states for state in _step(pattern, s, character)}
    return any(pattern[s:].strip("*%") == "" for s in states)


def _step(pattern: str, state: int, character: str) -> set[int]:
    """Where in the pattern one may stand after `character`, from `state`."""
    after: set[int] = set()
    while state < len(pattern):
        if pattern[state] == "*" or (pattern[state] == "%" and character != "/"):
            after.add(state)
        if pattern[state] == character and character not in "*%":
            after.add(state + 1)
        if pattern[state] not in "*%":
            break
        state += 1
    return after
