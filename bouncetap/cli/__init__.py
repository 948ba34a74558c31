"""The command line: one module a group of commands, loaded only when one of its commands is called.

Loading lazily matters: `bouncetap proxy` must not import the store, and `--help` must not take a second. Exit codes:
0 done, 1 failed (one clear line on stderr), 2 wrong usage or configuration.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any, NoReturn

import click

from bouncetap import __version__

COMMANDS = {
    "run": "running", "proxy": "running", "filer": "running", "imap": "running", "demo": "running",
    "init": "setup", "check": "setup", "config": "setup", "account": "accounts",
    "classify": "classify", "unknowns": "classify", "export": "quarantine", "message": "quarantine",
    "expire": "quarantine", "salvage": "quarantine", "status": "operate", "spool": "operate", "pause": "operate",
    "resume": "operate", "drain": "operate", "reload": "operate", "journal": "journal",
}  # fmt: skip


class LazyGroup(click.Group):
    """Finds a command's module in COMMANDS and imports it on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order of COMMANDS."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported now."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"bouncetap.cli.{COMMANDS[cmd_name]}")
        command: Any = getattr(module, cmd_name)
        return command  # type: ignore[no-any-return]


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--config", "config_file", type=click.Path(), help="Configuration file.")
@click.version_option(__version__, prog_name="bouncetap")
@click.pass_context
def group(ctx: click.Context, config_file: str | None) -> None:
    """Bouncetap: a transparent tap in front of a legacy bounce handler."""
    ctx.obj = {"config_file": config_file}


def main() -> None:
    """Runs the command line; never shows a traceback for what an operator can mend."""
    from bouncetap.config import ConfigError

    try:
        code = group(standalone_mode=False)  # what a command raised as Exit comes back as a number
        sys.exit(code if isinstance(code, int) else 0)
    except click.UsageError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        _fail(1, error.format_message())
    except ConfigError as error:
        _fail(2, *error.errors)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        _fail(1, f"{error.filename}: {error.strerror}" if error.filename else str(error))


def _fail(code: int, *lines: str) -> NoReturn:
    sys.stderr.write("".join(f"bouncetap: {line}\n" for line in lines))
    sys.exit(code)
