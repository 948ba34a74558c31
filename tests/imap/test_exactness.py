"""Every message of ours and of the corpus, as real clients get it: exact, and in parts as BODYSTRUCTURE says."""

from __future__ import annotations

import asyncio
import hashlib
import imaplib
import itertools
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aioimaplib
import pytest

from proxy.journal.records import unstuffed
from store.accounts import Accounts
from store.annotate import split
from store.imap.scanner import Scanner
from store.imap.server import ImapServer
from tests.conftest import ROOT
from tests.support.imap import PASSWORD, USERS, quarantine, serve

_LINE_END = re.compile(rb"\r?\n|\r")


def wire(raw: bytes) -> bytes:
    """A message as SMTP carries it: dots stuffed, a line end at its end."""
    data = re.sub(rb"(^|\r\n)\.", rb"\1..", raw)
    return data if data.endswith(b"\r\n") else data + b"\r\n"


def fixtures() -> list[bytes]:
    return [wire(path.read_bytes()) for path in sorted((ROOT / "fixtures").rglob("*.eml"))]


def everything(corpus: Path) -> list[bytes]:
    """The labelled messages with CRLF line ends."""
    return [wire(_LINE_END.sub(b"\r\n", path.read_bytes())) for path in sorted(corpus.rglob("*.eml"))]


@asynccontextmanager
async def filled_with(directory: Path, messages: list[bytes]) -> AsyncIterator[tuple[ImapServer, Counter[bytes]]]:
    """A server over these messages (wire form), and the SHA-256 of each as IMAP shows it."""
    filled = quarantine(directory)
    Accounts(filled.quarantine.index).add("anna", "secret", USERS["anna"])
    server = None
    try:
        for start in range(0, len(messages), 200):
            await asyncio.to_thread(filled.file, *messages[start : start + 200])
        server = await serve(filled.settings)
        yield server, Counter(_digest(unstuffed(one)) for one in messages)
    finally:
        if server is not None:
            await server.stop()
        filled.close()


def _digest(original: bytes) -> bytes:
    return hashlib.sha256(original.replace(b"\0", b"\x80")).digest()


async def test_fixtures(tmp_path: Path) -> None:
    messages = fixtures()
    assert len(messages) >= 60
    async with filled_with(tmp_path, messages) as (server, digests):
        await asyncio.to_thread(_check_all, server.addresses[0][1], digests)


@pytest.mark.corpus
@pytest.mark.slow
async def test_corpus(tmp_path: Path, corpus: Path) -> None:
    messages = everything(corpus)
    async with filled_with(tmp_path, messages) as (server, digests):
        await asyncio.to_thread(_check_all, server.addresses[0][1], digests)
        await _check_aioimaplib(server.addresses[0][1], len(messages))


def _check_all(port: int, digests: Counter[bytes]) -> None:
    """With imaplib: every message of every folder."""
    found: Counter[bytes] = Counter()
    with imaplib.IMAP4("127.0.0.1", port) as c:
        c.login("rita", PASSWORD)
        for name in _folders(c.list()[1]):
            (count,) = c.select(f'"{name}"', readonly=True)[1]
            for number in range(1, int(count or 0) + 1):
                found[_check(c, str(number))] += 1
    assert found == digests


def _folders(lines: Sequence[bytes | tuple[bytes, bytes] | None]) -> Iterator[str]:
    for line in lines:
        assert isinstance(line, bytes)
        if b"\\Noselect" not in line:
            yield line.rpartition(b' "/" ')[2].decode().strip('"')


def _check(c: imaplib.IMAP4, number: str) -> bytes:
    """One message; the digest of its original."""
    told = _response(c.fetch(number, "(RFC822.SIZE ENVELOPE BODYSTRUCTURE)")[1])
    size = int(_after(told, b"RFC822.SIZE "))
    envelope, structure = _value(told, b"ENVELOPE "), _value(told, b"BODYSTRUCTURE ")
    assert isinstance(envelope, list)
    assert len(envelope) == 10
    whole = _fetch(c, number, "")
    assert len(whole) == size
    assert _fetch(c, number, "HEADER") + _fetch(c, number, "TEXT") == whole
    for path, octets in _parts(structure, ()):
        assert len(_fetch(c, number, path)) == octets, (number, path)
    assert b"X-Bouncetap-Kind: " in whole
    return hashlib.sha256(split(whole)[1]).digest()


def _fetch(c: imaplib.IMAP4, number: str, section: str) -> bytes:
    found = c.fetch(number, f"(BODY.PEEK[{section}])")[1][0]
    assert isinstance(found, tuple), (section, found)
    return found[1]


def _response(lines: Sequence[bytes | tuple[bytes, bytes] | None]) -> bytes:
    """One FETCH response with the literals that imaplib has taken out put back."""
    return b"".join(b"\r\n".join(line) if isinstance(line, tuple) else line or b"" for line in lines)


def _after(told: bytes, label: bytes) -> bytes:
    found = re.search(re.escape(label) + rb"(\S+)", told)
    assert found is not None
    return found[1]


def _value(told: bytes, label: bytes) -> object:
    scanner = Scanner(told)
    scanner.at = told.index(label) + len(label)
    return _read(scanner)


def _read(s: Scanner) -> object:
    if s.accept(b"("):
        items = []
        while not s.accept(b")"):
            items.append(_read(s))
            s.accept(b" ")
        return items
    return s.nstring() if s.peek(b"NIL") or s.peek(b'"') or s.peek(b"{") else s.number()


def _parts(structure: object, path: tuple[int, ...]) -> Iterator[tuple[str, int]]:
    """(section, octets) of each leaf and enclosed message that a BODYSTRUCTURE announces."""
    assert isinstance(structure, list)
    if isinstance(structure[0], list):
        children = itertools.takewhile(lambda one: isinstance(one, list), structure)
        for number, child in enumerate(children, 1):
            yield from _parts(child, (*path, number))
        return
    path = path or (1,)
    yield ".".join(map(str, path)), structure[6]
    if structure[:2] == [b"message", b"rfc822"]:
        inner = structure[8]
        single = not isinstance(inner[0], list)
        yield from _parts(inner, (*path, 1) if single else path)


async def _check_aioimaplib(port: int, count: int) -> None:
    """The same sums by the other library, which parses by itself."""
    client = aioimaplib.IMAP4(host="127.0.0.1", port=port, timeout=60)
    await client.wait_hello_from_server()
    assert (await client.login("anna", "secret")).result == "OK"
    total = 0
    for name in _folders([line for line in (await client.list('""', "*")).lines if b'"/"' in line]):
        assert (await client.select(name)).result == "OK"
        uids = (await client.uid_search("ALL", charset=None)).lines[0].decode().split()
        for start in range(0, len(uids), 50):  # it recurses a response, so not all at once
            told = await client.uid("fetch", ",".join(uids[start : start + 50]), "(RFC822.SIZE ENVELOPE BODYSTRUCTURE)")
            assert told.result == "OK"
            sizes = re.findall(rb"RFC822.SIZE (\d+)", b" ".join(map(bytes, told.lines)))
            assert len(sizes) == len(uids[start : start + 50])
            told = await client.uid("fetch", uids[start], "(BODY.PEEK[])")
            assert any(isinstance(line, bytearray) and len(line) == int(sizes[0]) for line in told.lines)
        total += len(uids)
    assert total == count
    assert (await client.logout()).result == "OK"
