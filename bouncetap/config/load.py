"""Reads the configuration file and the environment, checks all of it, and reports every error at once.

Order of precedence: environment (`BOUNCETAP_SECTION__KEY`) over file over default. The file is the first of
`--config`, `$BOUNCETAP_CONFIG`, `./bouncetap.toml`, `/etc/bouncetap/bouncetap.toml`; without any, defaults alone.
"""

from __future__ import annotations

import difflib
import json
import os
import socket
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bouncetap.config.options import BY_NAME, OPTIONS, RESERVED, SECTIONS
from bouncetap.config.values import PATH

ENVIRONMENT_PREFIX = "BOUNCETAP_"
ENVIRONMENT_OTHERS = {"BOUNCETAP_CONFIG", "BOUNCETAP_CORPUS", "BOUNCETAP_WHOLE_CORPUS", "BOUNCETAP_KILL_ROUNDS"}
SEARCHED = (Path("bouncetap.toml"), Path("/etc/bouncetap/bouncetap.toml"))
REQUIRED = {
    "proxy.domains": 'e.g. domains = ["bounces.example.com"]',
    "legacy.hosts": 'to where the legacy handler is, e.g. hosts = ["127.0.0.1:2526"]',
}
NONE_FOUND = (
    f"no configuration file: there is no {' and no '.join(f'{path}' for path in SEARCHED)}, and neither --config nor "
    "$BOUNCETAP_CONFIG names one; `bouncetap init` writes one"
)
SQLITE = "sqlite:///"
SHOWN_CHARACTERS = 80


class ConfigError(Exception):
    """The configuration cannot be used. `errors` lists every reason, each naming the option and its place."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("\n".join(errors))
        self.errors = errors


@dataclass(frozen=True, slots=True)
class Config:
    """A checked configuration: `config["proxy.listen"]` is the parsed value, None where unset.

    `origins` tells where each value came from: "default", "file" or the environment variable's name.
    """

    values: Mapping[str, Any]
    origins: Mapping[str, str]
    path: Path | None

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def directory(self, name: str) -> Path:
        """An option that holds a path, as an absolute path."""
        return Path(self.values[name])

    def optional_path(self, name: str) -> Path | None:
        """As `directory`, None where unset."""
        return None if self.values[name] is None else Path(self.values[name])

    @property
    def state_dir(self) -> Path:
        """Where everything that lasts is kept."""
        return self.directory("state_dir")

    def waiting_for_restart(self, started_with: Config) -> list[str]:
        """The options that differ from those which a part was started with, and that it takes over only at a start."""
        return [o.name for o in OPTIONS if not o.reloadable and self.values[o.name] != started_with.values[o.name]]


def load(path: Path | None = None, *, serving: bool = False, environment: Mapping[str, str] = os.environ) -> Config:
    """The configuration from `path` (or where it is looked for), checked whole.

    With `serving`, `[proxy] domains` and `[legacy] hosts` must be set. Raises ConfigError.
    """
    path = _find(environment) if path is None else path
    place = str(path or "configuration")
    errors: list[str] = []
    given = {name: (value, "file") for name, value in _flatten(_read(path), place, errors)}
    given.update(_from_environment(environment, errors))
    values, origins = _parse(given, place, errors)
    _fill_in(values, (path.parent if path else Path.cwd()).absolute())
    required = [name for name in REQUIRED if serving and (name not in given or values[name] == ())]
    if required and path is None:
        errors.append(NONE_FOUND)
    errors += [f"{place}: {name}: must be set, {REQUIRED[name]}" for name in required]
    errors += [f"{place}: {error}" for error in _cross_check(values)]
    if errors:
        raise ConfigError(errors)
    return Config(values, origins, path)


def _find(environment: Mapping[str, str]) -> Path | None:
    if named := environment.get("BOUNCETAP_CONFIG"):
        return Path(named)
    return next((path for path in SEARCHED if path.exists()), None)


def _read(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))  # some editors write a byte order mark
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read ({error.strerror}); name another with --config"]) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{path}: is not valid TOML: {error}"]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: is not UTF-8 (byte {error.start})"]) from None


def _flatten(table: Mapping[str, Any], place: str, errors: list[str], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of every key; unknown and reserved ones become errors."""
    for key, value in table.items():
        name = f"{prefix}{key}"
        if name in RESERVED:
            errors.append(f"{place}: [{name}]: {RESERVED[name]}")
        elif name in SECTIONS and not isinstance(value, dict):
            errors.append(f"{place}: {name} = {_shown(value)}: must be a section, [{name}]")
        elif name in SECTIONS:
            yield from _flatten(value, place, errors, f"{name}.")
        elif name in BY_NAME:
            yield name, value
        elif isinstance(value, dict):
            errors.append(f"{place}: [{name}]: there is no such section{_suggestion(name, SECTIONS)}")
        else:
            errors.append(f"{place}: {name}: there is no such option{_suggestion(name, BY_NAME)}")


def _suggestion(name: str, known: Iterable[str]) -> str:
    """The same key in another section, else what is spelt nearly so."""
    key = name.rpartition(".")[2]
    near = [option for option in BY_NAME if option.rpartition(".")[2] == key]
    near = near or difflib.get_close_matches(name, [*known], n=2, cutoff=0.6)
    return f" (did you mean {' or '.join(near)}?)" if near else ""


def _shown(value: Any) -> str:
    """A value as it stands in a file, shortened."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def _from_environment(environment: Mapping[str, str], errors: list[str]) -> dict[str, tuple[Any, str]]:
    found = {}
    for variable, value in environment.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in ENVIRONMENT_OTHERS:
            continue
        name = variable.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", ".")
        if name in BY_NAME:
            found[name] = (value, variable)
        else:
            errors.append(f"environment variable {variable}: there is no such option{_suggestion(name, BY_NAME)}")
    return found


def _parse(
    given: Mapping[str, tuple[Any, str]], place: str, errors: list[str]
) -> tuple[dict[str, Any], dict[str, str]]:
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for option in OPTIONS:
        raw, origin = given.get(option.name, (None, "default"))
        if origin == "default":
            raw = None if option.default is None else tomllib.loads(f"x = {option.default}")["x"]
        values[option.name], origins[option.name] = None, origin
        if raw is None:
            continue
        try:
            values[option.name] = option.type.parse(raw)
        except ValueError as error:
            where = place if origin == "file" else f"environment variable {origin}"
            errors.append(f"{where}: {option.name} = {_shown(raw)}: {error}")
    return values, origins


def _fill_in(values: dict[str, Any], base: Path) -> None:
    """Completes what depends on other values: absolute paths, `<state_dir>`, the host name."""
    state_dir = os.path.normpath(base / (values["state_dir"] or "./var"))
    for option in OPTIONS:
        value = values[option.name]
        if isinstance(value, str) and option.type is PATH:
            values[option.name] = os.path.normpath(base / value.replace("<state_dir>", state_dir))
    url = (values["index.url"] or "").replace("<state_dir>", state_dir)
    if url.startswith(SQLITE) and (file := url.removeprefix(SQLITE)):
        url = f"{SQLITE}{file if file == ':memory:' else os.path.normpath(base / file)}"
    values["index.url"] = url
    values["proxy.hostname"] = values["proxy.hostname"] or socket.gethostname()


def _cross_check(values: Mapping[str, Any]) -> Iterator[str]:
    """What single values cannot tell."""
    if values["proxy.listen"] == ():
        yield 'proxy.listen: must name at least one address, e.g. listen = ["0.0.0.0:25"]'
    yield from _not_yet(values)
    yield from _belong_together(values)
    for name in ("proxy.tls_cert", "proxy.tls_key", "imap.tls_cert", "imap.tls_key", "legacy.password_file"):
        if values[name] is not None and not _readable(values[name]):
            yield f'{name} = "{values[name]}": cannot be read'


def _not_yet(values: Mapping[str, Any]) -> Iterator[str]:
    """What this version does not support."""
    if (values["proxy.workers"] or 1) > 1:
        yield f"proxy.workers = {values['proxy.workers']}: this version supports 1"
    if values["quarantine.backend"] == "imap":
        yield f'quarantine.backend = "imap": {RESERVED["quarantine.imap"]}; this version supports "embedded"'
    url = values["index.url"]
    if url and (not url.startswith(SQLITE) or url.removeprefix(SQLITE) in {"", ":memory:"}):
        shown = url.partition("://")[0] + "://..."  # a password may stand in more places than one
        yield f'index.url = "{shown}": this version supports SQLite in a file, e.g. "sqlite:////var/lib/bouncetap/index.db"'


def _belong_together(values: Mapping[str, Any]) -> Iterator[str]:
    for section in ("proxy", "imap"):
        if (values[f"{section}.tls_cert"] is None) != (values[f"{section}.tls_key"] is None):
            yield f"{section}.tls_cert, {section}.tls_key: set both or none"
    if values["imap.listen_tls"] and values["imap.tls_cert"] is None:
        yield "imap.listen_tls: needs imap.tls_cert and imap.tls_key"
    if bool(values["legacy.user"]) != (values["legacy.password_file"] is not None):
        yield "legacy.user, legacy.password_file: set both or none"
    for smaller, larger in (("legacy.retry_min", "legacy.retry_max"),
                            ("proxy.max_message_size", "proxy.limits.bytes_in_flight"),
                            ("legacy.replay_connections", "legacy.connections")):  # fmt: skip
        if (values[smaller] or 0) > (values[larger] or values[smaller] or 0):
            yield f"{smaller}: must not be more than {larger}"


def _readable(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.R_OK)  # noqa: PTH113  # a text, not a Path, stands in values
