"""What a session does to, or finds in, its selected mailbox: SEARCH, STORE, COPY, MOVE, EXPUNGE.

Each function sends its untagged responses and gives the tagged reply. Roles are checked here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from classifier.mime.encodings import codec
from store.imap.grammar import Copy, Expunge, Store
from store.imap.response import uid_set
from store.imap.roles import flag_change
from store.imap.search import BadCharset, Snapshot, decode, matches
from store.imap.search_keys import Search
from store.imap.selected import Selected
from store.imap.view import View

_CHUNK = 2_000
COPY_LIMIT = 20_000  # the index is locked for a second or two
_READ_ONLY = b"NO [READ-ONLY] the mailbox was opened with EXAMINE"
_NOT_ALLOWED = b"NO [NOPERM] not allowed for this account"


async def search(s: Selected, request: Search, tag: bytes, *, uid: bool) -> bytes:
    """SEARCH, with the RESULT options of RFC 4731."""
    view = s.view
    charset = codec(request.charset)
    if charset is None:
        raise BadCharset(request.charset)
    snapshot = Snapshot.of(view)
    work = matches(decode(request.key, charset), snapshot, s.backend.source(view.columns))
    positions = await s.backend.finish(work)
    if uid:
        numbers: Sequence[int] = [snapshot.uids[p] for p in positions]
    elif snapshot.view_uids is snapshot.uids:
        numbers = [p + 1 for p in positions]
    else:
        numbers = [view.index(snapshot.uids[p]) + 1 for p in positions]
    if request.returns is None:
        await s.out.send(b"* SEARCH")
        for start in range(0, len(numbers), _CHUNK):
            await s.out.send(b"".join([b" %d" % n for n in numbers[start : start + _CHUNK]]))
        await s.out.send(b"\r\n")
    else:
        words = b"".join(_results(request.returns, numbers))
        await s.out.send(b'* ESEARCH (TAG "%b")%b%b\r\n' % (tag, b" UID" if uid else b"", words))
    return b"OK done"


def _results(returns: Sequence[str], numbers: Sequence[int]) -> Iterator[bytes]:
    if "COUNT" in returns:
        yield b" COUNT %d" % len(numbers)
    if numbers and "MIN" in returns:
        yield b" MIN %d" % numbers[0]
    if numbers and "MAX" in returns:
        yield b" MAX %d" % numbers[-1]
    if numbers and "ALL" in returns:
        yield b" ALL " + uid_set(numbers)


def _uids(view: View, request: Store | Copy, *, uid: bool) -> list[int]:
    """The UIDs that a command names, less those that have gone."""
    indices = (i for span in view.resolve(request.messages, uid=uid) for i in span)
    return [view.uids[i] for i in indices if view.position(i) >= 0]


async def store(s: Selected, request: Store, *, uid: bool) -> bytes:
    """STORE: what the role does not allow is left alone; PERMANENTFLAGS said so."""
    view = s.view
    if view.read_only:
        return _READ_ONLY
    change = flag_change(s.role, request.sign, request.flags)
    if change is None:
        return _NOT_ALLOWED
    uids = _uids(view, request, uid=uid)
    for start in range(0, len(uids), _CHUNK):
        chunk = uids[start : start + _CHUNK]
        await s.backend.store(view.columns, view.account, chunk, change)
        if not request.silent:
            await s.out.send(b"".join(_flag_lines(view, chunk, uid=uid)))
        await s.tell(expunge=False, uid=uid, told=chunk)
    return b"OK done"


def _flag_lines(view: View, uids: Sequence[int], *, uid: bool) -> Iterator[bytes]:
    for one in uids:
        position = view.columns.position(one)
        if position >= 0:
            prefix = b"UID %d " % one if uid else b""
            yield b"* %d FETCH (%bFLAGS %b)\r\n" % (view.index(one) + 1, prefix, view.flags(position))


async def copy(s: Selected, request: Copy, *, uid: bool, move: bool) -> bytes:
    """COPY and MOVE (RFC 6851), with COPYUID (RFC 4315).

    COPY does all or nothing (RFC 3501 section 6.4.7), so its size is bounded; MOVE goes on in pieces.
    """
    view = s.view
    if not s.role.shared:
        return _NOT_ALLOWED
    if move and view.read_only:
        return _READ_ONLY
    if request.name not in await s.backend.names():
        return b"NO [NONEXISTENT] no such mailbox, and none can be created"
    uids = _uids(view, request, uid=uid)
    if not uids:
        return b"OK nothing to do"
    if len(uids) > COPY_LIMIT and not move:
        return b"NO [LIMIT] copy at most %d messages at a time" % COPY_LIMIT
    pairs: list[tuple[int, int]] = []
    size = _CHUNK if move else COPY_LIMIT
    for start in range(0, len(uids), size):
        chunk = uids[start : start + size]
        uidvalidity, some = await s.backend.copy(view.columns, view.account, chunk, request.name, move=move)
        pairs += some
    if not pairs:
        return b"NO [EXPUNGEISSUED] the messages have gone"
    sets = uid_set([old for old, _ in pairs]), uid_set([new for _, new in pairs])
    code = b"[COPYUID %d %b %b]" % (uidvalidity, *sets)
    if not move:
        return b"OK %b copied" % code
    await s.out.send(b"* OK %b moved\r\n" % code)
    await s.tell(expunge=True, uid=uid)
    return b"OK moved"


async def expunge(s: Selected, request: Expunge) -> bytes:
    r"""EXPUNGE of what this account marked as deleted; what is `\Flagged` only if the role allows it."""
    view = s.view
    if view.read_only:
        return _READ_ONLY
    if not s.role.shared:
        return _NOT_ALLOWED
    only = None
    if request.messages is not None:
        only = [view.uids[i] for span in view.resolve(request.messages, uid=True) for i in span]
    kept = await s.backend.expunge(view.columns, view.account, only, held=s.role.expunge_held)
    await s.tell(expunge=True)
    return b"OK %d kept: flagged messages are held" % kept if kept else b"OK done"
