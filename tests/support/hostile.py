"""Messages built to hurt a classifier: huge, deep, endless, or nearly a format. `CASES` maps names to builders."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable

MB = 1 << 20
_PERSON = b"From: a@b.example\nTo: c@d.example\nSubject: hello\nMIME-Version: 1.0\n"
_DAEMON = (
    b"From: MAILER-DAEMON@b.example\nTo: c@d.example\nSubject: Undelivered Mail Returned to Sender\nMIME-Version: 1.0\n"
)


def person(body: bytes, *fields: bytes) -> bytes:
    """A message that a person could have sent: some header fields, a blank line, the body."""
    return _PERSON + b"".join(field + b"\n" for field in fields) + b"\n" + body


def daemon(body: bytes, *fields: bytes) -> bytes:
    """The same from a mail system."""
    return _DAEMON + b"".join(field + b"\n" for field in fields) + b"\n" + body


def mailer(parameter: bytes, body: bytes, *, host: bytes = b"b.example") -> bytes:
    """What none but flufl.bounce may read: a mail system's, and no words of a notice; `parameter` of its type."""
    kind = b"multipart/mixed" if b"boundary" in parameter else b"text/plain"
    return b"From: MAILER-DAEMON@%b\nContent-Type: %b; %b\n\n%b" % (host, kind, parameter, body)


def nested(depth: int, boundary: Callable[[int], bytes]) -> bytes:
    """One multipart in another, all of them closed."""
    names = [boundary(level) for level in range(depth)]
    opened = b"".join(b'Content-Type: multipart/mixed; boundary="%b"\n\n--%b\n' % (n, n) for n in names)
    closed = b"".join(b"--%b--\n" % n for n in reversed(names))
    return _PERSON + opened + b"Content-Type: text/plain\n\nhello\n" + closed


def embedded(depth: int) -> bytes:
    """A message in a message in a message ..."""
    return _PERSON + b"Content-Type: message/rfc822\n\n" * depth + b"hello\n"


def report(recipients: int, diagnostic: bytes = b"550 5.1.1 no") -> bytes:
    """A delivery report about so many; `%d` in the diagnostic is each one's number."""
    group = b"Final-Recipient: rfc822; u%d@d.example\nAction: failed\nStatus: 5.1.1\nDiagnostic-Code: smtp; "
    group += diagnostic.replace(b"%d", b"%%d") + b"\n\n"
    return daemon(
        b"--b\n\nfailed\n--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; m.example\n\n"
        + b"".join((group % i).replace(b"%d", b"%d" % i) for i in range(recipients))
        + b"--b--\n",
        b'Content-Type: multipart/report; report-type=delivery-status; boundary="b"',
    )


def prose(recipients: int) -> bytes:
    """A notice in words about so many."""
    lines = b"".join(b"<u%d@d.example>: host mx said: 550 5.1.1 unknown user\n\n" % i for i in range(recipients))
    return daemon(b"This is the mail system at host m.example.\n\n" + lines)


def many_in_to(recipients: int) -> bytes:
    """A header field that names so many."""
    people = b",\n ".join(b"u%d@d.example" % i for i in range(recipients))
    return b"From: MAILER-DAEMON@b.example\nTo: " + people + b"\n\nfailed delivery <x@y.example>\n"


def broken_from(pieces: int) -> bytes:
    """A From of so many beginnings of addresses, none of which is one."""
    return b"From: " + b"<a@" * pieces + b"\n\nhello\n"


def random_bytes(size: int) -> bytes:
    """The same bytes each time."""
    return random.Random(7).randbytes(size)


_BASE64 = b"Content-Transfer-Encoding: base64"
_HTML = b"Content-Type: text/html"
_MULTIPART = b'Content-Type: multipart/mixed; boundary="b"'

CASES: dict[str, Callable[[], bytes]] = {
    "10 MB of text": lambda: person(b"The quick brown fox said: 550 no. " * (10 * MB // 34)),
    "10 MB from a mail system": lambda: daemon(b"could not be delivered x@y.example 550 5.1.1 \n" * (10 * MB // 46)),
    "one line of 10 MB": lambda: daemon(b"a" * (10 * MB)),
    "one line of at signs": lambda: daemon(b"a@" * MB),
    "one line of dots": lambda: daemon(b"a.b-" * MB),
    "only line ends": lambda: daemon(b"\n" * (10 * MB)),
    "only carriage returns": lambda: _DAEMON + b"\r" * (10 * MB),
    "spaces": lambda: daemon(b" " * (10 * MB)),
    "nested 200 deep": lambda: nested(200, lambda i: b"b%d" % i),
    "nested 200 deep, one boundary": lambda: nested(200, lambda _: b"same"),
    "nested 200 deep, each a prefix of the next": lambda: nested(200, lambda i: b"b" * (i + 1)),
    "nested 200 deep, each a prefix of the last": lambda: nested(200, lambda i: b"b" * (200 - i)),
    "embedded 5,000 deep": lambda: embedded(5000),
    "1 MB in one header": lambda: person(b"hello\n", b"X-Long: " + b"x" * MB),
    "1 MB of From": lambda: broken_from(MB // 3),
    "1 MB of Content-Type": lambda: person(b"hello\n", b"Content-Type: text/plain" + b"; a=b" * (MB // 5)),
    "120 KB of semicolons, and a raw byte": lambda: mailer(b'a="' + b";" * 120_000 + b'"', b"\xe4\n"),
    "a line of addresses for flufl.bounce": lambda: mailer(b"a=b", b",a@" * 40_000 + b"\n"),
    "a line of spaces from Yale": lambda: mailer(b"a=b", b" " * 120_000 + b"x\n", host=b"yale.edu"),
    "17,500 parts, and a raw byte": lambda: mailer(b'boundary="b"', b"\xe4\n--b\n\n" * 17_500),
    "1 MB of Content-Type quotes": lambda: person(b"hello\n", b'Content-Type: text/plain; a="' + b"\\" * MB),
    "100,000 header lines": lambda: b"X-A: 1\n" * 100_000 + b"\nhello\n",
    "100,000 folded lines": lambda: b"Subject: x" + b"\n y" * 100_000 + b"\n\nhello\n",
    "100,000 encoded words": lambda: b"Subject: " + b"=?utf-8?q?a=20b?=\n " * 100_000 + b"x\n\nhello\n",
    "100,000 recipients in a report": lambda: report(100_000),
    "100,000 recipients, each refused in words of its own": lambda: report(
        100_000,
        b"550 5.7.1 <u%d@d.example>: Recipient address rejected: user u%d unknown in relay table of mx%d.d.example",
    ),
    "100,000 recipients in prose": lambda: prose(100_000),
    "100,000 addresses in To": lambda: many_in_to(100_000),
    "a million delimiter lines": lambda: person(b"--b\n" * MB, _MULTIPART),
    "a million almost delimiters": lambda: person(b"--bx\n" * MB, _MULTIPART),
    "uuencoded 10 MB": lambda: person(
        b"begin 644 a.bin\n" + (b"M" + b'R"ZC`"#58j' * 6 + b"\n") * (10 * MB // 62) + b"end\n"
    ),
    "many uuencoded openings": lambda: person(b"begin 644 a\n" * 100_000),
    "base64 of 10 MB": lambda: person(base64.encodebytes(random_bytes(7 * MB)), _BASE64),
    "base64 of a report": lambda: person(base64.encodebytes(report(20_000)), b"Content-Type: message/rfc822", _BASE64),
    "quoted-printable of 10 MB": lambda: person(
        b"=C3=A4=\n" * (10 * MB // 8), b"Content-Transfer-Encoding: quoted-printable"
    ),
    "10 MB of random bytes": lambda: random_bytes(10 * MB),
    "random bytes like a zip": lambda: person(
        b"PK\x03\x04" + random_bytes(5 * MB), b"Content-Type: application/zip; name=a.zip"
    ),
    "deep HTML": lambda: daemon(b"<div>" * MB + b"failed a@b.example", _HTML),
    "a tag without end": lambda: daemon(b"<" + b"a" * MB, _HTML),
    "a tag of slashes": lambda: daemon(b"<a" + b"/" * MB + b" b" * MB, _HTML),
    "open tags": lambda: daemon(b"<a " * MB, _HTML),
    "open comments": lambda: daemon(b"<!--" * MB, _HTML),
    "an entity of a million digits": lambda: daemon(b"could not be delivered &#" + b"9" * MB + b";", _HTML),
    "HTML entities": lambda: daemon(b"&amp;&#64;&notit;" * (MB // 4), _HTML),
    "quote marks": lambda: person(b"> " * (2 * MB)),
    "JSON brackets": lambda: b'From: no-reply@sns.amazonaws.com\n\n{"notificationType":' + b"[" * MB,
    "delivery-status fields without end": lambda: daemon(
        b"Final-Recipient: rfc822; a@b.example\n" + b"X-A: b\n c\n" * 300_000,
        b"Content-Type: message/delivery-status",
    ),
    "punycode charset": lambda: person(b"a-" * MB, b"Content-Type: text/plain; charset=punycode"),
    "utf-7": lambda: person(b"+2AD-" * (MB // 4), b"Content-Type: text/plain; charset=utf-7"),
    "no body": lambda: _PERSON,
    "nothing": lambda: b"",
    "one byte": lambda: b"\r",
}
