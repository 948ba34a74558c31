"""Types of configuration values: each parses one TOML (or environment) value and says what it wants.

A parser gets the value as TOML gave it, or a string from the environment, and returns the value that the program
uses (seconds, bytes, paths ...); it raises ValueError with a text that completes "option: ...".
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

DURATION_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
SIZE_BYTES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
              "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}  # fmt: skip
_NUMBER_UNIT = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")


@dataclass(frozen=True, slots=True)
class Type:
    """How one kind of value is written and parsed. `name` is shown in the documentation."""

    name: str
    parse: Callable[[Any], Any]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a text in quotes")
    return value


def _integer(value: Any) -> int:
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError("must be a whole number, 1 or more")
    return value


def _boolean(value: Any) -> bool:
    if isinstance(value, str) and value.lower() in {"true", "false"}:
        value = value.lower() == "true"
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def parse_duration(value: Any) -> float:
    """Seconds in '2s', '500ms', '10m', '14d'. Raises ValueError."""
    match = _NUMBER_UNIT.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or match[2] not in DURATION_S:
        raise ValueError('must be a duration such as "2s", "10m", "14d" (units: ms, s, m, h, d, w)')
    return float(match[1]) * DURATION_S[match[2]]


def parse_size(value: Any) -> int:
    """Bytes in '50MB', '1GiB', '4096'. Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _NUMBER_UNIT.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or match[2].upper() not in SIZE_BYTES:
        raise ValueError('must be a size such as "50MB" or "1GiB"')
    return int(float(match[1]) * SIZE_BYTES[match[2].upper()])


def split_host_port(value: str) -> tuple[str, int]:
    """('::1', 25) of '[::1]:25'. Raises ValueError."""
    host, colon, port = value.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not port.isdecimal() or not 0 <= int(port) <= 65535 or not host or (":" in host and not bracketed):
        raise ValueError(f'{value!r} must be "host:port" (an IPv6 address in brackets: "[::1]:25")')
    return host[1:-1] if bracketed else host, int(port)


def _address(value: Any) -> str:
    split_host_port(_text(value))
    return str(value)


def _optional_address(value: Any) -> str:
    return "" if value == "" else _address(value)


def _listed(parse: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    def parse_list(value: Any) -> tuple[Any, ...]:
        if isinstance(value, str):  # from the environment: comma-separated
            value = [item.strip() for item in value.split(",") if item.strip()]
        if not isinstance(value, list):
            raise ValueError("must be a list in brackets")
        return tuple(parse(item) for item in value)

    return parse_list


_DOMAIN = re.compile(r"(\*\.)?([^\s.@*]{1,63}\.)*[^\s.@*]{1,63}")


def _domain(value: Any) -> str:
    if not _DOMAIN.fullmatch(_text(value)) or len(value) > 253:
        raise ValueError(f'{value!r} must be a domain such as "bounces.example.com" or "*.example.com"')
    return str(value)


def _network(value: Any) -> str:
    try:
        return str(ipaddress.ip_network(_text(value)))
    except ValueError as error:
        raise ValueError(f'{value!r} must be a network such as "192.0.2.0/24" ({error})') from None


def _path(value: Any) -> str:
    if not _text(value):
        raise ValueError("must be a path")
    return str(value)


_VERP_PLACE = re.compile(r"\{(address|token)\}")


def _verp(value: Any) -> str:
    if len(_VERP_PLACE.findall(_text(value))) != 1:
        raise ValueError(f"{value!r} must have one {{address}} or {{token}} place")
    return str(value)


def choice(*allowed: str) -> Type:
    """One of a few words."""

    def parse(value: Any) -> str:
        if value not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return str(value)

    return Type(" | ".join(f'"{word}"' for word in allowed), parse)


TEXT = Type("text", _text)
INTEGER = Type("whole number", _integer)
BOOLEAN = Type("true | false", _boolean)
DURATION = Type("duration", parse_duration)
SIZE = Type("size", parse_size)
ADDRESS = Type("host:port", _address)
OPTIONAL_ADDRESS = Type('host:port, or "" for none', _optional_address)
PATH = Type("path", _path)
TEXTS = Type("list of texts", _listed(_text))
ADDRESSES = Type("list of host:port", _listed(_address))
DOMAINS = Type("list of domains", _listed(_domain))
NETWORKS = Type("list of networks", _listed(_network))
VERPS = Type("list of patterns", _listed(_verp))
