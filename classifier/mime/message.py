"""The message as a tree of parts, read tolerantly over bytes and within bounds. `parse` never raises.

Line ends are made LF first, so that CRLF, LF and bare CR give the same tree; offsets are into `Message.data`
and `Message.raw_offset` maps them back. Depth 32, 1,000 parts, 1 MB of headers a part, 256 KB of text a part.
Part paths are IMAP's (RFC 3501 section 6.4.5): a lone part is "1", a message inside part 2 has parts "2.1"...
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from classifier.mime import encodings, html
from classifier.mime.headers import Headers, mailbox, parameters, split

MAX_DEPTH = 32
MAX_PARTS = 1000
MAX_DELIMITERS = 10_000  # lines of one multipart that are delimiters, or nearly
MAX_TEXT_BYTES = 256 * 1024
MAX_DECODED_BYTES = 4 << 20
OPENING_BYTES = 4096

EMBEDDED = frozenset({"message/rfc822", "message/global", "message/news", "message/x-rfc822"})
HEADERS_ONLY = frozenset({"text/rfc822-headers", "message/global-headers", "message/rfc822-headers"})
_SNIFFED = re.compile(rb"(?:\A|\n)--([^\n]{1,200}?)[ \t]*\nContent-[A-Za-z-]{1,40}:", re.IGNORECASE)
_BOM = b"\xef\xbb\xbf"  # what some editors put before a saved message
_UU_BEGIN = re.compile(r"^begin [0-7]{3,4} \S.*$", re.MULTILINE)


class _Place(NamedTuple):
    """`top`: the outermost part of a message; `real`: its bytes stand in the raw message as they are."""

    top: bool
    real: bool


class Part:
    """One node of the tree. `offset` is where its headers begin in its buffer, -1 inside a decoded part.

    What is below it is read when `children` is first asked for: most verdicts need no returned original.
    """

    def __init__(self, tree: _Tree, data: bytes, span: tuple[int, int], number: str, depth: int, kind: _Place) -> None:
        self._tree = tree
        self._data = data
        self._end = span[1]
        self._number = number
        self._depth = depth
        self._place = kind
        self._children: list[Part] | None = None
        self._disposition: tuple[str, dict[str, str]] | None = None
        self._text: str | None = None
        self.headers, self._body_at, defects = split(data, *span)
        tree.parts += 1
        if defects:
            tree.defects.extend(defects)
        self.offset = span[0] if kind.real else -1
        self.body_offset = self._body_at if kind.real else -1
        declared = self.headers.get("content-type")
        self.content_type, self.params = parameters(declared) if declared else ("text/plain", {})
        if "/" not in self.content_type:
            self.content_type = "text/plain" if self.content_type in ("", "text") else self.content_type + "/x"

    @property
    def children(self) -> list[Part]:
        """The parts below, in order; an embedded message is its part's only child."""
        if self._children is None:
            self._children = self._tree.below(self)
        return self._children

    @property
    def path(self) -> str:
        """Where the part stands, as IMAP numbers it; a lone part of a message is its "1"."""
        if self._place.top and (self.content_type in EMBEDDED or not self.children):
            return f"{self._number}.1" if self._number else "1"
        return self._number

    @property
    def body(self) -> bytes:
        """The body's bytes as they stand, transfer encoding included (line ends are LF)."""
        return self._data[self._body_at : self._end]

    @property
    def size(self) -> int:
        """Length of the body in bytes, as it stands."""
        return self._end - self._body_at

    @property
    def encoding(self) -> str:
        """The transfer encoding, lower-cased; "" where none is declared."""
        value = self.headers.get("content-transfer-encoding") or ""
        return value.partition(";")[0].partition("(")[0].strip().strip('"').lower()

    @property
    def disposition(self) -> str:
        """`inline`, `attachment` or another word, lower-cased; "" where none is declared."""
        return self._disposed()[0]

    @property
    def filename(self) -> str | None:
        """The file name from Content-Disposition or Content-Type, None without one."""
        return self._disposed()[1].get("filename") or self.params.get("name")

    def _disposed(self) -> tuple[str, dict[str, str]]:
        if self._disposition is None:
            self._disposition = parameters(self.headers.get("content-disposition") or "")
        return self._disposition

    def decoded(self, limit: int = MAX_DECODED_BYTES) -> bytes:
        """The body without its transfer encoding, LF line ends, at most `limit` bytes."""
        data = self._data[self._body_at : min(self._end, self._body_at + limit * 3)]
        encoding = self.encoding
        data = encodings.from_transfer(data, encoding, limit)
        return data if encoding in ("", "7bit", "8bit", "binary") else _lf(data)

    @property
    def text(self) -> str:
        """The body as a person reads it: decoded, HTML stripped, uuencoded blocks cut, at most 256 KB."""
        if self._text is None:
            self._text = self._read()
        return self._text

    def _read(self) -> str:
        data = self.decoded(MAX_TEXT_BYTES)
        text = encodings.decode(data, self.params.get("charset"))
        if self.content_type == "text/html" or (
            self.content_type == "text/plain" and text[:200].lstrip().lower().startswith(("<html", "<!doctype html"))
        ):
            return html.to_text(text)
        return _without_uuencode(text) if "begin " in text else text

    def walk(self) -> Iterator[Part]:
        """Yield this part and all below it, in the order in which they stand."""
        stack = [self]
        while stack:
            part = stack.pop()
            yield part
            stack.extend(reversed(part.children))


class Message:
    """A parsed message. `data` is `raw` with LF line ends."""

    def __init__(self, raw: bytes, data: bytes, root: Part, tree: _Tree) -> None:
        self.raw = raw
        self.data = data
        self.root = root
        self.headers: Headers = root.headers
        self._tree = tree
        self._mapped = (0, 0)  # an offset into `data` and the one into `raw` that it stands for
        self._from: tuple[str, str] | None = None
        self._texts: tuple[list[str], bool] | None = None
        self._text: str | None = None
        self._opening: str | None = None

    @property
    def defects(self) -> list[str]:
        """What was out of order in the parts read so far."""
        return self._tree.defects

    @property
    def truncated(self) -> bool:
        """A bound was hit in the parts read so far."""
        return self._tree.truncated

    def walk(self) -> Iterator[Part]:
        """Yield all parts, the root first, in the order in which they stand."""
        return self.root.walk()

    @property
    def is_plain(self) -> bool:
        """The message says that it is one text and no more."""
        return "content-type" in self.headers and self.root.content_type.startswith("text/")

    @property
    def subject(self) -> str:
        """The decoded subject, "" without one."""
        return self.headers.get("subject") or ""

    @property
    def from_address(self) -> str:
        """The address in From, "" without one."""
        return self._author()[1]

    @property
    def from_name(self) -> str:
        """The display name in From, "" without one."""
        return self._author()[0]

    def _author(self) -> tuple[str, str]:
        if self._from is None:
            self._from = mailbox(self.headers.get("from") or "")
        return self._from

    @property
    def text(self) -> str:
        """What a person reads before any returned original: the first text parts, at most 256 KB."""
        if self._text is None:
            self._text = "\n".join(self._read()[0])[:MAX_TEXT_BYTES]
        return self._text

    @property
    def html_only(self) -> bool:
        """All of `text` came from HTML."""
        return self._read()[1]

    def _read(self) -> tuple[list[str], bool]:
        if self._texts is None:
            self._texts = _readable(self.root)
        return self._texts

    @property
    def opening(self) -> str:
        """The first few KB of the first text part, markup and all: enough to tell data from words, at little cost."""
        if self._opening is None:
            self._opening = _opening(self.root)
        return self._opening

    def raw_offset(self, offset: int) -> int:
        """Map an offset into `data` to one into `raw`; -1 stays -1."""
        if offset < 0 or len(self.raw) == len(self.data):
            return offset
        known, known_raw = self._mapped if self._mapped[0] <= offset else (0, 0)
        guess = known_raw + (offset - known) + self.data.count(b"\n", known, offset)
        if guess <= len(self.raw) and guess - known_raw - _shrink(self.raw, known_raw, guess) == offset - known:
            self._mapped = (offset, guess)
            return guess
        low, high = offset, len(self.raw)
        while low < high:
            middle = (low + high) // 2
            if middle - _shrink(self.raw, 0, middle) < offset:
                low = middle + 1
            else:
                high = middle
        return low


def _shrink(raw: bytes, start: int, end: int) -> int:
    doubled = raw.count(b"\r\r\n", start, end)
    return raw.count(b"\r\n", start, end) + doubled


def _lf(data: bytes) -> bytes:
    if b"\r" not in data:
        return data
    plain = data.replace(b"\r\n", b"\n")
    if b"\r" not in plain:
        return plain
    del plain  # as long as the message
    # Some systems double the carriage returns, others leave out the line feed.
    return data.replace(b"\r\r\n", b"\n").replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _without_uuencode(text: str) -> str:
    kept, done = [], 0
    for begin in _UU_BEGIN.finditer(text):
        if begin.start() < done:
            continue
        kept.append(text[done : begin.start()])
        end = text.find("\nend", begin.end())
        done = len(text) if end < 0 else end + 4
    kept.append(text[done:])
    return "".join(kept)


def _opening(root: Part) -> str:
    for part in root.walk():
        if not part.children and part.content_type.startswith(("text/", "multipart/")):
            opening = encodings.decode(part.decoded(OPENING_BYTES), part.params.get("charset"))
            if opening.strip():
                return opening
    return ""


def _readable(root: Part) -> tuple[list[str], bool]:
    """Collect the inline text parts before the first embedded message; of alternatives the plain one."""
    texts: list[str] = []
    total, only_html, hidden = 0, True, False
    stack = [root]
    while stack and total < MAX_TEXT_BYTES:
        part = stack.pop()
        kind = part.content_type
        if kind in EMBEDDED or kind in HEADERS_ONLY:
            hidden = True
            continue
        if part.children:
            children = part.children
            if kind == "multipart/alternative":
                plain = [c for c in children if c.content_type == "text/plain" and c.text.strip()]
                children = plain[:1] or children
            stack.extend(reversed(children))
            continue
        if not kind.startswith(("text/", "multipart/")) or (hidden and texts):
            continue
        if part.disposition == "attachment" or (part.filename and part is not root and texts):
            continue
        if kind == "text/html" and texts and not only_html:
            continue  # the HTML twin of a text already taken
        text = part.text
        if text.strip():
            texts.append(text)
            total += len(text)
            only_html = only_html and kind == "text/html"
    return texts, bool(texts) and only_html


class _Tree:
    """What all parts of a message share: the bounds used up so far, and the defects seen."""

    def __init__(self) -> None:
        self.parts = 0
        self.truncated = False
        self.defects: list[str] = []

    def below(self, part: Part) -> list[Part]:
        """Read the parts right below one."""
        kind = part.content_type
        if part._depth >= MAX_DEPTH or self.parts >= MAX_PARTS:
            self.truncated = self.truncated or kind.startswith(("multipart/", "message/"))
            return []
        if kind.startswith("multipart/"):
            return self._multipart(part)
        if kind in EMBEDDED:
            real, data, span = part._place.real, part._data, (part._body_at, part._end)
            if part.encoding in ("base64", "quoted-printable"):
                inner = part.decoded()
                # Some label an embedded message quoted-printable or base64 and put it there plain.
                if b":" in inner[:200]:
                    real, data, span = False, inner, (0, len(inner))
            return [Part(self, data, span, part.path, part._depth + 1, _Place(top=True, real=real))]
        if "content-type" not in part.headers and part._data.startswith(b"--", part._body_at):
            return self._multipart(part)
        return []

    def _multipart(self, part: Part) -> list[Part]:
        data, start, end = part._data, part._body_at, part._end
        boundary = part.params.get("boundary", "").rstrip().encode("utf-8", "replace")
        room = MAX_PARTS - self.parts
        spans = _spans(data, start, end, boundary, room) if boundary else []
        if not spans:
            sniffed = _SNIFFED.search(data, start, min(end, start + 20_000))
            if sniffed:
                spans = _spans(data, start, end, sniffed.group(1), room)
            if part.content_type.startswith("multipart/"):
                self.defects.append("boundary-not-found")
        self.truncated = self.truncated or len(spans) >= room
        place = _Place(top=False, real=part._place.real)
        digest = part.content_type == "multipart/digest"
        children = []
        for number, span in enumerate(spans, 1):
            path = f"{part._number}.{number}" if part._number else str(number)
            child = Part(self, data, span, path, part._depth + 1, place)
            if digest and "content-type" not in child.headers:
                child.content_type = "message/rfc822"
            children.append(child)
        return children


def _spans(data: bytes, start: int, end: int, boundary: bytes, limit: int) -> list[tuple[int, int]]:
    """Find the parts between the delimiter lines of `boundary`; a missing close ends with the buffer."""
    mark = b"--" + boundary
    spans: list[tuple[int, int]] = []
    begin = -1
    at = start if data.startswith(mark, start) else data.find(b"\n" + mark, start, end) + 1
    for _ in range(MAX_DELIMITERS):
        if not start <= at < end or not (at > start or data.startswith(mark, at)):
            break
        line_end = data.find(b"\n", at, end)
        rest = data[at + len(mark) : end if line_end < 0 else min(line_end, at + len(mark) + 200)].strip()
        if rest in (b"", b"--"):
            if begin >= 0:
                spans.append((begin, max(at - 1, begin)))
            begin = -1 if rest or line_end < 0 else line_end + 1
            if rest or line_end < 0 or len(spans) >= limit:
                break
        following = data.find(b"\n" + mark, at + len(mark), end)
        if following < 0:
            break
        at = following + 1
    if begin >= 0 and begin < end and len(spans) < limit:
        spans.append((begin, end))
    return spans


def parse(raw: bytes) -> Message:
    """Read a message. Never raises; whatever is out of order is read as far as it makes sense."""
    data = _lf(raw)
    tree = _Tree()
    if data.startswith(_BOM):
        data = b"\n" * len(_BOM) + data[len(_BOM) :]  # blank lines are passed over, and offsets stay
    root = Part(tree, data, (0, len(data)), "", 0, _Place(top=True, real=True))
    return Message(raw, data, root, tree)
