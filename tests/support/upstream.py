"""Hosts and parcels for tests of the way to a handler."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from proxy.upstream.connect import Connector
from proxy.upstream.hosts import Hosts, Parcel
from proxy.upstream.identity import Client
from tests.support.handler import Handler
from tests.support.outbound import BODY, QUICK, RCPT

CLIENT = Client("192.0.2.7", 4321, b"sender.example")


def connector(handler: Handler, **legacy: Any) -> Connector:
    return Connector(handler.host, replace(QUICK, hosts=(handler.host,), **legacy), "tap.example", None)


@asynccontextmanager
async def hosts(path: Path, *handlers: Handler, **legacy: Any) -> AsyncIterator[Hosts]:
    names = tuple(handler.host for handler in handlers)
    made = Hosts(replace(QUICK, hosts=names, **legacy), "tap.example", path)
    try:
        yield made
    finally:
        made.close()


def parcel(body: bytes = BODY, **fields: Any) -> Parcel:
    values = {
        "id": "id",
        "mail_arg": b"<>",
        "rcpt_args": (RCPT,),
        "smtputf8": False,
        "body": (body,),
        "client": CLIENT,
    }
    return Parcel(**{**values, **fields})
