"""The arguments of MAIL and RCPT, scanned by the grammar of RFC 5321 section 4.1.2 over bytes.

The scanner only decides: what it accepts is forwarded as it came, never put together anew. It is stricter than most
where something could be taken for a relay (source routes, a second `@`, missing brackets) and more lenient where
refusing would lose a bounce: dots may stand anywhere in a local part (some mobile carriers hand out such addresses
and VERP carries them on), labels may contain `_`, a local part may exceed 64 octets (VERP again), and parameter values
may contain `=`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import idna

# RFC 5321 section 4.1.2 and 4.1.3, RFC 6531 section 3.3: octets from 0x80 are UTF-8, checked apart.
_ATOMS = re.compile(rb"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.\x80-\xff-]+")
_QUOTED = re.compile(rb'"(?:[^"\\\x00-\x1f\x7f]|\\[\x20-\x7e])*"')
_DOMAIN = re.compile(rb"[A-Za-z0-9_\x80-\xff](?:[A-Za-z0-9_.\x80-\xff-]*[A-Za-z0-9_\x80-\xff])?")
_LITERAL = re.compile(rb"\[[^\[\]\\\x00-\x20\x7f-\xff]*\]")
_PARAM = re.compile(rb"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([\x21-\x7e\x80-\xff]+))?")
# C1 controls, line and paragraph separators too, as UTF-8: they end a line for some who read text (RFC 5198 section 2).
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]|\xc2[\x80-\x9f]|\xe2\x80[\xa8\xa9]")
_NON_ASCII = re.compile(rb"[\x80-\xff]")
_SIZE = re.compile(rb"[0-9]{1,20}")

DOMAIN_LIMIT_OCTETS = 255
LABEL_LIMIT_OCTETS = 63


class AddressError(Exception):
    """The argument is not acceptable; `reply` says so to the sender (code, enhanced code and text)."""

    def __init__(self, reply: str) -> None:
        super().__init__(reply)
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Path:
    """A scanned MAIL or RCPT argument.

    `address` is what stands between the angle brackets, `local` and `domain` its two sides of the last unquoted
    `@` (the domain is "" for the null reverse-path and for `postmaster`), as received. `params` maps the
    keywords, in capitals, to their values as received ("" where there is no `=`).
    """

    address: bytes
    local: bytes
    domain: bytes
    params: dict[bytes, bytes]


def has_control(line: bytes) -> bool:
    """True if a command line contains a control character (bare CR, NUL, TAB, DEL, U+0085, U+2028 ...)."""
    return _CONTROL.search(line) is not None


def parse_mail(arg: bytes) -> Path:
    """Scan what followed `MAIL FROM:`; `AddressError` 501, 553 or 555."""
    address, rest = _bracketed(arg, "501 5.1.7")
    local, domain = _mailbox(address, "501 5.1.7") if address else (b"", b"")
    params = _params(rest)
    for keyword, value in params.items():
        _check_mail_param(keyword, value)
    if b"SMTPUTF8" not in params and _NON_ASCII.search(arg):
        raise AddressError("553 5.6.7 Non-ASCII address without SMTPUTF8")
    return Path(address, local, domain, params)


def parse_rcpt(arg: bytes, *, smtputf8: bool) -> Path:
    """Scan what followed `RCPT TO:`; `AddressError` 501, 553 or 555.

    `smtputf8` says whether this transaction's MAIL asked for SMTPUTF8.
    """
    address, rest = _bracketed(arg, "501 5.1.3")
    if not address:
        raise AddressError("501 5.1.3 Empty recipient address")
    bare_postmaster = address.lower() == b"postmaster"  # RFC 5321 section 4.5.1
    local, domain = (address, b"") if bare_postmaster else _mailbox(address, "501 5.1.3")
    params = _params(rest)
    for keyword, value in params.items():
        if keyword not in {b"NOTIFY", b"ORCPT"}:  # RFC 3461
            raise AddressError("555 5.5.4 Unsupported RCPT parameter")
        if not value:
            raise AddressError("501 5.5.4 Parameter without a value")
    if not smtputf8 and _NON_ASCII.search(arg):
        raise AddressError("553 5.6.7 Non-ASCII address without SMTPUTF8")
    return Path(address, local, domain, params)


@lru_cache(maxsize=4096)
def canonical_domain(domain: bytes) -> str:
    """A domain as it is compared: A-labels, case-folded; `AddressError` 501 if it is no valid IDN (RFC 5891).

    Case and composition are mapped (UTS 46), but nothing to ASCII or away: a wide letter, another script's full stop or
    a zero-width space is in no U-label, and a handler that maps less than we do would take such a domain for foreign.
    """
    if domain.isascii():
        return domain.decode("ascii").lower()
    try:
        text = domain.decode("utf-8")
        if any(idna.uts46_remap(c, std3_rules=False).isascii() for c in text if not c.isascii()):
            raise UnicodeError
        return idna.encode(text, uts46=True).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError):
        raise AddressError("501 5.1.3 Bad internationalized domain") from None


class Domains:
    """The domains that mail is accepted for: exact ones, and `*.x` for every subdomain of x (but not x itself)."""

    def __init__(self, domains: Iterable[str]) -> None:
        """Take the configured names, A- or U-labels in any case; `ValueError` names a bad one."""
        self._exact: set[str] = set()
        self._parents: set[str] = set()
        for name in domains:
            wildcard, bare = name.startswith("*."), name.removeprefix("*.")
            try:
                canonical = canonical_domain(bare.encode("utf-8"))
            except AddressError:
                raise ValueError(f"not a domain name: {name!r}") from None
            if not _DOMAIN.fullmatch(canonical.encode()) or ".." in canonical:
                raise ValueError(f"not a domain name: {name!r}")
            (self._parents if wildcard else self._exact).add(canonical)

    def __contains__(self, domain: object) -> bool:
        """True if mail to this domain, as received (bytes), is ours."""
        if not isinstance(domain, bytes):
            return False
        try:
            name = canonical_domain(domain)
        except AddressError:
            return False
        if name in self._exact:
            return True
        while self._parents and "." in name:
            _, _, name = name.partition(".")
            if name in self._parents:
                return True
        return False


def _bracketed(arg: bytes, code: str) -> tuple[bytes, bytes]:
    """Split `<address> params` at the closing bracket, heeding a quoted local part."""
    if not arg.startswith(b"<"):
        raise AddressError(f"{code} Address must stand in angle brackets")
    quoted = _QUOTED.match(arg, 1)
    end = arg.find(b">", quoted.end() if quoted else 1)
    if end < 0:
        raise AddressError(f"{code} Address must stand in angle brackets")
    rest = arg[end + 1 :]
    if rest and not rest.startswith(b" "):
        raise AddressError(f"{code} Bad address syntax")
    return arg[1:end], rest


def _mailbox(address: bytes, code: str) -> tuple[bytes, bytes]:
    """Scan `local-part@domain` into its two sides."""
    if address.startswith(b"@"):
        raise AddressError(f"{code} Source routes are not accepted")
    local = (_QUOTED if address.startswith(b'"') else _ATOMS).match(address)
    if not local or address[local.end() : local.end() + 1] != b"@":
        raise AddressError(f"{code} Bad address syntax")
    domain = address[local.end() + 1 :]
    if not (_is_literal(domain) if domain.startswith(b"[") else _is_domain(domain)):
        raise AddressError(f"{code} Bad domain in address")
    if not address.isascii():
        try:
            address.decode("utf-8")
        except UnicodeDecodeError:
            raise AddressError(f"{code} Address is not UTF-8") from None
    return local.group(), domain


def _is_domain(domain: bytes) -> bool:
    if len(domain) > DOMAIN_LIMIT_OCTETS or not _DOMAIN.fullmatch(domain):
        return False
    return all(0 < len(label) <= LABEL_LIMIT_OCTETS or not label.isascii() for label in domain.split(b"."))


def _is_literal(domain: bytes) -> bool:
    """RFC 5321 section 4.1.3: `[192.0.2.1]` or `[IPv6:2001:db8::1]`."""
    if not _LITERAL.fullmatch(domain):
        return False
    text = domain[1:-1].decode("ascii")
    try:
        if text[:5].lower() == "ipv6:":
            ipaddress.IPv6Address(text[5:])
        else:
            ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def _params(rest: bytes) -> dict[bytes, bytes]:
    params: dict[bytes, bytes] = {}
    for word in rest.split():
        match = _PARAM.fullmatch(word)
        if not match:
            raise AddressError("501 5.5.4 Bad parameter syntax")
        keyword = match[1].upper()
        if keyword in params:
            raise AddressError("501 5.5.4 Parameter given twice")
        params[keyword] = match[2] or b""
    return params


def _check_mail_param(keyword: bytes, value: bytes) -> None:
    if keyword == b"SIZE":  # RFC 1870
        valid = _SIZE.fullmatch(value) is not None
    elif keyword == b"BODY":  # RFC 6152
        valid = value.upper() in {b"7BIT", b"8BITMIME"}
    elif keyword == b"SMTPUTF8":  # RFC 6531
        valid = not value
    elif keyword == b"RET":  # RFC 3461 section 4.3
        valid = value.upper() in {b"FULL", b"HDRS"}
    elif keyword == b"ENVID":
        valid = bool(value)
    else:
        raise AddressError("555 5.5.4 Unsupported MAIL parameter")
    if not valid:
        raise AddressError(f"501 5.5.4 Bad value of {keyword.decode('ascii')}")
