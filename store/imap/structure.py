"""What FETCH tells about a message's form: ENVELOPE, BODYSTRUCTURE, and the byte ranges of BODY[section].

`describe` is called once, when a message is filed, and its result kept in the index; `section` works on the bytes.
Neither raises on any message. Bounds: `mime.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from store.imap.addresses import Address, parse_addresses
from store.imap.mime import Parameters, Part, field_lines, header_end, parse, split_value
from store.imap.response import astring, nstring, parenthesized, string


@dataclass(frozen=True, slots=True)
class Description:
    """What is kept of a message: the values of ENVELOPE and BODYSTRUCTURE as they go on the wire.

    `header_size` is the length of the top header in bytes, its empty line included.
    """

    envelope: bytes
    bodystructure: bytes
    header_size: int


@dataclass(frozen=True, slots=True)
class Section:
    """What stands between the brackets of BODY[...]: part numbers, then one of the texts of RFC 3501 section 6.4.5.

    `text` is "", HEADER, TEXT, MIME, HEADER.FIELDS or HEADER.FIELDS.NOT; `fields` the names of the latter two,
    as the client wrote them.
    """

    path: tuple[int, ...] = ()
    text: str = ""
    fields: tuple[bytes, ...] = ()

    def __bytes__(self) -> bytes:
        words = [*(b"%d" % n for n in self.path), *([self.text.encode()] if self.text else [])]
        names = b" " + parenthesized(astring(f) for f in self.fields) if self.fields else b""
        return b".".join(words) + names


def describe(shown: bytes) -> Description:
    """Describe a message as IMAP shows it (annotation headers and original)."""
    root = parse(shown)
    return Description(
        envelope=_envelope(root),
        bodystructure=_structure(shown, root, extended=True),
        header_size=root.body,
    )


def body(shown: bytes, root: Part) -> bytes:
    """BODY, which is BODYSTRUCTURE without its extensions; `root` is the tree of `shown`."""
    return _structure(shown, root, extended=False)


def section(shown: bytes, wanted: Section, root: Part | None = None) -> bytes | None:
    """The bytes of a section; None (NIL) where the message has no such part. `root` is the tree, where known."""
    if not wanted.path:
        return _whole_section(shown, wanted)
    part = _find(root or parse(shown), wanted.path)
    if part is None:
        return None
    if not wanted.text:
        return shown[part.body : part.end]
    if wanted.text == "MIME":
        return shown[part.start : part.body]
    if not part.is_message:  # HEADER and TEXT below the top are those of an enclosed message
        return None
    enclosed = part.parts[0]
    return _whole_section(shown[enclosed.start : enclosed.end], wanted)


def _whole_section(message: bytes, wanted: Section) -> bytes:
    """A section of a message as a whole, for which its parts need not be known."""
    if not wanted.text:
        return message
    body_at = header_end(message, 0, len(message))
    if wanted.text == "TEXT":
        return message[body_at:]
    return message[:body_at] if wanted.text == "HEADER" else _some_fields(message[:body_at], wanted)


def _some_fields(header: bytes, wanted: Section) -> bytes:
    names = {name.strip().lower() for name in wanted.fields}
    inverse = wanted.text == "HEADER.FIELDS.NOT"
    chosen = [line.rstrip(b"\r\n") for name, line in field_lines(header) if (name in names) != inverse]
    return b"".join(line + b"\r\n" for line in chosen) + b"\r\n"


def _find(root: Part, path: tuple[int, ...]) -> Part | None:
    """The part with these numbers; part 1 of a message that is no multipart is its body."""
    current = root
    for level, number in enumerate(path):
        holder = current.parts[0] if level and current.is_message else current
        if holder.is_multipart:
            if not 1 <= number <= len(holder.parts):
                return None
            current = holder.parts[number - 1]
        elif number != 1 or (level and holder is current):
            return None
        else:
            current = holder
    return current


def _envelope(part: Part) -> bytes:
    get = part.fields.get
    sender = _addresses(get(b"from"))
    return parenthesized(
        (
            nstring(get(b"date")),
            nstring(get(b"subject")),
            sender,
            _addresses(get(b"sender")) if get(b"sender") else sender,
            _addresses(get(b"reply-to")) if get(b"reply-to") else sender,
            _addresses(get(b"to")),
            _addresses(get(b"cc")),
            _addresses(get(b"bcc")),
            nstring(get(b"in-reply-to")),
            nstring(get(b"message-id")),
        )
    )


def _addresses(value: bytes | None) -> bytes:
    found = parse_addresses(value) if value else []
    return b"(%b)" % b"".join(map(_address, found)) if found else b"NIL"


def _address(a: Address) -> bytes:
    return parenthesized((nstring(a.name), nstring(a.route), nstring(a.mailbox), nstring(a.host)))


def _structure(raw: bytes, part: Part, *, extended: bool) -> bytes:
    if part.is_multipart:
        children = b"".join(_structure(raw, child, extended=extended) for child in part.parts)
        words = [children, string(part.kind[1])]
        if extended:
            words += [_parameters(part.parameters), *_extension(part)]
        return parenthesized(words)
    get = part.fields.get
    encoding = get(b"content-transfer-encoding", b"").split(b";")[0].strip() or b"7bit"
    words = [
        string(part.kind[0]),
        string(part.kind[1]),
        _parameters(part.parameters),
        nstring(get(b"content-id")),
    ]
    words += [nstring(get(b"content-description")), string(encoding), b"%d" % (part.end - part.body)]
    if part.is_message:
        words += [_envelope(part.parts[0]), _structure(raw, part.parts[0], extended=extended)]
    if part.is_message or part.kind[0] == b"text":
        words.append(b"%d" % _lines(raw, part))
    if extended:
        words += [nstring(get(b"content-md5")), *_extension(part)]
    return parenthesized(words)


def _extension(part: Part) -> list[bytes]:
    """Disposition, language and location: what a multipart and a leaf have in common."""
    get = part.fields.get
    disposition = b"NIL"
    if value := get(b"content-disposition"):
        first, parameters = split_value(value)
        disposition = parenthesized((string(first), _parameters(parameters)))
    languages = [string(word.strip()) for word in get(b"content-language", b"").split(b",") if word.strip()]
    return [disposition, parenthesized(languages) if languages else b"NIL", nstring(get(b"content-location"))]


def _parameters(parameters: Parameters) -> bytes:
    return parenthesized(string(word) for pair in parameters for word in pair) if parameters else b"NIL"


def _lines(raw: bytes, part: Part) -> int:
    whole = raw.count(b"\n", part.body, part.end)
    return whole + (1 if part.end > part.body and raw[part.end - 1] != 0x0A else 0)
