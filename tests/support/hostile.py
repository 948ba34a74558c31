"""Messages built to hurt a classifier: huge, deep, endless, or nearly a format. `CASES` maps names to builders."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable

MB = 1 << 20
_HEAD = b"From: a@b.example\nTo: c@d.example\nSubject: hello\nMIME-Version: 1.0\n"
_DAEMON = b"From: MAILER-DAEMON@b.example\nTo: c@d.example\nSubject: Undelivered Mail Returned to Sender\nMIME-Version: 1.0\n"


def nested(depth: int, boundary: Callable[[int], bytes]) -> bytes:
    lines = [_HEAD]
    for level in range(depth):
        lines.append(b'Content-Type: multipart/mixed; boundary="' + boundary(level) + b'"\n\n--' + boundary(level) + b"\n")
    lines.append(b"Content-Type: text/plain\n\nhello\n")
    return b"".join(lines) + b"".join(b"--" + boundary(level) + b"--\n" for level in reversed(range(depth)))


def embedded(depth: int) -> bytes:
    return _HEAD + b"Content-Type: message/rfc822\n\n" * depth + b"hello\n"


def report(recipients: int) -> bytes:
    groups = b"".join(
        b"Final-Recipient: rfc822; u%d@d.example\nAction: failed\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550 5.1.1 no\n\n" % i
        for i in range(recipients)
    )
    return (
        _DAEMON + b'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\n\n--b\n\nfailed\n--b\n'
        b"Content-Type: message/delivery-status\n\nReporting-MTA: dns; m.example\n\n" + groups + b"--b--\n"
    )


def prose(recipients: int) -> bytes:
    lines = b"".join(b"<u%d@d.example>: host mx said: 550 5.1.1 unknown user\n\n" % i for i in range(recipients))
    return _DAEMON + b"\nThis is the mail system at host m.example.\n\n" + lines


def random_bytes(size: int) -> bytes:
    return random.Random(7).randbytes(size)


CASES: dict[str, Callable[[], bytes]] = {
    "10 MB of text": lambda: _HEAD + b"\n" + b"The quick brown fox said: 550 no. " * (10 * MB // 34),
    "10 MB of text from a mail system": lambda: _DAEMON + b"\n" + b"could not be delivered x@y.example 550 5.1.1 \n" * (10 * MB // 46),
    "one line of 10 MB": lambda: _DAEMON + b"\n" + b"a" * (10 * MB),
    "one line of at signs": lambda: _DAEMON + b"\n" + b"a@" * MB,
    "one line of dots": lambda: _DAEMON + b"\n" + b"a.b-" * MB,
    "only line ends": lambda: _DAEMON + b"\n" * (10 * MB),
    "only carriage returns": lambda: _DAEMON + b"\r" * (10 * MB),
    "spaces": lambda: _DAEMON + b"\n" + b" " * (10 * MB),
    "nested 200 deep": lambda: nested(200, lambda i: b"b%d" % i),
    "nested 200 deep, one boundary": lambda: nested(200, lambda _: b"same"),
    "nested 200 deep, each a prefix of the next": lambda: nested(200, lambda i: b"b" * (i + 1)),
    "nested 200 deep, each a prefix of the last": lambda: nested(200, lambda i: b"b" * (200 - i)),
    "embedded 5,000 deep": lambda: embedded(5000),
    "1 MB in one header": lambda: _HEAD + b"X-Long: " + b"x" * MB + b"\n\nhello\n",
    "1 MB of From": lambda: b"From: " + b"<a@" * (MB // 3) + b"\n\nhello\n",
    "1 MB of Content-Type": lambda: _HEAD + b"Content-Type: text/plain" + b"; a=b" * (MB // 5) + b"\n\nhello\n",
    "1 MB of Content-Type quotes": lambda: _HEAD + b'Content-Type: text/plain; a="' + b"\\" * MB + b"\n\nhello\n",
    "100,000 header lines": lambda: b"X-A: 1\n" * 100_000 + b"\nhello\n",
    "100,000 folded lines": lambda: b"Subject: x" + b"\n y" * 100_000 + b"\n\nhello\n",
    "100,000 encoded words": lambda: b"Subject: " + b"=?utf-8?q?a=20b?=\n " * 100_000 + b"x\n\nhello\n",
    "100,000 recipients in a report": lambda: report(100_000),
    "100,000 recipients in prose": lambda: prose(100_000),
    "100,000 addresses in To": lambda: b"From: MAILER-DAEMON@b.example\nTo: " + b",\n ".join(b"u%d@d.example" % i for i in range(100_000)) + b"\n\nfailed delivery <x@y.example>\n",
    "a million delimiter lines": lambda: _HEAD + b'Content-Type: multipart/mixed; boundary="b"\n\n' + b"--b\n" * MB,
    "a million almost delimiters": lambda: _HEAD + b'Content-Type: multipart/mixed; boundary="b"\n\n' + b"--bx\n" * MB,
    "uuencoded 10 MB": lambda: _HEAD + b"\nbegin 644 a.bin\n" + (b"M" + b'R"ZC`"#58j' * 6 + b"\n") * (10 * MB // 62) + b"end\n",
    "many uuencoded openings": lambda: _HEAD + b"\n" + b"begin 644 a\n" * 100_000,
    "base64 of 10 MB": lambda: _HEAD + b"Content-Transfer-Encoding: base64\n\n" + base64.encodebytes(random_bytes(7 * MB)),
    "base64 of a report": lambda: _HEAD + b"Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n" + base64.encodebytes(report(20_000)),
    "quoted-printable of 10 MB": lambda: _HEAD + b"Content-Transfer-Encoding: quoted-printable\n\n" + b"=C3=A4=\n" * (10 * MB // 8),
    "10 MB of random bytes": lambda: random_bytes(10 * MB),
    "random bytes like a zip": lambda: _HEAD + b"Content-Type: application/zip; name=a.zip\n\nPK\x03\x04" + random_bytes(5 * MB),
    "deep HTML": lambda: _DAEMON + b"Content-Type: text/html\n\n" + b"<div>" * MB + b"failed a@b.example",
    "open tags": lambda: _DAEMON + b"Content-Type: text/html\n\n" + b"<a " * MB,
    "open comments": lambda: _DAEMON + b"Content-Type: text/html\n\n" + b"<!--" * MB,
    "HTML entities": lambda: _DAEMON + b"Content-Type: text/html\n\n" + b"&amp;&#64;&notit;" * (MB // 4),
    "quote marks": lambda: _HEAD + b"\n" + b"> " * (2 * MB),
    "JSON brackets": lambda: b'From: no-reply@sns.amazonaws.com\n\n{"notificationType":' + b"[" * MB,
    "delivery-status fields without end": lambda: _DAEMON + b"Content-Type: message/delivery-status\n\nFinal-Recipient: rfc822; a@b.example\n" + b"X-A: b\n c\n" * 300_000,
    "punycode charset": lambda: _HEAD + b"Content-Type: text/plain; charset=punycode\n\n" + b"a-" * MB,
    "utf-7": lambda: _HEAD + b"Content-Type: text/plain; charset=utf-7\n\n" + b"+2AD-" * (MB // 4),
    "no body": lambda: _HEAD,
    "nothing": lambda: b"",
    "one byte": lambda: b"\r",
}  # fmt: skip
