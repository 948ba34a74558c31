"""What goes to the handler of a journal entry: its arguments and wire bytes as received, a Received field if wanted."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.journal import Entry
from proxy.settings import Listen
from proxy.trace import received_field
from proxy.upstream.hosts import Parcel
from proxy.upstream.identity import Client


def parcel_of(listen: Listen, entry: Entry, rcpts: Sequence[int]) -> Parcel:
    """For the recipients concerned (indices)."""
    body: tuple[bytes, ...] = (entry.wire,)
    if listen.add_received:
        field = received_field(
            hostname=listen.hostname,
            peer=entry.peer,
            helo=entry.helo,
            tls=entry.tls,
            smtputf8=entry.smtputf8,
            id=entry.id,
            received_ns=entry.received_ns,
        )
        body = (field, entry.wire)
    return Parcel(
        id=entry.id,
        mail_arg=entry.mail_arg,
        rcpt_args=tuple(entry.rcpt_args[index] for index in rcpts),
        smtputf8=entry.smtputf8,
        body=body,
        client=Client.of(entry.peer, entry.helo),
    )
