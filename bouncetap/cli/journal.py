"""`bouncetap journal`: looks inside the journal, read-only, while the service may be running."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from bouncetap.cli.options import loaded, table, takes_config
from bouncetap.harmless import printable
from proxy.journal import audit


def _when(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns / 1e9, UTC).isoformat(timespec="seconds")


def _shown(argument: bytes) -> str:
    return printable(argument.decode("utf-8", "backslashreplace"))


@click.group()
@takes_config
def journal() -> None:
    """Look inside the journal (read-only)."""


@journal.command("ls")
@takes_config
def journal_ls() -> None:
    """List every message that is still in it, with its state."""
    header = ["id", "received", "bytes", "answered", "recipients", "state"]
    rows = []
    for found in audit.ls(loaded().directory("journal.dir")):
        state = "settled" if found.settled else "open"
        state = "copied forward" if found.moved_to else "refused" if found.refused else state
        answered = "-" if found.answered is None else str(found.answered)
        fates = ",".join(sorted(set(found.fates)))
        rows.append((found.id, _when(found.received_ns), found.size_bytes, answered, fates, state))
    click.echo(table(rows, header))


@journal.command("show")
@click.argument("message_id")
@takes_config
def journal_show(message_id: str) -> None:
    """Show one message's envelope and what became of it."""
    found = audit.find(loaded().directory("journal.dir"), message_id)
    if found is None:
        raise click.ClickException(f"{message_id} is not in the journal; try: bouncetap message {message_id}")
    entry, marks = found
    click.echo(f"id         {entry.id}\nreceived   {_when(entry.received_ns)}\npeer       {entry.peer}")
    click.echo(f"helo       {_shown(entry.helo)}\ntls        {entry.tls or 'no'}\nbytes      {len(entry.wire)}")
    click.echo(f"mail from  {_shown(entry.mail_arg)}")
    for argument in entry.rcpt_args:
        click.echo(f"rcpt to    {_shown(argument)}")
    for mark in marks:
        what = f"answered {mark.answered}" if mark.answered is not None else f"{mark.fate} {mark.code} {mark.text}"
        whom = f" recipients {','.join(map(str, mark.rcpts))}" if mark.rcpts else ""
        click.echo(printable(f"{_when(mark.at_ns)}  {what}{whom} {mark.host}".rstrip()))


@journal.command("verify")
@takes_config
def journal_verify() -> None:
    """Check every record; exit code 1 where something is damaged."""
    reports = audit.verify(loaded().directory("journal.dir"))
    header = ["stream", "live", "segments", "bytes", "messages", "marks", "damage"]
    rows = [
        (r.name, "yes" if r.live else "no", r.segments, r.bytes, r.entries, r.marks, len(r.damage)) for r in reports
    ]
    click.echo(table(rows, header))
    for report in reports:
        for line in [*report.damage, *([report.refused] if report.refused else [])]:
            click.echo(printable(f"{report.name}: {line}"))
    if any(report.damage or report.refused for report in reports):
        raise click.exceptions.Exit(1)
