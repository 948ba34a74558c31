"""`bouncetap account`: who may log in over IMAP. Passwords come from the terminal or stdin, never from argv."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from bouncetap.cli.options import loaded, table, takes_config
from bouncetap.cli.quarantine import opened_quarantine

if TYPE_CHECKING:
    from store.accounts import Accounts


@contextmanager
def _accounts() -> Iterator[Accounts]:
    """The accounts of the quarantine, which is created if need be."""
    from store.accounts import Accounts

    with opened_quarantine(loaded(writes=True)) as quarantine:
        yield Accounts(quarantine.index)


@click.group()
@takes_config
def account() -> None:
    """IMAP accounts."""


@account.command("add")
@click.argument("name")
@click.option("--role", type=click.Choice(["reader", "analyst", "admin"]), required=True)
@click.option("--password-stdin", is_flag=True, help="Read the password from the first line of standard input.")
@takes_config
def account_add(name: str, role: str, password_stdin: bool) -> None:
    """Add an account, or give an existing one a new password and role."""
    if password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    if not password:
        raise click.ClickException("the password is empty")
    with _accounts() as accounts:
        try:
            accounts.add(name, password, role)
        except ValueError as error:
            raise click.ClickException(str(error)) from None
    click.echo(f"{name}: {role}")


@account.command("list")
@takes_config
def account_list() -> None:
    """Names and roles."""
    with _accounts() as accounts:
        click.echo(table(accounts.list(), ["name", "role"]))


@account.command("remove")
@click.argument("name")
@takes_config
def account_remove(name: str) -> None:
    """Remove an account; its sessions end with their next command."""
    with _accounts() as accounts:
        if not accounts.remove(name):
            raise click.ClickException(f"there is no account {name!r}")
    click.echo(f"{name}: removed")
