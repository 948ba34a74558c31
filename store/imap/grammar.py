"""The commands of RFC 3501 and of our extensions as frozen data, and `parse`, which reads one from its bytes.

`parse` raises ImapSyntaxError for whatever is not in the grammar, and nothing else. SEARCH keys: `search_keys.py`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass

from store.imap.names import decode_name
from store.imap.scanner import ImapSyntaxError, Scanner, SequenceSet
from store.imap.search_keys import Search, parse_search
from store.imap.structure import Section

_PATH_LIMIT = 64
_KEYWORD_LIMIT_BYTES = 100
_ITEMS_LIMIT = 100  # of one FETCH, flags of one STORE
_STATUS_ITEMS = ("MESSAGES", "RECENT", "UIDNEXT", "UIDVALIDITY", "UNSEEN")
_MACROS = {
    "ALL": ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE"),
    "FAST": ("FLAGS", "INTERNALDATE", "RFC822.SIZE"),
    "FULL": ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY"),
}
_FETCH_ATTRIBUTES = {
    *("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY", "BODYSTRUCTURE", "UID"),
    *("RFC822", "RFC822.HEADER", "RFC822.TEXT"),
}


@dataclass(frozen=True, slots=True)
class Plain:
    """A command without arguments."""


@dataclass(frozen=True, slots=True)
class Login:
    """LOGIN."""

    user: bytes
    password: bytes


@dataclass(frozen=True, slots=True)
class Authenticate:
    """AUTHENTICATE; `initial` is the decoded initial response (RFC 4959)."""

    mechanism: str
    initial: bytes | None


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A command about one mailbox: SELECT, EXAMINE, SUBSCRIBE, CREATE and their like."""

    name: str


@dataclass(frozen=True, slots=True)
class Rename:
    """RENAME."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class List:
    """LIST and LSUB. `reference` and `pattern` are decoded names."""

    reference: str
    pattern: str


@dataclass(frozen=True, slots=True)
class Status:
    """STATUS."""

    name: str
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FetchItem:
    """One thing to fetch: an attribute's name, or BODY with a section and maybe a range (offset, count)."""

    name: str
    section: Section | None = None
    peek: bool = False
    partial: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Fetch:
    """FETCH and UID FETCH."""

    messages: SequenceSet
    items: tuple[FetchItem, ...]


@dataclass(frozen=True, slots=True)
class Store:
    """STORE and UID STORE; `sign` is "", "+" or "-"."""

    messages: SequenceSet
    sign: str
    silent: bool
    flags: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Copy:
    """COPY and MOVE, with UID or without."""

    messages: SequenceSet
    name: str


@dataclass(frozen=True, slots=True)
class Expunge:
    """EXPUNGE, or UID EXPUNGE (RFC 4315) with a set."""

    messages: SequenceSet | None = None


Arguments = Plain | Login | Authenticate | Mailbox | Rename | List | Status | Fetch | Store | Copy | Expunge | Search


@dataclass(frozen=True, slots=True)
class Command:
    """One command: `uid` where its numbers, and those of its answer, are UIDs."""

    tag: bytes
    name: str
    arguments: Arguments
    uid: bool = False


def tag_of(data: bytes) -> bytes:
    """The tag under which to refuse a command that cannot be parsed; `*` where there is none."""
    try:
        scanner = Scanner(data)
        tag = scanner.tag()
    except ImapSyntaxError:
        return b"*"
    return tag if scanner.peek(b" ") or scanner.at_end else b"*"


def parse(data: bytes) -> Command:
    """Read one command, as `framing` gives it. Raises ImapSyntaxError."""
    scanner = Scanner(data)
    tag = scanner.tag()
    scanner.space()
    name = scanner.word()
    uid = name == "UID"
    if uid:
        scanner.space()
        name = scanner.word()
        if name not in _WITH_UID:
            raise ImapSyntaxError("unknown UID command")
    reader = _READERS.get(name)
    if reader is None:
        raise ImapSyntaxError("unknown command")
    arguments = _uid_expunge(scanner) if uid and name == "EXPUNGE" else reader(scanner)
    scanner.end()
    return Command(tag, name, arguments, uid)


def _plain(_: Scanner) -> Plain:
    return Plain()


def _identity(s: Scanner) -> Plain:
    """ID (RFC 2971): the client's parameters are read and forgotten."""
    s.space()
    if s.accept(b"("):
        while not s.accept(b")"):
            s.string()
            s.space()
            s.nstring()
            s.accept(b" ")
    else:
        s.expect(b"NIL")
    return Plain()


def _login(s: Scanner) -> Login:
    s.space()
    user = s.astring()
    s.space()
    return Login(user, s.astring())


def _authenticate(s: Scanner) -> Authenticate:
    s.space()
    mechanism = s.word()
    if s.at_end:
        return Authenticate(mechanism, None)
    s.space()
    return Authenticate(mechanism, b"" if s.accept(b"=") and s.at_end else decode_base64(s.atom()))


def decode_base64(data: bytes) -> bytes:
    """A SASL response. Raises ImapSyntaxError."""
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error:
        raise ImapSyntaxError("base64 expected") from None


def _name(s: Scanner) -> str:
    s.space()
    name = decode_name(s.astring())
    return "INBOX" if name.upper() == "INBOX" else name


def _mailbox(s: Scanner) -> Mailbox:
    return Mailbox(_name(s))


def _rename(s: Scanner) -> Rename:
    return Rename(_name(s), _name(s))


def _list(s: Scanner) -> List:
    s.space()
    reference = decode_name(s.astring())
    s.space()
    return List(reference, decode_name(s.list_mailbox()))


def _status(s: Scanner) -> Status:
    name = _name(s)
    s.space()
    s.expect(b"(")
    items = []
    while not s.accept(b")"):
        item = s.word()
        if item not in _STATUS_ITEMS:
            raise ImapSyntaxError("unknown STATUS item")
        items.append(item)
        s.accept(b" ")
    if not items:
        raise ImapSyntaxError("a STATUS item expected")
    return Status(name, tuple(items))


def _fetch(s: Scanner) -> Fetch:
    s.space()
    messages = s.sequence_set()
    s.space()
    items: list[FetchItem] = []
    if s.accept(b"("):
        items.append(_fetch_item(s))
        while not s.accept(b")"):
            s.space()
            items.append(_fetch_item(s))
            if len(items) > _ITEMS_LIMIT:
                raise s.error("at most 100 items")
        return Fetch(messages, tuple(items))
    for macro, names in _MACROS.items():
        if s.peek(macro.encode()):
            s.at += len(macro)
            return Fetch(messages, tuple(FetchItem(name) for name in names))
    return Fetch(messages, (_fetch_item(s),))


def _fetch_item(s: Scanner) -> FetchItem:
    for start, peek in ((b"BODY.PEEK[", True), (b"BODY[", False)):
        if s.accept(start):
            section = _section(s)
            return FetchItem("BODY", section, peek, _partial(s))
    start_at = s.at
    name = s.word()
    if name not in _FETCH_ATTRIBUTES:
        s.at = start_at
        raise s.error("FETCH attribute")
    return FetchItem(name)


def _section(s: Scanner) -> Section:
    path: list[int] = []
    text = ""
    while not s.peek(b"]"):
        if not s.peek(b"H") and not s.peek(b"T") and not s.peek(b"M"):
            path.append(s.number())
            if path[-1] == 0 or len(path) > _PATH_LIMIT:
                raise s.error("part number")
            if not s.accept(b"."):
                break
            if s.peek(b"]"):
                raise s.error("part number or section")
            continue
        text = next((t for t in _SECTION_TEXTS if s.accept(t.encode())), "")
        if not text or (text == "MIME" and not path):
            raise s.error("section")
        break
    fields: list[bytes] = []
    if text.startswith("HEADER.FIELDS"):
        s.space()
        s.expect(b"(")
        while not s.accept(b")"):
            fields.append(s.astring())
            s.accept(b" ")
        if not fields:
            raise s.error("field name")
    s.expect(b"]")
    return Section(tuple(path), text, tuple(fields))


_SECTION_TEXTS = ("HEADER.FIELDS.NOT", "HEADER.FIELDS", "HEADER", "TEXT", "MIME")


def _partial(s: Scanner) -> tuple[int, int] | None:
    if not s.accept(b"<"):
        return None
    offset = s.number()
    s.expect(b".")
    count = s.number()
    s.expect(b">")
    if count == 0:
        raise s.error("count above 0")
    return offset, count


def _store(s: Scanner) -> Store:
    s.space()
    messages = s.sequence_set()
    s.space()
    sign = "+" if s.accept(b"+") else "-" if s.accept(b"-") else ""
    s.expect(b"FLAGS")
    silent = s.accept(b".SILENT")
    s.space()
    flags: list[bytes] = []
    if s.accept(b"("):
        while not s.accept(b")"):
            flags.append(_flag(s))
            s.accept(b" ")
    else:
        flags.append(_flag(s))
        while not s.at_end:
            s.space()
            flags.append(_flag(s))
    if len(flags) > _ITEMS_LIMIT:
        raise s.error("at most 100 flags")
    return Store(messages, sign, silent, tuple(flags))


def _flag(s: Scanner) -> bytes:
    prefix = b"\\" if s.accept(b"\\") else b""
    flag = prefix + s.atom()
    if len(flag) > _KEYWORD_LIMIT_BYTES:
        raise s.error("flag of at most 100 bytes")
    return flag


def _copy(s: Scanner) -> Copy:
    s.space()
    return Copy(s.sequence_set(), _name(s))


def _expunge(_: Scanner) -> Expunge:
    return Expunge()


def _uid_expunge(s: Scanner) -> Expunge:
    s.space()
    return Expunge(s.sequence_set())


_WITH_UID = frozenset({"FETCH", "SEARCH", "STORE", "COPY", "MOVE", "EXPUNGE"})
_NO_ARGUMENTS = "CAPABILITY NOOP LOGOUT STARTTLS NAMESPACE CLOSE UNSELECT CHECK IDLE"
_READERS: dict[str, Callable[[Scanner], Arguments]] = {
    **dict.fromkeys(_NO_ARGUMENTS.split(), _plain),
    **dict.fromkeys(("SELECT", "EXAMINE", "SUBSCRIBE", "UNSUBSCRIBE", "CREATE", "DELETE"), _mailbox),
    **dict.fromkeys(("LIST", "LSUB"), _list),
    **dict.fromkeys(("COPY", "MOVE"), _copy),
    "ID": _identity,
    "LOGIN": _login,
    "AUTHENTICATE": _authenticate,
    "RENAME": _rename,
    "STATUS": _status,
    "FETCH": _fetch,
    "STORE": _store,
    "EXPUNGE": _expunge,
    "SEARCH": parse_search,
}
