"""`bouncetap classify` and `bouncetap unknowns`: the classifier on files, without the rest of the tap."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bouncetap.cli.options import loaded, takes_config
from bouncetap.messages import Source, messages

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
    """Files, directories, mbox files, or - for standard input."""
    from classifier import classify as verdict_of
    from classifier.explain import explain as in_words

    if jsonl and explain:
        raise click.UsageError("--jsonl and --explain exclude each other")
    context = _context()
    for source in _readable(paths):
        verdict = verdict_of(source.raw, context)
        if explain:
            click.echo(f"{source.name}\n{in_words(verdict)}\n")
        else:
            sys.stdout.write(json.dumps({"file": source.name, **verdict.to_json()}, ensure_ascii=False) + "\n")


def _readable(paths: tuple[str, ...]) -> Iterator[Source]:
    try:
        yield from messages(paths)
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from None


@click.command()
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
        clusters = cluster_quarantine(loaded(serving=False), since)
    click.echo(report(clusters, limit))
