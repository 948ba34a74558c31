"""What `bouncetap check` does: is the handler there, what does it offer, and would it take a bounce.

Each handler is asked as the proxy would ask it: connect, EHLO, MAIL with the null reverse-path, RCPT to an address
at each of our domains, RSET, QUIT. DATA is never sent, so no message comes of it.
"""

from __future__ import annotations

import smtplib
from collections.abc import Callable

import click

from bouncetap.config import Config
from bouncetap.config.values import split_host_port

TIMEOUT_S = 10.0
PROBE_LOCAL_PART = "bouncetap-check"


def check_everything(config: Config) -> int:
    """Prints what was found; 0 if a bounce would get through to at least one handler, else 1."""
    usable = [host for host in config["legacy.hosts"] if _check_handler(host, config["proxy.domains"], click.echo)]
    if not usable:
        click.echo("no handler would take a bounce: everything would be spooled until one does")
        return 1
    click.echo(f"a bounce would get through to {', '.join(usable)}")
    return 0


def _check_handler(host: str, domains: tuple[str, ...], say: Callable[[str], object]) -> bool:
    try:
        with smtplib.SMTP(*split_host_port(host), timeout=TIMEOUT_S) as session:
            code, text = session.ehlo()
            if code != 250:
                say(f"{host}: EHLO answered {code} {text.decode(errors='replace')}")
                return False
            say(f"{host}: {text.decode(errors='replace').splitlines()[0]}")
            for name in ("pipelining", "8bitmime", "smtputf8", "dsn", "size", "starttls", "xclient"):
                say(f"  {name.upper():<12}{_offer(session, name)}")
            return all([_would_take(session, host, domain, say) for domain in domains])  # noqa: C419  # ask about every domain
    except (OSError, smtplib.SMTPException) as error:
        say(f"{host}: {error or type(error).__name__}")
        return False


def _offer(session: smtplib.SMTP, name: str) -> str:
    if not session.has_extn(name):
        return "no"
    return f"yes {session.esmtp_features.get(name, '')}".strip()


def _would_take(session: smtplib.SMTP, host: str, domain: str, say: Callable[[str], object]) -> bool:
    address = f"{PROBE_LOCAL_PART}@{domain.replace('*.', 'check.')}"
    mail_code, mail_text = session.docmd("MAIL", "FROM:<>")
    code, text = session.docmd("RCPT", f"TO:<{address}>") if mail_code == 250 else (mail_code, mail_text)
    session.docmd("RSET")
    taken = code in (250, 251)
    say(f"  <> to <{address}>: {code} {text.decode(errors='replace')}" + ("" if taken else "   <-- refused"))
    if not taken and code >= 500:
        say(f"  {host} may know single addresses only: a refusal of {PROBE_LOCAL_PART} alone is no fault")
        return True
    return taken
