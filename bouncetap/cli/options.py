"""What the commands share: the `--config` option, the loaded configuration, asking a running part, plain tables."""

from __future__ import annotations

import asyncio
import os
import pwd
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from bouncetap.config import Config, load
from bouncetap.control import Unreachable, ask
from bouncetap.harmless import printable

F = TypeVar("F", bound=Callable[..., Any])

_config = click.option("--config", "config_file", type=click.Path(), help="Configuration file.", expose_value=False,
                       callback=lambda ctx, _param, value: _remember(ctx, value))  # fmt: skip


def _remember(ctx: click.Context, value: str | None) -> None:
    if value is not None:
        ctx.ensure_object(dict)["config_file"] = value


def takes_config(command: F) -> F:
    """Adds `--config` after the command's name, as it may stand before it."""
    return _config(command)


def loaded(*, serving: bool = True, writes: bool = False) -> Config:
    """The configuration that this command works with. Raises ConfigError.

    With `writes` the command makes files in the state directory, so root must not run it for another user's service:
    ClickException says who must.
    """
    os.umask(0o077)  # a command may be the first to write into the state directory
    named = (click.get_current_context().obj or {}).get("config_file")
    config = load(None if named is None else Path(named), serving=serving)
    if writes:
        _refuse_foreign_root(config.state_dir)
    return config


def _refuse_foreign_root(state_dir: Path) -> None:
    """Files that root makes now could not be opened by the service later, and the service would stand still."""
    if os.geteuid() != 0 or not state_dir.exists() or (owner := state_dir.stat().st_uid) == 0:
        return
    try:
        name = pwd.getpwuid(owner).pw_name
    except KeyError:
        name = f"#{owner}"
    raise click.ClickException(f"{state_dir} belongs to {name}: run this as that user (sudo -u {name} bouncetap ...)")


def tell(config: Config, part: str, command: str, *, timeout_s: float = 30.0, **args: Any) -> Any:
    """A running part's answer; a clear failure where it does not run or refuses."""
    try:
        return asyncio.run(ask(config.state_dir, part, command, timeout_s=timeout_s, **args))
    except Unreachable as error:
        raise click.ClickException(f"{error}; is `bouncetap run` running with this configuration?") from None
    except ValueError as error:
        raise click.ClickException(str(error)) from None


def table(rows: Iterable[Sequence[Any]], header: Sequence[str]) -> str:
    """Left-aligned columns."""
    lines = [[printable(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
                     for line in lines)  # fmt: skip
