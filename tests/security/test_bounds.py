"""Small messages that would take minutes: each is read in time that grows with its length, no faster.

Measured in CPU time against a harmless message of the same size, so that a busy machine changes nothing.
"""

from __future__ import annotations

import codecs
import encodings
import re
import time
from collections.abc import Callable

import pytest

from bouncetap.messages import _split
from classifier.mime.encodings import codec, decode, header_text
from proxy.wire import Smuggling, inspect, received_count
from store.annotate import encoded
from store.imap.addresses import parse_addresses
from store.imap.mime import split_value
from store.imap.names import name_matches
from store.imap.structure import describe
from store.imap.text import decode_words
from store.prepare import address

PUMPS = (
    *(b"a", b" ", b"a ", b"@", b":", b"a@", b"<", b">", b"(", b")", b"[", b'"', b"\\", b";", b"; ", b";a", b"=", b","),
    *(b"{1", b"&", b"=?", b"=?u?q?", b"=?u?q?a?= ", b"?= ", b"\r\n ", b"\n", b"--", b"\t", b"%", b"*", b"\xff"),
    *(b"\x00", b"g:;"),
)  # fmt: skip
READERS: dict[str, Callable[[bytes], object]] = {
    "addresses": parse_addresses,
    "value": split_value,
    "words": decode_words,
    "header": header_text,
    "path": address,
    "annotation": lambda data: encoded(data.decode("latin-1")),
    "inspect": lambda data: inspect(data, Smuggling.REFUSE),
    "normalize": lambda data: inspect(data, Smuggling.NORMALIZE),
    "received": received_count,
    "names": lambda data: name_matches("Bounces/Hard", data.decode("latin-1")),
}


def cpu_s(work: Callable[[], object]) -> float:
    started = time.thread_time()
    work()
    return time.thread_time() - started


@pytest.mark.parametrize("reader", list(READERS))
def test_headers_are_read_in_linear_time(reader: str) -> None:
    read = READERS[reader]
    for first in PUMPS:
        for second in PUMPS[:20]:
            data = (first * 8192)[:4096] + b"@" + (second * 8192)[:4096] + b"\x01"
            if cpu_s(lambda data=data: read(data)) > 0.05:  # type: ignore[misc]
                longer = data.replace(b"\x01", b"") * 4 + b"\x01"
                assert cpu_s(lambda longer=longer: read(longer)) < 8 * cpu_s(lambda data=data: read(data))  # type: ignore[misc]
            assert cpu_s(lambda data=data: read(data)) < 0.5, (first, second)  # type: ignore[misc]


def test_a_thousand_address_bombs_in_one_message() -> None:
    fields = b"".join(n + b": " + b"a " * 4000 + b"@" + b":" * 8000 + b"\r\n" for n in (b"From", b"To", b"Cc", b"Bcc"))
    inner = b"".join(b"--x\r\nContent-Type: message/rfc822\r\n\r\n" + fields + b"\r\nhi\r\n" for _ in range(10))
    bomb = b"Content-Type: multipart/mixed; boundary=x\r\n\r\n" + inner
    harmless = bomb.replace(b":" * 8000, b"b" * 8000)
    assert cpu_s(lambda: describe(bomb)) < 20 * cpu_s(lambda: describe(harmless)) + 1.0


def test_an_mbox_line_of_times() -> None:
    line = b"From " + b"11:11 " * 20_000 + b"\rX\n\nhi\n"
    assert cpu_s(lambda: list(_split("x", line))) < 2.0


def test_boundaries_with_endless_padding() -> None:
    head = b"Content-Type: multipart/mixed; boundary=x\r\n\r\n"
    assert cpu_s(lambda: describe(head + (b"\n--x" + b" " * 2000 + b"y") * 10_000)) < 5.0


def test_charsets_are_no_weapon() -> None:
    for name in ("punycode", "idna", "unicode_escape", "hex", "zlib", "base64", "bz2", "rot13", "undefined", "../x"):
        assert codec(name) is None
    remembered = len(getattr(encodings, "_cache"))  # noqa: B009  no stub has it
    for number in range(1000):
        assert decode(b"x", f"no-such-charset-{number}") == "x"
    assert len(getattr(encodings, "_cache")) <= remembered + 1  # noqa: B009
    assert codecs.lookup(codec("latin1") or "").name == "cp1252"


def test_surrogates_never_get_out() -> None:
    for charset in ("utf-7", "utf-16", "utf-8"):
        text = decode(b"+2AA-\xed\xa0\x80", charset)
        assert re.sub("[\ud800-\udfff]", "", text).encode() is not None
