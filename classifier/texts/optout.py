"""Addresses that mean "unsubscribe" by themselves: RFC 2369 List-Unsubscribe mailto addresses and list commands."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass

from classifier import addresses
from classifier.context import Context
from classifier.linear import Linear

_LOCAL = Linear(
    r"(?:^|[.+=_-])(?:un-?subs?|un-?subscribe[ds]?|un-?subscription|opt-?out|optouts|remove|removal|list-?remove|signoff|sign-off"
    r"|abmelden|abmeldung|desabo(?:nn?ement|nner)?|desinscri(?:re|ption)|baja|bajas|baixa|cancelacion|desuscribir(?:se)?"
    r"|disiscrizione|cancellami"
    r"|descadastr(?:ar|o)|dezabonare|afmelden|uitschrijven|avregistrera|avanmalan|odjava|odhlaseni|odhlasenie"
    r"|afmeld|avmeld|odhlasit|wypisz|leiratkozas|otpiska)(?:$|[.+=_-])"
    r"|^(?:leave|u|uns|listunsub|lu)[+-][\w.=+-]{6,}$|[\w]-(?:leave|off)$|^leave-[\w.-]+$"
)
_DOMAIN = re.compile(r"^(?:unsub(?:scribe)?s?\d*|optout|opt-out|leave|remove)\.", re.IGNORECASE)
_COMMAND_PERSON = re.compile(
    r"(?:unsubscribe|unsub|leave|remove|optout|opt-out)[+._-](?:.*[+])?([^=@+]+(?:\+[^=@]*)?)=([a-z0-9.-]+\.[a-z]{2,})$",
    re.IGNORECASE,
)
# "unsub:7c2f91:1180", "unsubscribe-bob=client.example": what a List-Unsubscribe field has mail programs put there.
_COMMAND = re.compile(
    r"^(?:(?:list-?)?un-?sub(?:scribe)?[:=+_.-]\s?(\S{3,})|(?:opt-?out|leave|remove|signoff)[:=+_.-]\s?(\S*[0-9=@]\S*))$",
    re.IGNORECASE,
)
_NAMED = re.compile(r"([^=@+:\s]+(?:\+[^=@:\s]*)?)[=@]([a-z0-9.-]+\.[a-z]{2,})$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Target:
    """An unsubscribe address that the message was sent to, and the person whom its token names (None: opaque)."""

    address: str
    person: str | None


def address(targets: tuple[str, ...], context: Context) -> Target | None:
    """Find an unsubscribe address among a message's targets: the configured globs first, then the usual shapes."""
    for target in targets[:20]:
        local, _, domain = target.rpartition("@")
        configured = any(
            fnmatch.fnmatchcase(target.lower(), glob.lower()) for glob in context.patterns.unsubscribe_addresses
        )
        if configured or _LOCAL.within(local) or _DOMAIN.match(domain):
            return Target(target, _person(target, local, context))
    return None


def command(subject: str) -> Target | None:
    """Read the subject that a List-Unsubscribe field asks for: a command with a token, and no words."""
    subject = subject.strip()[:400]
    found = _COMMAND.match(subject)
    if found is None:
        return None
    named = _NAMED.search(found[1] or found[2])
    person = f"{named[1]}@{named[2]}" if named else ""
    return Target(subject, person if addresses.valid(person) else None)


def _person(target: str, local: str, context: Context) -> str | None:
    if match := _COMMAND_PERSON.search(local):
        person = f"{match[1]}@{match[2]}"
        return person if addresses.valid(person) else None
    token = addresses.return_path_token(target, context.patterns)
    return token.address if token is not None else None
