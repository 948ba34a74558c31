"""`bouncetap journal`: looks inside the journal, read-only, while the service may be running."""

from __future__ import annotations

import click

from bouncetap.cli.options import loaded, table, takes_config
from bouncetap.logs import redact_address
from proxy.journal import inspect


@click.group()
def journal() -> None:
    """Look inside the journal (read-only)."""


@journal.command("ls")
@takes_config
def journal_ls() -> None:
    """Every message that is still in it, with its state."""
    rows = inspect.ls(loaded(serving=False).directory("journal.dir"))
    click.echo(table(((r.id, r.stream, r.size_bytes, r.state) for r in rows), ["id", "stream", "bytes", "state"]))


@journal.command("show")
@click.argument("message_id")
@takes_config
def journal_show(message_id: str) -> None:
    """One message's envelope and marks."""
    found = inspect.find(loaded(serving=False).directory("journal.dir"), message_id)
    if found is None:
        raise click.ClickException(
            f"{message_id} is not in the journal (any more); try: bouncetap message {message_id}"
        )
    entry, marks = found
    click.echo(f"id {entry.id}\npeer {entry.peer}\nhelo {entry.helo.decode(errors='backslashreplace')}")
    click.echo(f"mail {redact_address(entry.mail_arg.decode(errors='backslashreplace'))}\nbytes {len(entry.wire)}")
    for mark in marks:
        click.echo(f"mark {mark}")


@journal.command("verify")
@takes_config
def journal_verify() -> None:
    """Check every record's CRC; exit code 1 where something is damaged."""
    report = inspect.verify(loaded(serving=False).directory("journal.dir"))
    click.echo(report.text())
    if report.damaged:
        raise click.exceptions.Exit(1)
