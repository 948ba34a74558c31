"""Reads the configuration file and the environment, checks all of it, and reports every error at once.

Order of precedence: environment (`BOUNCETAP_SECTION__KEY`) over file over default. The file is the first of
`--config`, `$BOUNCETAP_CONFIG`, `./bouncetap.toml`, `/etc/bouncetap/bouncetap.toml`; without any, defaults alone.
"""

from __future__ import annotations

import os
import socket
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bouncetap.config.options import BY_NAME, OPTIONS, RESERVED, SECTIONS
from bouncetap.config.values import PATH

ENVIRONMENT_PREFIX = "BOUNCETAP_"
ENVIRONMENT_OTHERS = {"BOUNCETAP_CONFIG", "BOUNCETAP_CORPUS", "BOUNCETAP_WHOLE_CORPUS", "BOUNCETAP_KILL_ROUNDS"}
SEARCHED = (Path("bouncetap.toml"), Path("/etc/bouncetap/bouncetap.toml"))


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


def load(path: Path | None = None, *, serving: bool = False, environment: Mapping[str, str] = os.environ) -> Config:
    """The configuration from `path` (or where it is looked for), checked whole.

    With `serving`, `[proxy] domains` and `[legacy] hosts` must be set. Raises ConfigError.
    """
    path = path or _find(environment)
    errors: list[str] = []
    given = {name: (value, "file") for name, value in _flatten(_read(path), errors)}
    given.update(_from_environment(environment, errors))
    values, origins = _parse(given, errors)
    _fill_in(values, (path.parent if path else Path.cwd()).absolute())
    errors += _cross_check(values, serving=serving)
    if errors:
        raise ConfigError([f"{path or 'configuration'}: {error}" for error in errors])
    return Config(values, origins, path)


def _find(environment: Mapping[str, str]) -> Path | None:
    if named := environment.get("BOUNCETAP_CONFIG"):
        return Path(named)
    return next((path for path in SEARCHED if path.exists()), None)


def _read(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read ({error.strerror}); name another with --config"]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: is not valid TOML: {error}"]) from None


def _flatten(table: Mapping[str, Any], errors: list[str], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of every key; unknown and reserved ones become errors."""
    for key, value in table.items():
        name = f"{prefix}{key}"
        if name in RESERVED:
            errors.append(f"[{name}]: {RESERVED[name]}")
        elif isinstance(value, dict) and name in SECTIONS:
            yield from _flatten(value, errors, f"{name}.")
        elif name in BY_NAME:
            yield name, value
        else:
            errors.append(f"{name}: there is no such option{_suggestion(name)}")


def _suggestion(name: str) -> str:
    key = name.rpartition(".")[2]
    near = [option.name for option in OPTIONS if option.key == key]
    return f" (did you mean {' or '.join(near)}?)" if near else ""


def _from_environment(environment: Mapping[str, str], errors: list[str]) -> dict[str, tuple[Any, str]]:
    found = {}
    for variable, value in environment.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in ENVIRONMENT_OTHERS:
            continue
        name = variable.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", ".")
        if name in BY_NAME:
            found[name] = (value, variable)
        else:
            errors.append(f"environment variable {variable}: there is no such option{_suggestion(name)}")
    return found


def _parse(given: Mapping[str, tuple[Any, str]], errors: list[str]) -> tuple[dict[str, Any], dict[str, str]]:
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
            errors.append(f"{option.name}: {error}")
    return values, origins


def _fill_in(values: dict[str, Any], base: Path) -> None:
    """Completes what depends on other values: absolute paths, `<state_dir>`, the host name."""
    state_dir = str(base / (values["state_dir"] or "./var"))
    for option in OPTIONS:
        value = values[option.name]
        if isinstance(value, str):
            value = value.replace("<state_dir>", os.path.normpath(state_dir))
            values[option.name] = os.path.normpath(base / value) if option.type is PATH else value
    values["proxy.hostname"] = values["proxy.hostname"] or socket.gethostname()


def _cross_check(values: Mapping[str, Any], *, serving: bool) -> Iterator[str]:
    """What single values cannot tell."""
    if serving and not values["proxy.domains"]:
        yield 'proxy.domains: must be set, e.g. domains = ["bounces.example.com"]'
    if serving and not values["legacy.hosts"]:
        yield 'legacy.hosts: must be set to where the legacy handler is, e.g. hosts = ["127.0.0.1:2526"]'
    if (values["proxy.workers"] or 1) > 1:
        yield "proxy.workers: this version supports 1"
    if values["quarantine.backend"] == "imap":
        yield f"quarantine.backend: {RESERVED['quarantine.imap']}"
    if values["index.url"] and not values["index.url"].startswith("sqlite:"):
        yield "index.url: this version supports SQLite only (PostgreSQL is for a later version)"
    for section in ("proxy", "imap"):
        if (values[f"{section}.tls_cert"] is None) != (values[f"{section}.tls_key"] is None):
            yield f"{section}.tls_cert, {section}.tls_key: set both or none"
    if values["imap.listen_tls"] and values["imap.tls_cert"] is None:
        yield "imap.listen_tls: needs imap.tls_cert and imap.tls_key"
    if bool(values["legacy.user"]) != (values["legacy.password_file"] is not None):
        yield "legacy.user, legacy.password_file: set both or none"
    for name in ("proxy.tls_cert", "proxy.tls_key", "imap.tls_cert", "imap.tls_key", "legacy.password_file"):
        if values[name] is not None and not os.access(values[name], os.R_OK):
            yield f"{name}: {values[name]} cannot be read"
