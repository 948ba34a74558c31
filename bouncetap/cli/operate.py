"""Commands for the running service: status, pause, resume, drain, reload, spool."""

from __future__ import annotations

import asyncio
import json

import click

from bouncetap.cli.options import loaded, table, takes_config, tell
from bouncetap.cli.overview import counted, overview
from bouncetap.control import PARTS
from bouncetap.http import gather_status

DEAD_SHOWN = 1000


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@takes_config
def status(as_json: bool) -> None:
    """What runs, backlog, untapped count, last errors. Exit code 1 if a part does not answer."""
    found = asyncio.run(gather_status(loaded().state_dir))
    click.echo(json.dumps(found, default=str) if as_json else "\n".join(overview(found)))
    if not all(state["running"] for state in found.values()):
        raise click.exceptions.Exit(1)


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
@takes_config
def spool() -> None:
    """Messages that wait for the handler."""


@spool.command("ls")
@click.option("--dead", is_flag=True, help="Dead letters: refused by the handler after the sender had its 250.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@takes_config
def spool_ls(dead: bool, as_json: bool) -> None:
    """List them, oldest first."""
    config = loaded(writes=dead)
    answer = tell(config, "proxy", "spool_ls", dead=dead)
    rows = answer["messages"]
    if dead:  # the proxy knows those since its start, the quarantine all that are filed
        from bouncetap.cli.quarantine import opened_quarantine
        from store.lookup import dead_letters

        with opened_quarantine(config) as quarantine:
            filed = dead_letters(quarantine, DEAD_SHOWN)
        known = {row["id"]: row for row in filed + rows}
        rows = sorted(known.values(), key=lambda row: -row["age_s"])
    if as_json:
        for row in rows:
            click.echo(json.dumps(row))
    elif rows:
        click.echo(table([list(row.values()) for row in rows], list(rows[0])))
    if (more := answer["total"] - len(rows)) > 0 and not dead:
        click.echo(f"and {more:,} more", err=True)


@spool.command("retry")
@click.argument("message_id", required=False)
@click.option("--all", "everything", is_flag=True, help="Every spooled message.")
@takes_config
def spool_retry(message_id: str | None, everything: bool) -> None:
    """Try one message (or --all) again now."""
    if bool(message_id) == everything:
        raise click.UsageError("name a message ID, or --all")
    retried = tell(loaded(), "proxy", "spool_retry", id=message_id)["retried"]
    click.echo(f"retrying {counted(retried, 'message')}")


@spool.command("drop")
@click.argument("message_id")
@takes_config
def spool_drop(message_id: str) -> None:
    """Give one message up: the handler will not get it. It stays in the quarantine."""
    tell(loaded(), "proxy", "spool_drop", id=message_id)
    click.echo(f"dropped {message_id}; it stays in the quarantine")
