"""Mail addresses: strict validation, finding them in prose, and what return paths carry (VERP, SRS, BATV).

Heuristics hand every address through `valid`: what is no plausible address (uuencoded lines, message ids, paths)
never reaches a verdict. All of it is linear: candidates grow outwards from each "@".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from classifier.context import Patterns

_ATOM = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+/=?^_`{|}~-."
_HOST = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._"
_LOCAL_RE = re.compile(r"[^\s\x00-\x20()<>\[\]:;@\\,\"\x7f]{1,64}|\"(?:[^\"\\\x00-\x1f]|\\.){0,62}\"")
_LABEL = r"(?:[^\W_](?:[\w-]{0,61}[^\W_])?|xn--[a-z0-9-]{1,59})"
_DOMAIN_RE = re.compile(rf"{_LABEL}(?:\.{_LABEL})+", re.IGNORECASE)
_LITERAL_RE = re.compile(r"\[(?:\d{1,3}(?:\.\d{1,3}){3}|ipv6:[0-9a-f:.]{2,45})\]", re.IGNORECASE)
_TRAILING = ".,;:!?'\"`>)]}*_-。"
_XTEXT = re.compile(r"\+([0-9A-Fa-f]{2})")
_UNICODE_ESCAPE = re.compile(r"\\x\{([0-9A-Fa-f]{1,6})\}")
_SRS0 = re.compile(r"srs0[=+-][^=@]+=[^=@]+=([^=@]+)=(.+)", re.IGNORECASE)
_SRS1 = re.compile(r"srs1[=+-][^=@]+=([^=@]+)=(?:srs0)?[=+-]([^=@]+)=([^=@]+)=([^=@]+)=(.+)", re.IGNORECASE)
# BATV: prvs=TAG=LOCAL, in older drafts prvs=LOCAL/TAG; a tag is a key number, three digits of a day and six hex digits.
_BATV = re.compile(
    r"prvs=(?:\w{4,20}=(.+)|\d{4}[0-9a-f]{6}/(.+)|(.+)/\d{4}[0-9a-f]{6})|btv1==[^=@]+==(.+)", re.IGNORECASE
)
_VERP = re.compile(r"([^=@]+=)?([^=@]+)=([a-z0-9-]+(?:\.[a-z0-9-]+)+)", re.IGNORECASE)
# What list managers put before the address where only hyphens part them: "news-return-17-lena=dest.example".
_VERP_WORDS = re.compile(r".*?(?:^|-)(?:bounces?|returns?|owner|errors?|verp|b|r)(?:-\d+)*-", re.IGNORECASE)
# And what mailing services put there: "bounces+4711042-9f3c-lena=dest.example" (a customer's number, a check).
_VERP_NUMBER = re.compile(r"\d{4,}-(?:[0-9a-f]{4}-)?(?=[^-])")
_MACHINES = frozenset(
    {
        "autobounce", "bounce-handler", "daemon", "mail-admin", "mail-daemon", "mail-delivery-system", "mail.daemon",
        "mail.delivery.system", "mailadmin", "maildaemon", "mailer", "mailer-daemon", "mailer_daemon", "mailerdaemon",
        "mailmaster", "mdaemon", "post_master", "postmaster",
    }
)  # fmt: skip


def valid(address: str) -> bool:
    """Tell whether this is a deliverable-looking address: local part, "@", a domain with a dot or a literal."""
    if len(address) > 320:
        return False
    local, at, domain = address.rpartition("@")
    if not at or not _LOCAL_RE.fullmatch(local):
        return False
    if domain.startswith("["):
        return bool(_LITERAL_RE.fullmatch(domain))
    if ".." in local or local[0] == "." or len(domain) > 255:
        return False
    domain = domain.rstrip(".")
    if not _DOMAIN_RE.fullmatch(domain):
        return False
    last = domain.rpartition(".")[2]
    return not last.isdigit() and len(last) > 1


def clean(text: str) -> str:
    """Take brackets, quotes, `mailto:` and punctuation off an address as it was written."""
    text = text.strip().strip("<>").strip()
    if text[:7].lower() == "mailto:":
        text = text[7:]
    if text[:5].lower() == "smtp:":
        text = text[5:]
    if "@" in text:
        local, _, domain = text.rpartition("@")
        if len(local) > 1 and local[0] == local[-1] == "'":
            local = local[1:-1]
        if len(local) > 2 and local[0] == local[-1] == '"' and _LOCAL_RE.fullmatch(local[1:-1]):
            local = local[1:-1]
        text = f"{local.lstrip(chr(39))}@{domain.rstrip(_TRAILING)}"
    return text


class Found(NamedTuple):
    """An address in a text: where it begins and ends (with its brackets or quotes)."""

    address: str
    start: int
    end: int


def find(text: str, limit: int = 10_000) -> Iterator[Found]:
    """Yield the valid addresses that stand in a text, in order, at most `limit`."""
    at = text.find("@")
    while at >= 0 and limit > 0:
        left = text[max(0, at - 65) : at]
        if left.endswith('"') and (quote := left.rfind('"', 0, -1)) >= 0 and "\n" not in left[quote:]:
            start = at - (len(left) - quote)
        else:
            start = at - (len(left) - len(left.rstrip(_ATOM)))
        right = text[at + 1 : at + 257]
        end = at + 1 + (len(right) - len(right.lstrip(_HOST)))
        if right.startswith("["):
            close = right.find("]")
            end = at + 2 + close if 0 < close < 60 else end
        candidate = text[start:end]
        if start < at and text[max(0, start - 1) : start] == "<" and text[end : end + 1] == ">":
            candidate, start, end = text[start:end], start - 1, end + 1
        candidate = clean(candidate.lstrip("=*-/'`|") if candidate[:1] != "=" else candidate[1:])
        if valid(candidate):
            limit -= 1
            yield Found(candidate, start, end)
        at = text.find("@", max(end, at + 1))


def from_xtext(text: str) -> str:
    r"""Undo xtext and the `\x{HEX}` of RFC 6533 (RFC 3461 section 4, RFC 6533 section 3)."""
    if "\\x{" in text:
        text = _UNICODE_ESCAPE.sub(_character, text)
    if "+" in text:
        decoded = _XTEXT.sub(lambda m: chr(int(m[1], 16)), text)
        if decoded.isascii() and decoded.isprintable():
            return decoded
    return text


def _character(match: re.Match[str]) -> str:
    number = int(match[1], 16)
    return chr(number) if 0x20 <= number < 0x110000 and not 0xD800 <= number < 0xE000 else match[0]


def is_machine(address: str) -> bool:
    """Tell whether the local part is one that mail systems sign their reports with."""
    local = address.partition("@")[0].strip('"<> ').lower()
    return local in _MACHINES or local.startswith(("mailer-daemon", "mailer_daemon", "postmaster", "microsoftexchange"))


def unwrapped(address: str) -> str:
    """Take SRS and BATV off an address: the one that was there before they rewrote it, else itself."""
    local, at, _ = address.rpartition("@")
    if not at:
        return address
    if local[:3].lower() == "srs":
        if match := _SRS1.fullmatch(local):
            return f"{match[5]}@{match[4]}"
        if match := _SRS0.fullmatch(local):
            return f"{match[2]}@{match[1]}"
    if match := _BATV.fullmatch(local):
        return f"{next(filter(None, match.groups()))}@{address.rpartition('@')[2]}"
    return address


@lru_cache(maxsize=64)
def _verp_pattern(pattern: str) -> re.Pattern[str] | None:
    before, place, after = pattern.partition("{address}")
    if not place:
        before, place, after = pattern.partition("{token}")
    if not place:
        return None
    return re.compile(re.escape(before) + "(?P<it>.{1,300})" + re.escape(after), re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Token:
    """What a return path of ours carried: the address we sent to (None for an opaque token), and by which pattern."""

    address: str | None
    token: str
    pattern: str


def return_path_token(envelope_to: str, patterns: Patterns) -> Token | None:
    """Read our own token off the address a report was sent to: configured patterns first, then usual VERP."""
    target = unwrapped(clean(envelope_to))
    for pattern in patterns.verp:
        compiled = _verp_pattern(pattern)
        match = compiled.fullmatch(target) if compiled else None
        if match:
            return Token(_from_verp(match["it"]), match["it"], pattern)
    local = target.rpartition("@")[0]
    if match := _VERP.fullmatch(local):
        counted, name, domain = match.groups()  # "bounce+zx8=lena=dest.example": a count before the address
        address = f"{name if counted else _verp_local(name)}@{domain}"
        if valid(address):
            return Token(address, local, "verp")
    return None


def _verp_local(text: str) -> str:
    """The recipient's local part behind what names the list or the purpose; "" where nothing does."""
    _, plus, behind = text.partition("+")
    if plus:
        number = _VERP_NUMBER.match(behind)
        return behind[number.end() :] if number else behind
    words = _VERP_WORDS.match(text)
    return text[words.end() :] if words else text.partition("-")[2]


def _from_verp(text: str) -> str | None:
    local, equals, domain = text.rpartition("=")
    address = f"{local}@{domain}" if equals else text
    return address if valid(address) else None
