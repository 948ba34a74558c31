"""Commands that run something: all of it, one part, or the demo."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bouncetap.cli.options import loaded, takes_config

_supervisor_fd = click.option("--supervisor-fd", type=int, hidden=True, help="Stop when this pipe is at its end.")


@click.command()
@_supervisor_fd
@takes_config
def run(supervisor_fd: int | None) -> None:
    """Run proxy, filer and IMAP server, supervised."""
    from bouncetap import supervise

    sys.exit(supervise.run(loaded(writes=True), supervisor_fd))


def _part_command(name: str, what: str) -> click.Command:
    @click.command(name, help=what)
    @_supervisor_fd
    @takes_config
    def command(supervisor_fd: int | None) -> None:
        from bouncetap.parts import run_part

        sys.exit(run_part(name, loaded(writes=True), supervisor_fd))

    return command


proxy = _part_command("proxy", "Run the SMTP front line alone (it also serves [http] then).")
filer = _part_command("filer", "Run the filer alone: journal to quarantine, and expiry.")
imap = _part_command("imap", "Run the IMAP server alone.")


@click.command(short_help="The whole tap on loopback, with sample mail.")
@click.option("--once", is_flag=True, help="End with exit code 0 after the summary.")
@click.option("--state", "state_dir", type=click.Path(path_type=Path), default=Path("var/demo"), show_default=True,
              help="Where the demo keeps its state; a second start resets it.")  # fmt: skip
@takes_config
@click.pass_context
def demo(context: click.Context, once: bool, state_dir: Path) -> None:
    """All of it on loopback, with a stand-in handler and sample traffic."""
    from bouncetap.demo import run_demo

    if (named := context.ensure_object(dict).get("config_file")) is not None:
        click.echo(f"the demo has a configuration of its own; {named} is not used", err=True)
    sys.exit(run_demo(state_dir, once=once))
