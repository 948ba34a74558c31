"""`bouncetap init`: writes a short configuration from what can be found out on this machine.

Found out: the host name, which of the usual places a handler listens on, whether port 25 may be had, and where state
belongs (a configuration under /etc is a service's). Asked for on the command line: the return-path domains, and the
handler where the guess is wrong. What remains a guess is marked CHANGE.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from bouncetap.config.values import DOMAINS, PEERS, split_host_port

GUESSES = ("127.0.0.1:25", "127.0.0.1:2526", "127.0.0.1:10025")
GUESS_TIMEOUT_S = 0.5
SERVICE_STATE_DIR = "/var/lib/bouncetap"  # StateDirectory= of the systemd units


def write_configuration(output: Path, domains: tuple[str, ...], hosts: tuple[str, ...], *, force: bool) -> str:
    """Writes `output`; what to do next. Raises ClickException where the file is there already, UsageError, OSError."""
    _checked("--domain", DOMAINS.parse, domains)
    _checked("--handler", PEERS.parse, hosts)
    if output.exists() and not force:
        raise click.ClickException(f"{output} exists; --force overwrites it, --output names another")
    found = [guess for guess in GUESSES if _listens(guess)] if not hosts else []
    output.write_text("\n".join(_lines(output, domains, hosts, found)), encoding="utf-8")
    return "\n  ".join([f"wrote {output}; next:", *_steps(output, domains, hosts or tuple(found))])


def _checked(option: str, parse: Callable[[Any], Any], given: tuple[str, ...]) -> None:
    try:
        parse([*given])
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=option) from None


def _lines(output: Path, domains: tuple[str, ...], hosts: tuple[str, ...], found: list[str]) -> list[str]:
    service = output.absolute().is_relative_to("/etc")
    listen = "0.0.0.0:25" if os.geteuid() == 0 and not _listens("127.0.0.1:25") else "127.0.0.1:2525"
    hostname = socket.gethostname()
    unsure_name = "" if "." in hostname else "   # CHANGE: the name that the MX record will have"
    unsure_domain = "" if domains else "   # CHANGE: your return-path domains"
    return [
        "# Bouncetap; every option: docs/configuration.md, or `bouncetap config show`.",
        f'state_dir = "{SERVICE_STATE_DIR if service else "./var"}"',
        "",
        "[proxy]",
        f'listen = ["{listen}"]',
        f'hostname = "{hostname}"{unsure_name}',
        f"domains = {_list(domains or ('bounces.example.com',))}{unsure_domain}",
        "",
        "[legacy]",
        f"hosts = {_list(hosts or tuple(found[:1]) or ('127.0.0.1:2526',))}{_remark(hosts, found)}",
        "",
    ]


def _steps(output: Path, domains: tuple[str, ...], hosts: tuple[str, ...]) -> list[str]:
    command = sys.argv[0] if Path(sys.argv[0]).name == "bouncetap" else "bouncetap"
    if output != Path("bouncetap.toml"):  # that one is found without being named
        command += f" --config {output}"
    todo = [] if domains else [f"set [proxy] domains in {output}"]
    todo += [] if hosts else [f"set [legacy] hosts in {output}"]
    return [*todo, f"{command} check", f"{command} account add NAME --role analyst", f"{command} run"]


def _remark(hosts: tuple[str, ...], found: list[str]) -> str:
    if hosts:
        return ""
    return "   # found listening here" if found else "   # CHANGE: where the legacy handler is"


def _list(items: tuple[str, ...]) -> str:
    return "[" + ", ".join(f'"{item}"' for item in items) + "]"


def _listens(address: str) -> bool:
    try:
        with socket.create_connection(split_host_port(address), GUESS_TIMEOUT_S):
            return True
    except OSError:
        return False
