"""The operator's hand on messages: list, retry, drop, resend (`bouncetap spool`, `bouncetap message --resend`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from proxy.address import has_control
from proxy.errors import CommandError
from proxy.marks import Marks
from proxy.outcome import Outcome, first_line
from proxy.spool import Spool
from proxy.upstream.hosts import Hosts, Parcel
from proxy.upstream.identity import Client
from proxy.upstream.pool import Ticket


class Commands:
    """By name, with JSON-able arguments and results."""

    def __init__(self, spool: Spool, marks: Marks, hosts: Hosts, under_way: Callable[[str], bool]) -> None:
        """`under_way` tells whether a message's first attempt has not ended yet."""
        self._under_way = under_way
        self._spool = spool
        self._marks = marks
        self._hosts = hosts

    async def obey(self, name: str, args: dict[str, Any]) -> dict[str, Any]:
        """Raises CommandError."""
        ident = args.get("id")
        if name == "spool_ls":
            if args.get("dead"):
                return {"messages": self._marks.dead_rows(), "total": self._marks.dead_count}
            return {"messages": await self._spool.rows(), "total": self._spool.status()["messages"]}
        if name == "spool_retry":
            return {"retried": self._spool.retry(ident)}
        if name not in {"spool_drop", "resend"}:
            raise CommandError(f"no command {name}")
        if not isinstance(ident, str) or not ident:
            raise CommandError(f"{name}: which message? (id)")
        if name == "spool_drop":
            self._spool.drop(ident)
            return {"dropped": ident}
        if self._under_way(ident):  # for up to `reply_timeout`, long after its sender was answered
            raise CommandError(f"{ident} is being sent in this very moment")
        outcome = await self._spool.attempt(ident) or await self._send_again(ident, args)
        return {"replies": _shown(outcome)}

    async def _send_again(self, ident: str, args: dict[str, Any]) -> Outcome:
        """Send what the caller has kept: `path` to the wire bytes, `mail_arg`, `rcpt_args`. Nothing is recorded."""
        try:
            wire = await asyncio.to_thread(Path(args["path"]).read_bytes)
            mail_arg, rcpt_args = _octets(args["mail_arg"]), tuple(map(_octets, args["rcpt_args"]))
        except KeyError:
            raise CommandError(f"{ident} is not in the spool: its wire bytes and envelope are needed") from None
        except OSError as error:
            raise CommandError(f"cannot read the message: {error}") from None
        if any(map(has_control, (mail_arg, *rcpt_args))):
            raise CommandError("a line end in an envelope would be a command of its own")
        smtputf8 = b"SMTPUTF8" in mail_arg.upper().split()[1:]
        parcel = Parcel(ident, mail_arg, rcpt_args, smtputf8, (wire,), Client("", 0, b""))
        return await self._hosts.send(parcel, Ticket(live=False), self._hosts.all)


def _octets(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")


def _shown(outcome: Outcome) -> list[str]:
    """A line a recipient, for an operator."""
    return [f"{reply.code} {first_line(reply)}" if reply else outcome.error or "no reply" for reply in outcome.said]
