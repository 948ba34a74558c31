"""Codes in texts: which reply code and which enhanced status code (RFC 3463) a refusal really carries.

Addresses, versions and dates look like codes: a code counts most right after a reply code or in parentheses with
a hash, less on its own, and never as a part of a longer dotted number or behind a product's name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_ENHANCED = re.compile(r"([245])\.([0-7])\.(\d{1,3})(?![\w]|\.\d|-\d)")
_WITHIN = re.compile(r"[\w.:/]$|\D-$")  # what stands before a number that is part of something longer
_BEFORE_STRONG = re.compile(r"(?<![\w.])[245][0-5]\d[- ]['\"]?#?$")
_BEFORE_VERSION = re.compile(r"(?:version|release|exim|sendmail|postfix|smtpd?|server|v|mta|php|rev)[ /]$")
_IN_LINKS = ("=", "#", "/", "?", "&")  # before a code: maybe "https://...?p=5.1.1"
_REPLY_FIRST = re.compile(r"^\W{0,3}([245][0-5]\d)(?=[- ]|$)")
_REPLY_SAID = re.compile(r"(?:said: ?|returned:? ?|error:? ?|<<< ?|reply:? ?|response:? ?|code:? ?|reason: ?|-> ?|: ?)"
                         r"\W{0,3}([245][0-5]\d)(?=[- ,]|: )")  # fmt: skip
_REPLY_ANY = re.compile(
    r"(?<![\w.:/-])(?<!\w#)([45][0-5]\d)"
    r"(?! (?:bytes|octets|[km]i?b\b|seconds|minutes|messages|recipients|char))"
    r"(?=[-:]?\s*#?[45]\.[0-7]\.\d|-\D| [a-z<\"'(#])"
)


@dataclass(frozen=True, slots=True)
class Code:
    """An enhanced code in a text: `weight` 3 after a reply code, 2 marked with a hash or brackets, 1 alone."""

    value: str
    weight: int
    start: int

    @property
    def specific(self) -> int:
        """2 for a full code (5.1.1), 1 for a subject alone (5.1.0), 0 for a class alone (5.0.0)."""
        return specificity(self.value)


def specificity(code: str | None) -> int:
    """How much a code tells: 0 for none or x.0.0, 1 for x.y.0, 2 for x.y.z."""
    if code is None:
        return 0
    _, subject, detail = code.split(".")
    return (subject != "0") + (detail != "0") if subject != "0" else min(int(detail), 1)


def valid_status(text: str | None) -> str | None:
    """The code in a Status field (which may carry a comment), or None."""
    found = re.search(r"([245])\.(\d{1,3})\.(\d{1,3})", text or "")
    return ".".join(str(int(part)) for part in found.groups()) if found else None


def enhanced_codes(folded: str) -> list[Code]:
    """All enhanced codes in a folded text, in order."""
    codes = []
    for found in _ENHANCED.finditer(folded):
        start = found.start()
        hashed = start > 0 and folded[start - 1] == "#"
        if hashed and not _WITHIN.search(folded[max(0, start - 3) : start - 1]):
            start -= 1
        before = folded[max(0, start - 12) : start]
        if (not hashed and _WITHIN.search(before)) or _BEFORE_VERSION.search(before):
            continue
        if before[-1:] in _IN_LINKS and "://" in folded[folded.rfind(" ", 0, start) + 1 : start]:
            continue
        if _BEFORE_STRONG.search(before):
            weight = 3
        elif hashed or start == 0 or before.endswith(("(", "[", '"', "'")):
            weight = 2
        else:
            weight = 1
        codes.append(Code(".".join(str(int(part)) for part in found.groups()), weight, start))
    return codes


def best_code(codes: list[Code], near: int | None = None) -> str | None:
    """The most specific of the weightiest codes; of equals the nearest to offset `near`, else the first."""
    codes = [c for c in codes if not c.value.startswith("2.")]
    if not codes:
        return None
    return max(
        codes,
        key=lambda c: (min(c.specific, 1), c.weight, c.specific, 0 if near is None else -abs(c.start - near), -c.start),
    ).value


def reply_code(folded: str) -> int | None:
    """The SMTP reply code of a refusal's text: at its start, after "said:", or where it stands like one."""
    for pattern in (_REPLY_FIRST, _REPLY_SAID, _REPLY_ANY):
        found = pattern.search(folded)
        if found is not None:
            return int(found.group(1))
    return None
