"""One connection's state machine: what a client may do when, and what it is told (RFC 3501 section 3).

A session takes commands from `connection.py` one at a time and writes through `Output`; it knows no socket. The
work on the selected mailbox (`selected.py`) is in `fetch.py` and `actions.py`. Whatever a command meets ends as one
tagged reply.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from sqlalchemy.exc import SQLAlchemyError

from store.errors import NoFolder, NotAllowed
from store.imap import actions, fetch
from store.imap.backend import Backend
from store.imap.grammar import (
    Authenticate,
    Command,
    Copy,
    Expunge,
    Fetch,
    List,
    Login,
    Mailbox,
    Status,
    Store,
    decode_base64,
)
from store.imap.names import encode_name, name_matches
from store.imap.response import astring, text
from store.imap.roles import ROLES, Role
from store.imap.scanner import ImapSyntaxError
from store.imap.search import BadCharset
from store.imap.search_keys import Search
from store.imap.selected import Output, Selected
from store.imap.view import View

log = structlog.get_logger("imap")

CAPABILITIES = b"IMAP4rev1 LITERAL+ SASL-IR IDLE NAMESPACE UNSELECT UIDPLUS MOVE CHILDREN ID ESEARCH"


class No(Exception):
    """The command is refused: a tagged NO with this text, a response code in brackets first if any."""


class Bad(Exception):
    """The command makes no sense now: a tagged BAD with this text."""


class Closing(Exception):
    """The connection is to be ended, with a BYE that says why."""


@dataclass(frozen=True, slots=True)
class Gate:
    """What the connection's security allows, and who decides over passwords.

    `verify` gives the role's name or None, after the same time whatever the reason; it may wait (throttling).
    """

    may_start_tls: bool
    may_log_in: bool
    verify: Callable[[str, str], Awaitable[str | None]]


_ANYTIME = frozenset({"CAPABILITY", "NOOP", "LOGOUT", "ID"})
_BEFORE_LOGIN = frozenset({"LOGIN", "AUTHENTICATE", "STARTTLS"})
_SELECTED = frozenset({"FETCH", "STORE", "SEARCH", "COPY", "MOVE", "EXPUNGE", "CLOSE", "UNSELECT", "CHECK"})
_NO_EXPUNGE_DURING = frozenset({"FETCH", "STORE", "SEARCH"})  # RFC 3501 section 7.4.1; their UID forms may


class Session:
    """See the module docstring. `account` is None before login."""

    def __init__(self, backend: Backend, output: Output, gate: Gate) -> None:
        self.backend = backend
        self.out = output
        self.gate = gate
        self.account: str | None = None
        self.role: Role = ROLES["reader"]
        self.selected: Selected | None = None
        self.over = False
        self.wants_tls = False

    @property
    def capabilities(self) -> bytes:
        """What is offered in the present state."""
        if self.account is not None:
            return CAPABILITIES
        login = b" AUTH=PLAIN" if self.gate.may_log_in else b" LOGINDISABLED"
        return CAPABILITIES + (b" STARTTLS" if self.gate.may_start_tls else b"") + login

    async def greet(self) -> None:
        """The first line."""
        await self.out.send(b"* OK [CAPABILITY %b] Bouncetap ready\r\n" % self.capabilities)

    async def run(self, command: Command, lines: Lines) -> None:
        """Execute one command and answer it. `lines` gives what the client sends in the middle of one."""
        name = command.name
        try:
            self._allow(name)
            handler = _HANDLERS.get(name)
            if handler is None:
                raise Bad("unknown command")
            done = await handler(self, command, lines)
        except No as refusal:
            done = b"NO " + text(str(refusal))
        except (Bad, ImapSyntaxError) as error:
            done = b"BAD " + text(str(error))
        except BadCharset:
            done = b"NO [BADCHARSET (US-ASCII UTF-8)] unknown charset"
        except NoFolder:
            done = b"NO [NONEXISTENT] no such mailbox"
        except NotAllowed as refusal:
            done = b"NO [CANNOT] " + text(str(refusal))
        except (ConnectionError, Closing):
            raise
        except (SQLAlchemyError, OSError) as error:  # the index is locked, full or damaged
            log.error("index_unavailable", command=name, error=type(error).__name__)
            done = b"NO [UNAVAILABLE] the quarantine cannot be read or changed now; try again"
        except Exception:
            log.exception("command_failed", command=name)
            done = b"NO [SERVERBUG] internal error, it has been logged"
        if self.selected is not None and name not in ("SELECT", "EXAMINE"):
            await self.selected.tell(expunge=command.uid or name not in _NO_EXPUNGE_DURING, uid=command.uid)
        await self.out.send(b"%b %b\r\n" % (command.tag, done))

    def _allow(self, name: str) -> None:
        """Raise Bad where the state does not allow a command."""
        if name in _ANYTIME:
            return
        if (self.account is None) != (name in _BEFORE_LOGIN):
            raise Bad("log in first" if self.account is None else "already logged in")
        if name in _SELECTED and self.selected is None:
            raise Bad("no mailbox selected")

    @property
    def box(self) -> Selected:
        """The selected mailbox; `_allow` has seen to it that there is one."""
        assert self.selected is not None
        return self.selected

    def leave(self) -> None:
        """Give the selected mailbox up."""
        selected, self.selected = self.selected, None
        if selected is not None:
            selected.leave()


class Lines(Protocol):
    """What the client sends in the middle of IDLE and AUTHENTICATE, and news for those who wait."""

    async def line(self) -> bytes:
        """The next line without its end; raises ConnectionError or Closing."""

    async def line_or(self, event: Coroutine[Any, Any, None]) -> bytes | None:
        """The next line, or None once `event` has come first."""


async def _capability(s: Session, _command: Command, _lines: Lines) -> bytes:
    await s.out.send(b"* CAPABILITY %b\r\n" % s.capabilities)
    return b"OK done"


async def _noop(s: Session, _command: Command, _lines: Lines) -> bytes:
    if s.selected is not None:
        await s.backend.refresh(s.selected.view.columns)
    return b"OK done"


async def _logout(s: Session, _command: Command, _lines: Lines) -> bytes:
    s.leave()
    s.over = True
    await s.out.send(b"* BYE until next time\r\n")
    return b"OK done"


async def _id(s: Session, _command: Command, _lines: Lines) -> bytes:
    await s.out.send(b'* ID ("name" "Bouncetap")\r\n')
    return b"OK done"


async def _starttls(s: Session, _command: Command, _lines: Lines) -> bytes:
    if not s.gate.may_start_tls:
        raise Bad("STARTTLS is not offered")
    s.wants_tls = True
    return b"OK begin TLS now"


async def _login(s: Session, command: Command, _lines: Lines) -> bytes:
    assert isinstance(command.arguments, Login)
    return await _enter(s, command.arguments.user, command.arguments.password)


async def _authenticate(s: Session, command: Command, lines: Lines) -> bytes:
    """PLAIN (RFC 4616): authorization identity (empty, or the user's own name), user, password."""
    assert isinstance(command.arguments, Authenticate)
    if command.arguments.mechanism != "PLAIN":
        raise No("[CANNOT] only PLAIN is offered")
    if not s.gate.may_log_in:
        raise No("[PRIVACYREQUIRED] use TLS first")
    answer = command.arguments.initial
    if answer is None:
        await s.out.send(b"+ \r\n")
        line = await lines.line()
        if line == b"*":
            raise Bad("cancelled")
        answer = decode_base64(line)
    identity, _, rest = answer.partition(b"\0")
    user, nul, password = rest.partition(b"\0")
    if not nul or (identity and not hmac.compare_digest(identity, user)):
        raise No("[AUTHENTICATIONFAILED] wrong user or password")
    return await _enter(s, user, password)


async def _enter(s: Session, user: bytes, password: bytes) -> bytes:
    if not s.gate.may_log_in:
        raise No("[PRIVACYREQUIRED] use TLS first")
    try:
        name, secret = user.decode("utf-8"), password.decode("utf-8")
    except UnicodeDecodeError:
        name = secret = ""
    if "\0" in name:  # which not every database takes
        name = ""
    role = await s.gate.verify(name, secret)
    if role is None or role not in ROLES:
        raise No("[AUTHENTICATIONFAILED] wrong user or password")
    s.account, s.role = name, ROLES[role]
    log.info("login", account=name, role=role)
    return b"OK [CAPABILITY %b] logged in as %b" % (s.capabilities, role.encode())


async def _namespace(s: Session, _command: Command, _lines: Lines) -> bytes:
    await s.out.send(b'* NAMESPACE (("" "/")) NIL NIL\r\n')
    return b"OK done"


async def _list(s: Session, command: Command, _lines: Lines) -> bytes:
    """LIST and LSUB (every folder counts as subscribed), with CHILDREN (RFC 3348)."""
    assert isinstance(command.arguments, List)
    verb, wanted = command.name.encode(), command.arguments.reference + command.arguments.pattern
    if not command.arguments.pattern:
        await s.out.send(b'* %b (\\Noselect) "/" ""\r\n' % verb)
        return b"OK done"
    names = set(await s.backend.names())
    parents = {"/".join(n.split("/")[:depth]) for n in names for depth in range(1, n.count("/") + 1)}
    lines = []
    for name in sorted(names | parents):
        if name_matches(name, wanted):
            words = [b"\\Noselect"] if name not in names else []
            words.append(b"\\HasChildren" if name in parents else b"\\HasNoChildren")
            lines.append(b'* %b (%b) "/" %b\r\n' % (verb, b" ".join(words), astring(encode_name(name))))
    await s.out.send(b"".join(lines))
    return b"OK done"


async def _status(s: Session, command: Command, _lines: Lines) -> bytes:
    assert isinstance(command.arguments, Status)
    name = command.arguments.name
    values = await s.backend.status(name, s.account or "")
    words = b" ".join(b"%b %d" % (item.encode(), values[item]) for item in command.arguments.items)
    await s.out.send(b"* STATUS %b (%b)\r\n" % (astring(encode_name(name)), words))
    return b"OK done"


async def _select(s: Session, command: Command, _lines: Lines) -> bytes:
    assert isinstance(command.arguments, Mailbox)
    s.leave()
    account = s.account or ""
    columns = await s.backend.acquire(command.arguments.name, account)
    read_only = command.name == "EXAMINE"
    view = View(columns, account, read_only=read_only)
    s.selected = Selected(view, s.role, s.backend, s.out)
    bits = columns.accounts[account].bits
    unseen = next((n for n, b in enumerate(bits, 1) if not b & 1), 0)
    lines = [*view.flag_lines()]
    lines.append(b"* OK [PERMANENTFLAGS (%b)] kept\r\n" % (b"" if read_only else s.role.permanent_flags))
    lines.append(b"* %d EXISTS\r\n* %d RECENT\r\n" % (view.count, view.recent))
    if unseen:
        lines.append(b"* OK [UNSEEN %d] first unseen\r\n" % unseen)
    lines.append(b"* OK [UIDVALIDITY %d] valid\r\n" % columns.uidvalidity)
    lines.append(b"* OK [UIDNEXT %d] next\r\n" % columns.uidnext)
    await s.out.send(b"".join(lines))
    return b"OK [READ-ONLY] examined" if read_only else b"OK [READ-WRITE] selected"


async def _close(s: Session, command: Command, _lines: Lines) -> bytes:
    """CLOSE expunges without a word; UNSELECT (RFC 3691) does not."""
    view = s.box.view
    if command.name == "CLOSE" and not view.read_only and s.role.shared:
        await s.backend.expunge(view.columns, view.account, None, held=s.role.expunge_held)
    s.leave()
    return b"OK closed"


async def _idle(s: Session, _command: Command, lines: Lines) -> bytes:
    """IDLE (RFC 2177): news are sent as they come, until DONE."""
    await s.out.send(b"+ idling\r\n")
    while True:
        if s.selected is None:
            line: bytes | None = await lines.line()
        else:
            columns = s.selected.view.columns
            known = columns.version  # before telling: more may happen while the client is slow
            await s.selected.tell(expunge=True)
            line = await lines.line_or(columns.wait_beyond(known))
        if line is not None:
            if line.upper() != b"DONE":
                raise Bad("DONE expected")
            return b"OK done"


async def _nothing(_s: Session, _command: Command, _lines: Lines) -> bytes:
    """SUBSCRIBE and UNSUBSCRIBE: all folders are subscribed; accepted so that no client chokes."""
    return b"OK nothing to do"


async def _cannot(_s: Session, _command: Command, _lines: Lines) -> bytes:
    raise No("[CANNOT] the quarantine's folders are fixed")


async def _fetch(s: Session, command: Command, _lines: Lines) -> bytes:
    assert isinstance(command.arguments, Fetch)
    return await fetch.run(s.box, command.arguments, uid=command.uid)


async def _search(s: Session, command: Command, _lines: Lines) -> bytes:
    assert isinstance(command.arguments, Search)
    return await actions.search(s.box, command.arguments, command.tag, uid=command.uid)


async def _store(s: Session, command: Command, _lines: Lines) -> bytes:
    assert isinstance(command.arguments, Store)
    return await actions.store(s.box, command.arguments, uid=command.uid)


async def _copy(s: Session, command: Command, _lines: Lines) -> bytes:
    assert isinstance(command.arguments, Copy)
    return await actions.copy(s.box, command.arguments, uid=command.uid, move=command.name == "MOVE")


async def _expunge(s: Session, command: Command, _lines: Lines) -> bytes:
    assert isinstance(command.arguments, Expunge)
    return await actions.expunge(s.box, command.arguments)


Handler = Callable[[Session, Command, Lines], Awaitable[bytes]]
_HANDLERS: dict[str, Handler] = {
    "CAPABILITY": _capability,
    "NOOP": _noop,
    "CHECK": _noop,
    "LOGOUT": _logout,
    "ID": _id,
    "STARTTLS": _starttls,
    "LOGIN": _login,
    "AUTHENTICATE": _authenticate,
    "NAMESPACE": _namespace,
    "LIST": _list,
    "LSUB": _list,
    "STATUS": _status,
    "SELECT": _select,
    "EXAMINE": _select,
    "CLOSE": _close,
    "UNSELECT": _close,
    "IDLE": _idle,
    "SUBSCRIBE": _nothing,
    "UNSUBSCRIBE": _nothing,
    "CREATE": _cannot,
    "DELETE": _cannot,
    "RENAME": _cannot,
    "FETCH": _fetch,
    "SEARCH": _search,
    "STORE": _store,
    "COPY": _copy,
    "MOVE": _copy,
    "EXPUNGE": _expunge,
}
