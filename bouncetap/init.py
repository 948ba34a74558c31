"""`bouncetap init`: writes a short configuration from what can be found out on this machine.

Found out: the host name, and which of the usual places a handler listens on. Asked for on the command line: the
return-path domains, and the handler where the guess is wrong.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

import click

from bouncetap.config.values import split_host_port

GUESSES = ("127.0.0.1:25", "127.0.0.1:2526", "127.0.0.1:10025")
GUESS_TIMEOUT_S = 0.5


def write_configuration(output: Path, domains: tuple[str, ...], hosts: tuple[str, ...], *, force: bool) -> str:
    """Writes `output`; what to do next. Raises ClickException where the file is there already."""
    if output.exists() and not force:
        raise click.ClickException(f"{output} exists; --force overwrites it, --output names another")
    found = [guess for guess in GUESSES if _listens(guess)] if not hosts else []
    listen = "0.0.0.0:25" if os.geteuid() == 0 and not _listens("127.0.0.1:25") else "127.0.0.1:2525"
    shown_hosts = list(hosts) or found[:1] or ["127.0.0.1:2526"]
    shown_domains = list(domains) or ["bounces.example.com"]
    lines = [
        "# Bouncetap; every option: docs/configuration.md, or `bouncetap config show`.",
        'state_dir = "./var"',
        "",
        "[proxy]",
        f'listen = ["{listen}"]',
        f'hostname = "{socket.getfqdn()}"',
        f"domains = {_list(shown_domains)}" + ("" if domains else "   # CHANGE: your return-path domains"),
        "",
        "[legacy]",
        f"hosts = {_list(shown_hosts)}" + _remark(hosts, found),
        "",
    ]
    output.write_text("\n".join(lines), encoding="utf-8")
    todo = [] if domains else [f"set [proxy] domains in {output}"]
    todo += [] if hosts or found else [f"set [legacy] hosts in {output}"]
    todo += [f"bouncetap --config {output} check", f"bouncetap --config {output} account add NAME --role analyst"]
    todo += [f"bouncetap --config {output} run"]
    return f"wrote {output}; next:\n" + "\n".join(f"  {step}" for step in todo)


def _remark(hosts: tuple[str, ...], found: list[str]) -> str:
    if hosts:
        return ""
    return "   # found listening here" if found else "   # CHANGE: where the legacy handler is"


def _list(items: list[str]) -> str:
    return "[" + ", ".join(f'"{item}"' for item in items) + "]"


def _listens(address: str) -> bool:
    try:
        with socket.create_connection(split_host_port(address), GUESS_TIMEOUT_S):
            return True
    except OSError:
        return False
