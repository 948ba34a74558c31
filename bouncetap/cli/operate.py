"""Commands for the running service: status, pause, resume, drain, reload, spool."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import click

from bouncetap.cli.options import loaded, printable, table, takes_config, tell
from bouncetap.control import PARTS
from bouncetap.http import gather_status


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@takes_config
def status(as_json: bool) -> None:
    """What runs, backlog, untapped count, last errors. Exit code 1 if a part does not answer."""
    found = asyncio.run(gather_status(loaded().state_dir))
    if as_json:
        click.echo(json.dumps(found, default=str))
    else:
        for part, state in found.items():
            click.echo(f"{part}: {'running' if state['running'] else 'NOT RUNNING'}")
            for line in _lines({k: v for k, v in state.items() if k != "running"}):
                click.echo(f"  {printable(line)}")
    if not all(state["running"] for state in found.values()):
        raise click.exceptions.Exit(1)


def _lines(values: dict[str, Any], prefix: str = "") -> list[str]:
    lines = []
    for key, value in values.items():
        if isinstance(value, dict):
            lines += _lines(value, f"{prefix}{key}.")
        elif value not in (None, "", [], ()):
            lines.append(f"{prefix}{key}: {value}")
    return lines


def _to_proxy(name: str, what: str, done: str) -> click.Command:
    @click.command(name, help=what)
    @takes_config
    def command() -> None:
        tell(loaded(), "proxy", name, timeout_s=120)
        click.echo(done)

    return command


pause = _to_proxy("pause", "Take no new connections (421); running messages are finished.", "paused")
resume = _to_proxy("resume", "Take connections again after pause or drain.", "resumed")
drain = _to_proxy("drain", "Pause, then wait until no message is on its way.", "drained")


@click.command()
@takes_config
def reload() -> None:
    """Read the configuration again; a bad one changes nothing."""
    config = loaded()
    waiting: set[str] = set()
    for part in PARTS:
        waiting |= set(tell(config, part, "reload")["needs_restart"])
        click.echo(f"{part}: reloaded")
    if waiting:
        click.echo(f"only a restart takes over: {', '.join(sorted(waiting))}")


@click.group()
def spool() -> None:
    """Messages that wait for the handler."""


@spool.command("ls")
@click.option("--dead", is_flag=True, help="Dead letters: refused by the handler after the sender had its 250.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@takes_config
def spool_ls(dead: bool, as_json: bool) -> None:
    """List them, oldest first."""
    rows = tell(loaded(), "proxy", "spool_ls", dead=dead)["messages"]
    if as_json:
        for row in rows:
            click.echo(json.dumps(row))
    else:
        columns = list(rows[0]) if rows else ["id"]
        click.echo(table(([row[column] for column in columns] for row in rows), columns))


@spool.command("retry")
@click.argument("message_id", required=False)
@click.option("--all", "everything", is_flag=True, help="Every spooled message.")
@takes_config
def spool_retry(message_id: str | None, everything: bool) -> None:
    """Try one message (or --all) again now."""
    if bool(message_id) == everything:
        raise click.UsageError("name a message ID, or --all")
    click.echo(f"retrying {tell(loaded(), 'proxy', 'spool_retry', id=message_id)['retried']}")


@spool.command("drop")
@click.argument("message_id")
@takes_config
def spool_drop(message_id: str) -> None:
    """Give one message up: the handler will not get it. It stays in the quarantine."""
    tell(loaded(), "proxy", "spool_drop", id=message_id)
    click.echo(f"dropped {message_id}; it stays in the quarantine")
