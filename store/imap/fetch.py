"""FETCH: the responses for a set of messages, built and sent a bounded piece at a time.

What the columns hold is answered from memory, thousands of messages a piece; envelopes come from the index in
batches, messages from the quarantine one small group after another. The session's client sets the pace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial

import structlog
from sqlalchemy.exc import SQLAlchemyError

from store.imap.columns import SEEN
from store.imap.grammar import Fetch, FetchItem
from store.imap.mime import Part, parse
from store.imap.response import internal_date, literal
from store.imap.roles import FlagChange
from store.imap.selected import Selected
from store.imap.structure import Section, body, section
from store.imap.view import View

log = structlog.get_logger("imap")

_LIGHT = frozenset({"FLAGS", "UID", "INTERNALDATE", "RFC822.SIZE"})
_INDEXED = _LIGHT | {"ENVELOPE", "BODYSTRUCTURE"}
_LIGHT_CHUNK, _INDEXED_CHUNK, _WHOLE_CHUNK = 2_000, 200, 64
_WHOLE_CHUNK_BYTES = 1_000_000  # of messages in memory at once, unless one alone is larger
_LARGE_BYTES = 100_000  # messages from here on are taken apart in a thread, and sent a value at a time
_SECTIONS = {
    "RFC822": FetchItem("RFC822", Section()),
    "RFC822.HEADER": FetchItem("RFC822.HEADER", Section((), "HEADER"), peek=True),
    "RFC822.TEXT": FetchItem("RFC822.TEXT", Section((), "TEXT")),
}


async def run(s: Selected, request: Fetch, *, uid: bool) -> bytes:
    """Send all responses of one FETCH; gives its tagged reply."""
    view = s.view
    items = list(dict.fromkeys(_SECTIONS.get(item.name, item) for item in request.items))
    if uid and not any(item.name == "UID" for item in items):
        items.insert(0, FetchItem("UID"))
    names = {item.name for item in items}
    marks = any(item.section is not None and not item.peek for item in items) and not view.read_only
    missing: list[int] = []
    for indices in _chunks(view, view.resolve(request.messages, uid=uid), names):
        present, positions = view.present(indices)
        if len(present) < len(indices):
            missing += set(indices).difference(present)
        if names <= _LIGHT:
            await s.out.send(_light(view, items, present, positions))
        else:
            missing += await _heavy(s, view, items, list(zip(present, positions, strict=True)), names, marks=marks)
    if not missing:
        return b"OK done"
    await s.backend.refresh(view.columns)
    if any(view.position(index) >= 0 for index in missing):
        return b"NO [UNAVAILABLE] some of the messages cannot be read"
    return b"OK [EXPUNGEISSUED] some of the messages have gone"


def _chunks(view: View, spans: Sequence[range], names: set[str]) -> Iterator[Sequence[int]]:
    """The indices in pieces that fit what must be read for each."""
    if names <= _INDEXED:
        size = _LIGHT_CHUNK if names <= _LIGHT else _INDEXED_CHUNK
        for span in spans:
            for start in range(span.start, span.stop, size):
                yield range(start, min(start + size, span.stop))
        return
    chunk: list[int] = []
    held = 0
    for index in (i for span in spans for i in span):
        position = view.position(index)
        size_bytes = view.columns.sizes[position] if position >= 0 else 0
        if chunk and (len(chunk) == _WHOLE_CHUNK or held + size_bytes > _WHOLE_CHUNK_BYTES):
            yield chunk
            chunk, held = [], 0
        chunk.append(index)
        held += size_bytes
    if chunk:
        yield chunk


def _light(view: View, items: Sequence[FetchItem], indices: Sequence[int], positions: Sequence[int]) -> bytes:
    """Responses from memory alone, column by column: this is what a client asks of all messages."""
    numbers = [b"* %d FETCH (" % (index + 1) for index in indices]
    columns = [_COLUMN_VALUES[item.name](view, positions) for item in items]
    rows = map(b" ".join, zip(*columns, strict=True))
    return b"".join([number + row + b")\r\n" for number, row in zip(numbers, rows, strict=True)])


def _flags(view: View, positions: Sequence[int]) -> list[bytes]:
    return [b"FLAGS " + flags for flags in view.flags_of_many(positions)]


def _uids(view: View, positions: Sequence[int]) -> list[bytes]:
    uids = view.columns.uids
    return [b"UID %d" % uids[p] for p in positions]


def _sizes(view: View, positions: Sequence[int]) -> list[bytes]:
    sizes = view.columns.sizes
    return [b"RFC822.SIZE %d" % sizes[p] for p in positions]


def _dates(view: View, positions: Sequence[int]) -> list[bytes]:
    received_s = view.columns.received_s
    return [b"INTERNALDATE " + internal_date(received_s[p]) for p in positions]


_COLUMN_VALUES: dict[str, Callable[[View, Sequence[int]], list[bytes]]] = {
    "UID": _uids,
    "FLAGS": _flags,
    "INTERNALDATE": _dates,
    "RFC822.SIZE": _sizes,
}


async def _heavy(
    s: Selected,
    view: View,
    items: Sequence[FetchItem],
    present: Sequence[tuple[int, int]],
    names: set[str],
    *,
    marks: bool,
) -> list[int]:
    """Responses that need the index or the messages; gives the indices of those that are not to be had."""
    columns = view.columns
    uids = [columns.uids[p] for _, p in present]
    envelopes: Mapping[int, tuple[bytes, bytes]] = {}
    texts: Mapping[int, bytes] = {}
    if names & {"ENVELOPE", "BODYSTRUCTURE"}:
        envelopes = await s.backend.envelopes(columns, uids)
    if not names <= _INDEXED:
        texts = await s.backend.texts(columns, uids)
    flagged = set(uids if "FLAGS" in names else ())
    if marks:
        bits = columns.accounts[view.account].bits
        unseen = [uid for uid in uids if (p := columns.position(uid)) >= 0 and not bits[p] & SEEN]
        if unseen:
            await _mark_seen(s, unseen)
            flagged.update(unseen)
    missing: list[int] = []
    for (index, _), uid in zip(present, uids, strict=True):
        position = columns.position(uid)
        absent = (not names <= _INDEXED and uid not in texts) or (
            bool(names & {"ENVELOPE", "BODYSTRUCTURE"}) and uid not in envelopes
        )
        if position < 0 or absent:
            missing.append(index)
            continue
        wanted = [*items, FetchItem("FLAGS")] if uid in flagged and "FLAGS" not in names else items
        shown = Shown(texts.get(uid, b""))
        pieces = [b"* %d FETCH (" % (index + 1)]
        for number, item in enumerate(wanted):
            if len(shown.raw) < _LARGE_BYTES:
                value = _value(view, item, position, envelopes.get(uid), shown)
            else:
                await s.out.send(b"".join(pieces))  # or many parts of one message would stand in memory at once
                pieces.clear()
                work = partial(_value, view, item, position, envelopes.get(uid), shown)
                value = await s.backend.run(work)
            pieces += (b" ", value) if number else (value,)
        await s.out.send(b"".join((*pieces, b")\r\n")))
    if flagged:
        await s.tell(expunge=False, uid="UID" in names, told=flagged)
    return missing


async def _mark_seen(s: Selected, uids: Sequence[int]) -> None:
    r"""Set `\Seen`; where the index cannot be written (a full disk) there is still mail to be read."""
    try:
        await s.backend.store(s.view.columns, s.view.account, uids, FlagChange(set_bits=SEEN))
    except SQLAlchemyError as error:
        log.warning("seen_not_kept", error=type(error).__name__)


class Shown:
    """A message's bytes, and its tree once it is asked for."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    @cached_property
    def tree(self) -> Part:
        """The MIME tree."""
        return parse(self.raw)


def _value(view: View, item: FetchItem, position: int, described: tuple[bytes, bytes] | None, shown: Shown) -> bytes:
    """One item's name and value."""
    name = item.name.encode()
    if item.section is not None:
        return _section(item, shown)
    if item.name in _COLUMN_VALUES:
        return _COLUMN_VALUES[item.name](view, (position,))[0]
    if item.name == "BODY":
        return b"BODY " + body(shown.raw, shown.tree)
    assert described is not None
    return name + b" " + described[0 if item.name == "ENVELOPE" else 1]


def _section(item: FetchItem, shown: Shown) -> bytes:
    """A section's bytes under the name that the client asked for (RFC 3501 section 7.4.2)."""
    assert item.section is not None
    label = item.name.encode() if item.name.startswith("RFC822") else b"BODY[%b]" % bytes(item.section)
    data = section(shown.raw, item.section, shown.tree if item.section.path else None)
    if item.partial is not None:
        offset, count = item.partial
        label += b"<%d>" % offset
        data = None if data is None else data[offset : offset + count]
    return label + b" " + (b"NIL" if data is None else literal(data))
