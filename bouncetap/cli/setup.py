"""Commands before the first start: init, check, config."""

from __future__ import annotations

from pathlib import Path

import click

from bouncetap.cli.options import loaded, takes_config
from bouncetap.config.render import show


@click.group()
@takes_config
def config() -> None:
    """The configuration."""


@config.command("check")
@takes_config
def config_check() -> None:
    """All errors at once; exit code 2 if there are any."""
    checked = loaded(serving=True)
    click.echo(f"{checked.path or 'defaults'}: good")


@config.command("show")
@takes_config
def config_show() -> None:
    """The values in force and where each came from."""
    click.echo(show(loaded(serving=False)))


@click.command()
@click.option("--output", type=click.Path(path_type=Path),
              help="The file to write (so does --config).  [default: bouncetap.toml]")  # fmt: skip
@click.option("--domain", "domains", multiple=True, help="Return-path domain (several allowed).")
@click.option("--handler", "hosts", multiple=True, help="The legacy handler's host:port (several: fail-over order).")
@click.option("--force", is_flag=True, help="Overwrite the file.")
@takes_config
@click.pass_obj
def init(named: dict[str, str | None], output: Path | None, domains: tuple[str, ...], hosts: tuple[str, ...],
         force: bool) -> None:  # fmt: skip
    """Write a configuration. Asks nothing that it can find out."""
    from bouncetap.init import write_configuration

    output = output or Path(named.get("config_file") or "bouncetap.toml")
    click.echo(write_configuration(output, domains, hosts, force=force))


@click.command(short_help="Would a bounce get through to the handler?")
@click.option("--to", "recipients", multiple=True, metavar="ADDRESS", help="Ask about this address (several allowed).")
@takes_config
def check(recipients: tuple[str, ...]) -> None:
    """Is the handler there, what does it offer, would a bounce get through? Nothing is sent past RCPT."""
    from bouncetap.check import check_everything

    raise click.exceptions.Exit(check_everything(loaded(), recipients))
