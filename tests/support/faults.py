r"""The handler-fault table: each way in which a handler can fail, and what sender, handler and journal see of it.

`observe` runs one row on a real tap; `tests/proxy/test_handler_faults.py` holds what it sees against the row, and
`python -m tests.support.faults > docs/handler-faults.md` writes the table from what it sees.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.handler import CLOSE, HANG, RESET, Action, Handler, Later, serving
from tests.support.outbound import Tap, tapping, unique

OURS = "250 ours"  # "250 2.0.0 Ok: queued as ID"
PASSED = "passed"  # the handler's own reply, verbatim
BIG = 8_000_000


@dataclass(frozen=True)
class Seen:
    """`sender`: its reply. `taken`: how often the handler took the message. `journal`: fate, and what was answered.

    `then_*`: the same once the handler is well again and all has settled.
    """

    sender: str
    taken: int
    journal: str
    then_taken: int
    then_journal: str


@dataclass(frozen=True)
class Row:
    """One fault. `expect` under `on_tempfail = "spool"`; `passing` is the sender's reply under "pass"."""

    name: str
    script: dict[str, Action]
    expect: Seen
    passing: str
    slow: bool = False
    down: bool = False
    size: int = 0
    settings: dict[str, Any] = field(default_factory=dict)


def _spooled(fate: str = "open", taken: int = 0, then: int | None = None) -> Seen:
    return Seen(OURS, taken, f"{fate}, answered 250", taken + 1 if then is None else then, "forwarded, answered 250")


def _rejected() -> Seen:
    return Seen(PASSED, 0, "rejected, answered 550", 0, "rejected, answered 550")


REFUSED, LATER, GOING = b"550 5.7.1 no\r\n", b"451 4.2.0 later\r\n", b"421 4.3.2 going down\r\n"
SHORT = {"deadline_s": 0.3, "command_timeout_s": 0.8, "greeting_timeout_s": 0.8, "reply_timeout_s": 0.8}


def _rows() -> list[Row]:
    rows = [
        Row("refuses connections", {}, _spooled(), OURS, down=True),
        Row("silent at the greeting", {"greeting": HANG}, _spooled(), OURS, settings=SHORT),
        Row("greeting 554", {"greeting": b"554 5.3.2 go away\r\n"}, _spooled(), OURS),
        Row("greeting 421", {"greeting": GOING}, _spooled(), OURS),
        Row("closes instead of a greeting", {"greeting": CLOSE}, _spooled(), OURS),
        Row("silent at EHLO", {"ehlo": HANG}, _spooled(), OURS, settings=SHORT),
        Row("EHLO 550", {"ehlo": REFUSED}, _spooled(), OURS),
        Row("EHLO 451", {"ehlo": LATER}, _spooled(), OURS),
        Row("resets at EHLO", {"ehlo": RESET}, _spooled(), OURS),
    ]
    for stage in ("mail", "rcpt", "data"):
        name = stage.upper()
        rows += [
            Row(f"silent at {name}", {stage: HANG}, _spooled(), OURS, settings=SHORT),
            Row(f"resets at {name}", {stage: RESET}, _spooled(), OURS),
            Row(f"{name} 421", {stage: GOING}, _spooled(), "451 4.3.2 going down"),
            Row(f"{name} 451", {stage: LATER}, _spooled(), PASSED),
            Row(f"{name} 550", {stage: REFUSED}, _rejected(), PASSED),
        ]
    doubt = _spooled("in_doubt")
    return [
        *rows,
        Row("silent after the dot", {"dot": HANG}, doubt, OURS, settings=SHORT),
        Row("resets after the dot", {"dot": RESET}, doubt, OURS),
        Row("closes after the dot", {"dot": CLOSE}, doubt, OURS),
        Row("dot 421", {"dot": GOING}, _spooled(), "451 4.3.2 going down"),
        Row("dot 451", {"dot": LATER}, _spooled(), PASSED),
        Row("dot 550", {"dot": REFUSED}, _rejected(), PASSED),
        Row(
            "250 after the deadline",
            {"dot": Later(0.5)},
            Seen(OURS, 1, "forwarded, answered 250", 1, "forwarded, answered 250"),
            OURS,
            settings={"deadline_s": 0.2},
        ),
        Row(
            "451 after the deadline",
            {"dot": Later(0.5, LATER)},
            _spooled(),
            OURS,
            settings={"deadline_s": 0.2},
        ),
        Row(
            "550 after the deadline",
            {"dot": Later(0.5, REFUSED)},
            Seen(OURS, 0, "dead, answered 250", 0, "dead, answered 250"),
            OURS,
            settings={"deadline_s": 0.2},
        ),
        Row("reads 1 byte/s, small message", {}, doubt, OURS, slow=True, settings=SHORT),
        Row("reads 1 byte/s, 8 MB", {}, _spooled(), OURS, slow=True, size=BIG, settings=SHORT),
    ]


ROWS = _rows()


def _journal(tap: Tap, index: int) -> str:
    records = tap.records()
    if index >= len(records):
        return "nothing"
    record = records[index]
    return f"{', '.join(sorted({str(fate) for fate in record.fates}))}, answered {record.answered}"


def _shown(reply: str, scripted: list[str]) -> str:
    if "queued as" in reply:
        return OURS
    return PASSED if reply in scripted else reply


async def observe(row: Row, path: Path, *, on_tempfail: str = "spool") -> Seen:
    """Run one row."""
    async with serving(Handler(script=dict(row.script), slow=row.slow)) as handler:
        scripted = [
            action.strip().decode()
            for value in row.script.values()
            for action in [value.reply if isinstance(value, Later) else value]
            if isinstance(action, bytes)
        ]
        settings = {"on_tempfail": on_tempfail, "retry_min_s": 1.0, **row.settings}
        async with tapping(path, handler, **settings) as tap:
            if row.down:
                await handler.stop()
            wire = unique(row.name) + b"x" * row.size + b"\r\n" * bool(row.size)
            reply = await tap.send(wire)
            await _quiet(tap, lambda: row.slow or bool(tap.delivery.status()["forwarding"]))
            sender = _shown(reply, scripted)
            await tap.until(lambda: tap.answered() is not None)
            taken, journal = handler.accepted, _journal(tap, 0)
            handler.script.clear()
            if row.slow or row.down:
                await handler.stop()
                await handler.start()
            handler.slow = False
            if reply.startswith("250"):
                await tap.until(lambda: not tap.delivery.status()["spool"]["messages"])
                await tap.until(lambda: tap.fates() in (["forwarded"], ["dead"]))
            assert all(message.wire == wire for message in handler.messages)
            return Seen(sender, taken, journal, handler.accepted, _journal(tap, 0))


async def _quiet(tap: Tap, going_on: Callable[[], bool]) -> None:
    """Wait until the first attempt has come to its end, and what it came to is in the journal."""
    await tap.until(lambda: not tap.delivery.status()["forwarding"] or not going_on())
    await tap.until(lambda: not tap.delivery.status()["forwarding"])
    await tap.journal.flush()


HEAD = """# When the handler fails

What sender, handler and journal see of each fault, as observed on a running tap; made by
`python -m tests.support.faults > docs/handler-faults.md`, and held against by `tests/proxy/test_handler_faults.py`.

"Ours" is the tap's own `250 2.0.0 Ok: queued as ID`; other replies are the handler's, code and text. Where the fault
is silence or slowness, the deadline passes and the sender has its 250 after `deadline`, else at once. The sender's
reply is shown for `on_tempfail = "spool"` (the default) and for `"pass"`; the other columns belong to the first.
"Later" is after the handler has become well again: a spooled message is tried again after 1 s to 5 min (`retry_min`,
`retry_max`), and within a second or so where no handler could be reached at all.

| the handler | sender, `spool` | sender, `pass` | the handler has | the journal | later the handler has | the journal |
|---|---|---|---|---|---|---|
"""

TAIL = """
- **In doubt** (silent, reset or closed after the dot; RFC 1047): the handler may have taken the message before the
  connection broke. It is sent again, to the same host first, which may make a duplicate there; not sending it again
  might lose it. Such messages are counted (`bouncetap_proxy_in_doubt`).
- **A reply after the deadline**: the same connection is awaited, up to 600 s after the dot, so a slow handler gets no
  duplicate. A refusal that comes too late makes a dead letter: we never generate mail.
- **A handler that stops reading** before it has the whole message cannot have taken it: not in doubt.
- **5 failures in a row** open the circuit breaker: messages go to the spool at once, without waiting, and one
  message a second probes. The same goes while more messages wait for a connection than the deadline allows for.
- **Without a journal** (disk full, EIO, an fsync that hangs) the deadline does not apply: the sender waits for the
  handler, gets its reply verbatim, or `451 4.3.0`; with `on_failure = "defer"` it gets `452 4.3.1`, and the handler
  gets nothing.
- **Several handlers**: what fails before the dot goes to the next one at once; what fails after it returns to its own.
"""


def table_row(row: Row, seen: Seen, passing: str) -> str:
    words = {OURS: "250, ours"}
    sender, under_pass = (words.get(reply, reply) for reply in (seen.sender, passing))
    scripted = next((v for v in row.script.values() if isinstance(v, bytes)), b"").decode().strip()
    if seen.sender == PASSED:
        sender = f"`{scripted}`"
    if passing == PASSED:
        under_pass = f"`{scripted}`"
    times = ("nothing", "the message, once", "the message, twice")
    cells = (row.name, sender, under_pass, times[seen.taken], seen.journal, times[seen.then_taken], seen.then_journal)
    return f"| {' | '.join(cells)} |"


async def write_table() -> None:
    lines = []
    for row in ROWS:
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
            seen = await observe(row, Path(one))
            passing = await observe(row, Path(other), on_tempfail="pass")
        lines.append(table_row(row, seen, passing.sender))
    sys.stdout.write(HEAD + "\n".join(lines) + "\n" + TAIL)


if __name__ == "__main__":
    import structlog

    structlog.configure(logger_factory=structlog.ReturnLoggerFactory(), processors=[lambda *_: ""])
    asyncio.run(write_table())
