"""Types of configuration values: each parses one TOML (or environment) value and says what it wants.

A parser gets the value as TOML gave it, or a string from the environment, and returns the value that the program
uses (seconds, bytes, paths ...); it raises ValueError with a text that completes "option = VALUE: ...".
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

DURATION_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SIZE_NAMES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
               "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}  # fmt: skip
SIZE_BYTES = {"": 1, **{name.upper(): size_bytes for name, size_bytes in _SIZE_NAMES.items()}}
DURATION_MAX_S = 100 * 365 * 86_400.0  # what is counted in nanoseconds must fit into 64 bits
SIZE_MAX_BYTES = 10**18
INTEGER_MAX = 2**31 - 1
_NUMBER_UNIT = re.compile(r"(\d{1,18}(?:\.\d{1,9})?)\s*([A-Za-z]*)", re.ASCII)


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
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 12:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= INTEGER_MAX:
        raise ValueError(f"must be a whole number, 1 to {INTEGER_MAX}")
    return value


def _count_or_auto(value: Any) -> int:
    return 0 if value in (0, "0") and not isinstance(value, bool) else _integer(value)


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
        raise ValueError('must be a duration such as "2s", "10m", "14d", in quotes (units: ms, s, m, h, d, w)')
    seconds = float(match[1]) * DURATION_S[match[2]]
    if seconds > DURATION_MAX_S:
        raise ValueError("must be a duration of at most 100 years")
    return seconds


def _positive(parse: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def parse_positive(value: Any) -> Any:
        if not (parsed := parse(value)):
            raise ValueError("must be more than zero")
        return parsed

    return parse_positive


def parse_size(value: Any) -> int:
    """Bytes in '50MB', '1GiB', '4096', 4096. Raises ValueError."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    match = _NUMBER_UNIT.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None or match[2].upper() not in SIZE_BYTES:
        raise ValueError('must be a size such as "50MB" or "1GiB" (units: KB, MB, GB, TB, KiB, MiB, GiB, TiB)')
    size_bytes = int(float(match[1]) * SIZE_BYTES[match[2].upper()])
    if size_bytes > SIZE_MAX_BYTES:
        raise ValueError("must be a size of at most 1000000 TB")
    return size_bytes


def format_duration(seconds: float) -> str:
    """'30d' of 2,592,000: the largest unit that leaves a whole number; `parse_duration` reads it back."""
    milliseconds = round(seconds * 1000)
    for unit, unit_s in reversed(DURATION_S.items()):
        if unit != "w" and milliseconds and milliseconds % round(unit_s * 1000) == 0:
            return f"{milliseconds // round(unit_s * 1000)}{unit}"
    return "0s"


def format_size(size_bytes: int) -> str:
    """'50MB', '64MiB': the largest unit that leaves a whole number; `parse_size` reads it back."""
    units = sorted(_SIZE_NAMES.items(), key=lambda unit: -unit[1])
    return next(f"{size_bytes // unit}{name}" for name, unit in units if size_bytes % unit == 0)


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


def _peer(value: Any) -> str:
    if split_host_port(_text(value))[1] == 0:
        raise ValueError(f"{value!r} must have a port that can be connected to, 1 to 65535")
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


def _domain(value: Any) -> str:
    from proxy.address import Domains  # noqa: PLC0415  # what the front line takes, and nothing else

    try:
        Domains([_text(value)])
    except ValueError:
        raise ValueError(f'{value!r} must be a domain such as "bounces.example.com" or "*.example.com"') from None
    return str(value)


_HOSTNAME = re.compile(r"(\w[\w-]{0,62}\.)*\w[\w-]{0,62}")


def _hostname(value: Any) -> str:
    if not _HOSTNAME.fullmatch(_text(value)) or len(value) > 253:
        raise ValueError('must be a host name such as "mx.bounces.example.com"')
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
            raise ValueError("must be one of " + ", ".join(f'"{word}"' for word in allowed))
        return str(value)

    return Type(" | ".join(f'"{word}"' for word in allowed), parse)


TEXT = Type("text", _text)
INTEGER = Type("whole number", _integer)
COUNT_OR_AUTO = Type("whole number or 0", _count_or_auto)
BOOLEAN = Type("true | false", _boolean)
DURATION = Type("duration", parse_duration)
POSITIVE_DURATION = Type("duration", _positive(parse_duration))
SIZE = Type("size", parse_size)
POSITIVE_SIZE = Type("size", _positive(parse_size))
HOSTNAME = Type("host name", _hostname)
ADDRESS = Type("host:port", _address)
OPTIONAL_ADDRESS = Type('host:port, or "" for none', _optional_address)
PATH = Type("path", _path)
TEXTS = Type("list of texts", _listed(_text))
ADDRESSES = Type("list of host:port", _listed(_address))
PEERS = Type("list of host:port", _listed(_peer))
DOMAINS = Type("list of domains", _listed(_domain))
NETWORKS = Type("list of networks", _listed(_network))
VERPS = Type("list of patterns", _listed(_verp))
