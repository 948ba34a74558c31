"""Commands on what has been filed: export, message, expire, salvage."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

import click

from bouncetap.cli.options import loaded, table, takes_config, tell
from bouncetap.cli.overview import counted
from bouncetap.config import Config
from bouncetap.config.for_store import store_settings
from bouncetap.config.values import parse_duration
from bouncetap.control import Unreachable, ask
from bouncetap.harmless import json_line, printable
from classifier.verdict import Category, Kind

if TYPE_CHECKING:
    from store.lookup import Found
    from store.quarantine import Quarantine
    from store.salvage import Salvaged


@contextmanager
def opened_quarantine(config: Config) -> Iterator[Quarantine]:
    """The open quarantine; what goes wrong with it is one clear line."""
    from sqlalchemy.exc import SQLAlchemyError

    from store.index import IndexUnusable
    from store.quarantine import NotThere, Quarantine
    from store.segments import DamagedFrame

    try:
        opened = Quarantine.open(store_settings(config))
        try:
            yield opened
        finally:
            opened.close()
    except NotThere as error:
        raise click.ClickException(f"{error} is neither in the quarantine nor in the journal") from None
    except BrokenPipeError:
        raise
    except (IndexUnusable, DamagedFrame, OSError) as error:
        raise click.ClickException(str(error)) from None
    except SQLAlchemyError as error:
        raise click.ClickException(f"index: {getattr(error, 'orig', None) or error}") from None


def _since(_context: click.Context, _parameter: click.Parameter, value: str | None) -> int:
    """Unix time in ns of an ISO date or time (UTC unless it says otherwise), or of so long ago."""
    if value is None:
        return 0
    try:
        return time.time_ns() - int(parse_duration(value) * 1e9)
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        raise click.BadParameter("an ISO date or time such as 2026-11-24, or a duration such as 24h") from None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1e9)


@click.command()
@click.option("--kind", "kinds", multiple=True, type=click.Choice([str(k) for k in Kind]), help="Only these kinds.")
@click.option("--category", "categories", multiple=True, type=click.Choice([str(c) for c in Category]),
              help="Only these categories.")  # fmt: skip
@click.option("--since", "since_ns", callback=_since, help="Received since then (2026-11-24, or 24h for the last day).")
@click.option("--format", "format_", type=click.Choice(["csv", "jsonl"]), default="jsonl", show_default=True,
              help="One JSON object a message, or one line a recipient.")  # fmt: skip
@click.option("--cursor", "name", help="Go on where the export of this name stopped, and remember how far it came.")
@click.option("--after", type=click.IntRange(0), help="Go on after the row of this `position`, wherever the cursor is.")
@click.option("--corrections", is_flag=True, help="What analysts have moved elsewhere, instead of verdicts.")
@takes_config
def export(kinds: tuple[str, ...], categories: tuple[str, ...], since_ns: int, format_: str, name: str | None,
           after: int | None, corrections: bool) -> None:  # fmt: skip
    """Verdicts for other systems, oldest first."""
    from store import export as store_export

    selection = store_export.Selection(kinds, categories, since_ns)
    what = store_export.CORRECTIONS if corrections else store_export.VERDICTS
    with opened_quarantine(loaded(writes=True)) as quarantine:
        if after is None:
            after = store_export.cursor(quarantine, what.cursor_name(name)) if name else 0
        out = sys.stdout
        lines = csv.DictWriter(out, what.columns)
        if format_ == "csv":
            lines.writeheader()
        for page in what.pages(quarantine, selection, after, full=format_ == "jsonl"):
            for row in page.rows:
                if format_ == "csv":
                    lines.writerows(what.lines(row))
                else:
                    out.write(json_line(row))
            out.flush()
            if name:
                _keep(out)
                store_export.move_cursor(quarantine, what.cursor_name(name), page.last_pk)


def _keep(out: TextIO) -> None:
    """Where rows go to a file, they are on disk before the cursor moves."""
    if stat.S_ISREG(os.fstat(out.fileno()).st_mode):
        os.fsync(out.fileno())


@click.command()
@click.argument("message_id")
@click.option("--raw", is_flag=True, help="Write the exact original to standard output, and nothing else.")
@click.option("--resend", is_flag=True, help="Send it to the handler again.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object with the whole verdict.")
@takes_config
def message(message_id: str, raw: bool, resend: bool, as_json: bool) -> None:
    """One message: its verdict and its fate."""
    from store import lookup

    if raw + resend + as_json > 1:
        raise click.UsageError("--raw, --resend and --json exclude each other")
    config = loaded(writes=True)
    with opened_quarantine(config) as quarantine:
        if raw:
            sys.stdout.buffer.write(lookup.original(quarantine, message_id))
            sys.stdout.buffer.flush()
        elif resend:
            _resend(config, quarantine, lookup.find(quarantine, message_id))
        else:
            found = lookup.find(quarantine, message_id)
            whole = lookup.verdict(quarantine, message_id) if found.filed else {}
            if as_json:
                fates = json.loads(found.outcomes.to_json())["told"]
                shown = [list(entry) for entry in found.entries]
                click.echo(json.dumps({**found.facts, **whole, "outcomes": fates, "entries": shown}))
            else:
                for line in _described(found, whole):
                    click.echo(printable(line))


def _described(found: Found, verdict: dict[str, Any]) -> Iterator[str]:
    from store.outcomes import UNKNOWN

    facts = found.facts
    yield f"id:        {facts['id']}"
    peer = f" from {facts['peer']} ({facts['helo']})" if facts["peer"] else ""  # a salvaged one has none
    yield f"received:  {facts['received']}{peer}, {facts['size_bytes']} bytes"
    yield f"envelope:  <{facts['envelope_from']}> -> {', '.join(facts['envelope_to'])}"
    unanswered = "not answered yet" if facts["fate"] != UNKNOWN else "unknown since it was salvaged"
    answered = {None: unanswered, 0: "no answer (recovered after a crash)"}
    yield f"sender:    {answered.get(facts['answered'], facts['answered'])}"
    yield f"handler:   {facts['fate']}" + (f": {facts['legacy']}" if facts["legacy"] != facts["fate"] else "")
    for told in found.outcomes.told:
        at = datetime.fromtimestamp(told.at_ns / 1e9, UTC).isoformat(timespec="seconds")
        who = ", ".join(facts["envelope_to"][rcpt] for rcpt in told.rcpts[:5])
        more = f" and {len(told.rcpts) - 5} more" if len(told.rcpts) > 5 else ""
        reply = f"{told.code} {told.text} ({told.host})" if told.code else told.text
        yield f"           {who}{more}: {told.fate} {reply}".rstrip() + f", {at}"
    if not found.filed:
        yield "quarantine: not filed yet"
        return
    yield f"sha256:    {facts['sha256']}"
    yield f"kind:      {facts['kind']} ({facts['confidence']:.2f})" + (", unparsable" if facts["unparsable"] else "")
    yield f"category:  {facts['category']}" + (f" ({facts['reason']})" if facts["reason"] else "")
    for person in verdict.get("recipients", [])[:20]:
        words = (person["address"], person["action"], person["status"], person["reason"], person["diagnostic"])
        yield "  who:     " + " ".join(str(word) for word in words if word)
    if verdict.get("auto_reply"):
        yield "  auto:    " + " ".join(str(word) for word in verdict["auto_reply"].values() if word)
    if facts["opt_out"]:
        yield "  opt-out: yes"
    for evidence in verdict.get("evidence", [])[:20]:
        yield f"  because: {evidence['rule']}: {evidence['text'][:100]!r}"
    for folder, uid, flagged, keywords in found.entries:
        marks = [*keywords.split(), *(["held (\\Flagged)"] if flagged else [])]
        yield f"folder:    {', '.join([folder, f'UID {uid}', *marks])}"


def _resend(config: Config, quarantine: Quarantine, found: Found) -> None:
    from store import lookup

    def text(argument: bytes) -> str:
        return argument.decode("utf-8", "surrogateescape")

    ident = found.facts["id"]
    path = lookup.wire_file(quarantine, ident)
    envelope = {"mail_arg": text(found.mail_arg), "rcpt_args": [text(argument) for argument in found.rcpt_args]}
    try:
        answer = tell(config, "proxy", "resend", timeout_s=300, id=ident, path=str(path), **envelope)
    finally:
        path.unlink(missing_ok=True)
    for reply in answer["replies"]:
        click.echo(printable(reply))
    if not all(reply.startswith("2") for reply in answer["replies"]):
        raise click.ClickException(f"the handler did not take {ident} for every recipient")


@click.command(short_help="Remove what is past its retention, now.")
@click.option("--dry-run", is_flag=True, help="Only tell what would go.")
@click.option("--force", is_flag=True, help="The clock is right: expire although it has moved, or after a long pause.")
@takes_config
def expire(dry_run: bool, force: bool) -> None:
    """Remove what is past its folder's retention now, in the running filer or by itself."""
    config = loaded(writes=True)
    if dry_run:
        from store.expiry import due_now

        with opened_quarantine(config) as quarantine:
            rows = [(d.folder, d.messages, d.bytes, d.held) for d in due_now(quarantine)]
        click.echo(table(rows, ["folder", "would go", "bytes", "held by \\Flagged"]) if rows else "nothing would go")
        return
    click.echo(f"removed {counted(_expired(config, force=force), 'message')}")


def _expired(config: Config, *, force: bool) -> int:
    from store.expiry import ExpiryBlocked, expire_now
    from store.lock import Locked

    try:
        answer = asyncio.run(ask(config.state_dir, "filer", "expire", timeout_s=3600, force=force))
        return int(answer["removed"])
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    except Unreachable:  # it does not run
        pass
    with opened_quarantine(config) as quarantine:
        try:
            return expire_now(quarantine, force=force)
        except Locked as error:
            raise click.ClickException(f"{error}, but does not answer") from None
        except ExpiryBlocked as error:
            raise click.ClickException(f"expiry has stopped: {error}") from None


@click.command(short_help="Enter again what lies in the quarantine's files and is not in the index.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be entered.")
@click.option("--all", "everything", is_flag=True,
              help="Also files written since the index was lost, and where nothing shows that it was.")  # fmt: skip
@takes_config
def salvage(dry_run: bool, everything: bool) -> None:
    """After the index was lost, restored or rescued: enter again what lies in the quarantine's files.

    The filer must be stopped meanwhile; proxy and IMAP server may run. The exit code is 1 if something cannot be read.
    """
    from store.lock import Locked
    from store.salvage import lost_ns, salvage_now
    from store.workers import Workers, WorkerUnusable

    entered = held = damaged = 0
    with opened_quarantine(loaded(writes=True)) as quarantine, closing(Workers()) as workers:
        if not everything and not lost_ns(quarantine):
            raise click.ClickException("nothing shows that the index was lost or restored; --all looks all the same")
        try:
            for file in salvage_now(quarantine, workers, everything=everything, dry_run=dry_run):
                entered, held, damaged = entered + file.entered, held + file.held, damaged + file.damaged
                click.echo(f"{file.path}: {_told(file, dry_run=dry_run)}")
        except Locked as error:
            raise click.ClickException(f"{error}, or a salvage or an expiry: stop it first") from None
        except WorkerUnusable as error:
            raise click.ClickException(str(error)) from None
    were = "would be" if dry_run else "was" if entered == 1 else "were"
    click.echo(f"{counted(entered, 'message')} {were} entered")
    if held:
        click.echo(f"of them {held:,} past their time, held by \\Flagged until somebody takes the flag away")
    if damaged:
        raise click.ClickException(f"{counted(damaged, 'file')} cannot be read wholly; nothing of them was deleted")


def _told(file: Salvaged, *, dry_run: bool) -> str:
    if file.error:
        return f"given up: {file.error}"
    words = [f"{counted(file.entered, 'message')} {'to enter' if dry_run else 'entered'}"]
    if file.unreadable:
        words.append(f"{file.unreadable} cannot be read")
    if file.gaps_bytes:
        words.append(f"{file.gaps_bytes} bytes between messages are none")
    if file.tail_bytes:
        words.append(f"{file.tail_bytes} bytes at the end are none (a crash leaves such)")
    return ", ".join(words)
