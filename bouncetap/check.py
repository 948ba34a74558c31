"""What `bouncetap check` does: is the handler there, what does it offer, and would it take a bounce.

Each handler is asked as the proxy asks it, by the proxy's own code: TLS, AUTH and PROXY header as configured, then MAIL
with the null reverse-path, RCPT, RSET, QUIT. DATA is never sent, so no message comes of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from bouncetap.config import Config
from bouncetap.config.for_proxy import proxy_settings
from bouncetap.harmless import printable
from proxy.address import AddressError, canonical_domain, parse_rcpt
from proxy.errors import StartError
from proxy.settings import Legacy
from proxy.types import Reply
from proxy.upstream.client import Connection, LostError
from proxy.upstream.connect import Connector, DownError, credentials

SECRETS = ("legacy.password_file", "proxy.tls_key", "imap.tls_key")
TIMEOUT_S = 10.0
PROBE_LOCAL_PART = "bouncetap-check"


def check_everything(config: Config, recipients: Sequence[str] = ()) -> int:
    """Prints what was found; 0 if a bounce would get through to at least one handler, else 1.

    `recipients` are addresses to ask about; by default an invented one at each of our domains.
    """
    for recipient in recipients:
        _checked(recipient)
    asked = recipients or [_invented(domain) for domain in config["proxy.domains"]]
    for name in SECRETS:
        if config[name] is not None and Path(config[name]).stat().st_mode & 0o007:
            click.echo(f"! {name} = {config[name]}: every user of this machine may read or change it; chmod 600 it")
    settings = proxy_settings(config)
    legacy = replace(
        settings.legacy, connect_timeout_s=TIMEOUT_S, greeting_timeout_s=TIMEOUT_S, command_timeout_s=TIMEOUT_S
    )
    usable = [
        host for host in legacy.hosts if asyncio.run(_would_take_all(host, legacy, settings.listen.hostname, asked))
    ]
    if not usable:
        click.echo("no handler would take a bounce: everything would be spooled until one does")
        return 1
    click.echo(f"a bounce would get through to {', '.join(usable)}")
    return 0


def _invented(domain: str) -> str:
    return f"{PROBE_LOCAL_PART}@{canonical_domain(domain.replace('*.', 'check.').encode())}"


def _checked(recipient: str) -> None:
    try:
        parse_rcpt(f"<{recipient}>".encode(), smtputf8=False)
    except AddressError as error:
        raise click.BadParameter(f"{recipient!r} is not an address ({error})", param_hint="--to") from None


async def _would_take_all(host: str, legacy: Legacy, hostname: str, recipients: Sequence[str]) -> bool:
    try:
        connection = await Connector(host, legacy, hostname, credentials(legacy)).connect()
    except (DownError, StartError) as error:
        click.echo(f"{host}: {printable(error)}")
        return False
    try:
        _show_offers(host, connection, legacy)
        return all([await _would_take(connection, recipient) for recipient in recipients])  # ask about every one
    except LostError as error:
        click.echo(f"  {printable(error)}")
        return False
    finally:
        connection.quit()


def _show_offers(host: str, connection: Connection, legacy: Legacy) -> None:
    offers = connection.offers
    click.echo(f"{host}: speaks SMTP" + (", logged in" if legacy.user else ""))
    starttls = "in use" if connection.secure else offers.starttls
    for name, offered in (("PIPELINING", offers.pipelining), ("8BITMIME", offers.eight_bit),
                          ("SMTPUTF8", offers.smtputf8), ("DSN", offers.dsn),
                          ("SIZE", offers.size_bytes or offers.size), ("STARTTLS", starttls),
                          ("XCLIENT", " ".join(sorted(offers.xclient)))):  # fmt: skip
        what = "yes" if offered is True else str(offered or "no")
        click.echo(f"  {name:<12}{printable(what)}")
    if legacy.client_address == "xclient" and not offers.xclient:
        click.echo('  ! [legacy] client_address = "xclient", but it offers no XCLIENT: it will see the tap\'s address')


async def _would_take(connection: Connection, recipient: str) -> bool:
    mail, rcpt = await connection.probe(b"<>", f"<{recipient}>".encode())
    taken = rcpt is not None and rcpt.code < 300
    answer = f"<> to <{recipient}>: {_shown(rcpt or mail)}"
    click.echo(f"  {printable(answer)}" + ("" if taken else "   <-- refused"))
    if rcpt is not None and not taken and recipient.startswith(f"{PROBE_LOCAL_PART}@"):
        click.echo("  (that address is invented; to a handler that knows single ones name one: --to ADDRESS)")
    return taken


def _shown(reply: Reply) -> str:
    return f"{reply.code} {b' '.join(reply.lines).decode('utf-8', 'backslashreplace')}"
