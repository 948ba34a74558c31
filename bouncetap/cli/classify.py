"""`bouncetap classify` and `bouncetap unknowns`: the classifier on files, without the rest of the tap."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bouncetap.cli.options import loaded, takes_config
from bouncetap.harmless import json_line, printable
from bouncetap.messages import messages

if TYPE_CHECKING:
    from classifier import Context


def _context() -> Context:
    from bouncetap.config.for_store import patterns
    from classifier import Context

    return Context(patterns=patterns(loaded(serving=False)))


@click.command()
@click.option("--jsonl", is_flag=True, help="One JSON object a message (the default).")
@click.option("--explain", is_flag=True, help="In plain words: which evidence decided, which alternatives lost.")
@click.argument("paths", nargs=-1, required=True)
@takes_config
def classify(jsonl: bool, explain: bool, paths: tuple[str, ...]) -> None:
    """Files, directories, mbox files, or - for standard input.

    What cannot be read is told on standard error; the rest is classified all the same, and the exit code is 1.
    """
    from classifier import classify as verdict_of
    from classifier.explain import explain as in_words

    if jsonl and explain:
        raise click.UsageError("--jsonl and --explain exclude each other")
    context = _context()
    failed = False

    def unread(error: OSError) -> None:
        nonlocal failed
        failed = True
        click.echo(f"bouncetap: {error.filename}: {error.strerror}", err=True)

    for source in messages(paths, unread):
        verdict = verdict_of(source.raw, context)
        if explain:
            click.echo("\n".join(map(printable, [source.name, *in_words(verdict).split("\n"), ""])))
        else:
            sys.stdout.write(json_line({"file": source.name, **verdict.to_json()}))
    raise click.exceptions.Exit(1 if failed else 0)


@click.command(short_help="Failures that no rule explains, clustered.")
@click.option("--since", default="30d", show_default=True, help="How far back, e.g. 7d.")
@click.option("--limit", default=20, show_default=True, help="How many clusters.")
@click.argument("paths", nargs=-1)
@takes_config
def unknowns(since: str, limit: int, paths: tuple[str, ...]) -> None:
    """What no rule explains, clustered by masked template, largest first, each with a proposed rule.

    Without PATHS, what is in the quarantine.
    """
    from bouncetap.unknowns import cluster_paths, cluster_quarantine, report

    if paths:
        clusters = cluster_paths([Path(path) for path in paths], _context())
    else:
        clusters = cluster_quarantine(loaded(), since)
    click.echo("\n".join(map(printable, report(clusters, limit).split("\n"))))
