"""Logging: structlog to standard error, one event a line, addresses redacted, never blocking.

Events are written by a thread from a bounded queue: a stuck reader of our standard error must not stop the proxy's
loop. When the queue is full, events are dropped and the number is written with the next one that gets through.
Message bodies, passwords and tokens are never handed to a logger. Addresses are, under the keys in ADDRESS_KEYS, and in
the words of others: a handler's reply, an exception's text. Whatever looks like one is redacted there.
"""

from __future__ import annotations

import atexit
import json
import logging
import re
import sys
import threading
from collections import deque
from typing import IO, Any

import structlog

from bouncetap.harmless import harmless_json, printable

ADDRESS_KEYS = frozenset({"address", "mail_from", "rcpt_to", "recipient", "recipients", "envelope_to", "original"})
UNREDACTED_KEYS = frozenset({"account", "part", "level", "timestamp"})  # an account is staff, and audited
KEYS_FIRST = ("timestamp", "level", "part", "event", "id")  # lines that people can scan
_HARMLESS = frozenset({int, float, bool, type(None)})
_WORD = re.compile(r"[^\s]+")
_QUOTED = re.compile(r'"([^"])[^"]{0,320}"@')  # a local part that may hold spaces
_OPENING, _CLOSING = "<(['\"", ">)]'\":;,."
QUEUE_EVENTS = 10_000
BURST_S = 0.02  # in which lines gather
IDLE_S = 1.0
FLUSH_TIMEOUT_S = 2.0


class QueuedSink:
    """A file-like object whose `write` never waits: a daemon thread writes to `stream`, a burst at a time."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._lines: deque[str] = deque()
        self.dropped = 0
        self._filled, self._closed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def write(self, text: str) -> None:
        """Queues `text`, or counts it as dropped."""
        if len(self._lines) >= QUEUE_EVENTS:
            self.dropped += 1
            return
        self._lines.append(text)
        if len(self._lines) == 1:  # waking the thread for each line would cost more than the line
            self._filled.set()

    def flush(self) -> None:
        """Nothing to do: the thread flushes after each burst."""

    def close(self) -> None:
        """Writes what is queued, for at most FLUSH_TIMEOUT_S."""
        self._closed.set()
        self._filled.set()
        self._thread.join(FLUSH_TIMEOUT_S)

    def _run(self) -> None:
        while not self._closed.is_set():
            self._filled.wait(IDLE_S)  # two writers at once may both take the other for the first
            self._filled.clear()
            self._closed.wait(BURST_S if self._lines else 0)
            text = "".join(self._lines.popleft() for _ in range(len(self._lines)))
            if not text:
                continue
            if self.dropped:
                dropped, self.dropped = self.dropped, 0
                text = f'{{"event": "log_events_dropped", "level": "warning", "count": {dropped}}}\n{text}'
            try:
                self._stream.write(text)
                self._stream.flush()
            except (OSError, ValueError):  # nobody reads any more: losing the log must not stop the mail
                continue


def redact_address(address: str) -> str:
    """'a…@example.com' of 'anna.smith@example.com': enough to follow a case, not enough to write to.

    Of a MAIL or RCPT argument only the path is shown: an ORCPT or ENVID names people too.
    """
    if address.startswith("<") and address != "<>":
        address = address[1:].partition(">")[0]
    local, at, domain = address.strip("<>").rpartition("@")
    return f"{local[:1]}…{at}{domain}" if at else "…" if address not in {"", "<>"} else address


def redact_text(text: str) -> str:
    """Free text with each word that holds an `@` redacted. Linear in its length."""
    if "@" not in text:
        return text
    text = _QUOTED.sub(lambda quoted: f"{quoted[1]}@", text)
    return _WORD.sub(lambda word: _redacted_word(word[0]), text)


def _redacted_word(word: str) -> str:
    local, at, domain = word.rpartition("@")
    if not at:
        return word
    return f"{local.lstrip(_OPENING)[:1]}…@{domain.rstrip(_CLOSING)}"


def redact_value(value: Any, key: str = "") -> Any:
    """A JSON-able value with every address in it redacted, however deep; `key` says what it is (ADDRESS_KEYS)."""
    if type(value) in _HARMLESS or key in UNREDACTED_KEYS:
        return value
    if isinstance(value, dict):
        return {redact_text(str(name)): redact_value(item, str(name)) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact_value(item, key) for item in value]
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    return redact_address(text) if key in ADDRESS_KEYS else redact_text(text)


def _redact(_logger: Any, _method: str, event: Any) -> Any:
    for key, value in event.items():
        if type(value) not in _HARMLESS:
            event[key] = redact_value(value, key)
    return event


def _printable(event: Any) -> Any:
    """For a terminal: what others wrote neither steers it nor looks like a line of ours (a traceback is ours)."""
    shown = dict(event)
    for key, value in event.items():
        if isinstance(value, str):
            shown[key] = "\n".join(map(printable, value.split("\n"))) if key == "exception" else printable(value)
    return shown


def _in_order(part: str, event: Any) -> Any:
    event["part"] = part
    return {**{key: event[key] for key in KEYS_FIRST if key in event}, **event}


def configure(part: str, *, fmt: str = "json", level: str = "info", redact: bool = True) -> None:
    """Sets logging up for this process; `part` ("proxy", "filer" ...) is in every event."""
    sink = QueuedSink(sys.stderr)
    encoder = json.JSONEncoder(ensure_ascii=False, default=repr)  # made once: `dumps` makes one for each event
    renderer: Any = lambda _logger, _method, event: harmless_json(encoder.encode(event))  # noqa: E731  rebound below, to an object
    if fmt == "console":
        on_console = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        renderer = lambda logger, method, event: on_console(logger, method, _printable(event))  # noqa: E731  as above
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.EventRenamer("event"),
        structlog.processors.format_exc_info,
        *([_redact] if redact else []),
        lambda _logger, _method, event: _in_order(part, event),
    ]
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(sink),  # type: ignore[arg-type]  # it needs write and flush only
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sink)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                renderer,
            ],
        )
    )
    # Libraries (aiosmtpd logs each command, with addresses) only speak up when something is wrong.
    logging.basicConfig(handlers=[handler], level=max(threshold, logging.WARNING), force=True)
