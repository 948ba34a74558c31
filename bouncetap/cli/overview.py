"""What `bouncetap status` shows to people: a few lines a part, and what is wrong before all else.

`--json` has everything; here a figure stands only where somebody would act on it. Whatever is not as it should be is
a line that begins with `!`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bouncetap.harmless import printable


def overview(parts: dict[str, dict[str, Any]]) -> Iterator[str]:
    """The lines, from what `gather_status` found."""
    for part, state in parts.items():
        if not state["running"]:
            yield f"{part:<8}NOT RUNNING"
            yield f"  ! {printable(state.get('error', ''))}"
            continue
        headline, details, wrong = _DESCRIBED[part](state)
        yield f"{part:<8}{headline} (pid {state['pid']})"
        yield from (f"  {printable(line)}" for line in details)
        yield from (f"  ! {printable(line)}" for line in wrong)


Described = tuple[str, list[str], list[str]]  # headline, details, what is wrong


def _proxy(state: dict[str, Any]) -> Described:
    delivery = state.get("delivery", {})
    spool, journal, hosts = delivery.get("spool", {}), delivery.get("journal", {}), delivery.get("hosts", [])
    since = f"{counted(state.get('messages', 0), 'message')} since the start"
    unfiled, free = size(journal.get("unfiled_bytes", 0)), size(journal.get("free_bytes", 0))
    still_open = counted(journal.get("open", 0), "message")
    details = [
        f"{_listens(state)}, {since}",
        *(f"handler {host['host']}: {_HANDLER.get(host['state'], host['state'])}" for host in hosts),
        f"spool: {_spooled(spool)}",
        f"journal: {size(journal.get('bytes', 0))}, {still_open} open, {unfiled} to file; {free} free on its disk",
    ]
    wrong = [f"handler {host['host']}: {host['last_error']}" for host in hosts if host["last_error"]]
    wrong += _counted_wrong(
        (delivery.get("untapped", 0), "went on without a copy: the journal could not be written"),
        (delivery.get("dead", 0), "refused by the handler after the sender had its 250: bouncetap spool ls --dead"),
        (spool.get("in_doubt", 0), "in doubt: the handler closed the connection after the dot"),
        (delivery.get("loop_alarms", 0), "came again and again: the handler may be relaying back to us"),
    )
    if journal.get("failed"):
        wrong.append(f"the journal cannot be written: {journal.get('last_error') or 'no room'}")
    wrong += [f"journal stream {name}: {why}" for name, why in journal.get("refused_streams", {}).items()]
    wrong += [f"journal stream {name} is damaged: bouncetap journal verify" for name in journal.get("damage", {})]
    return state["state"], details, wrong


def _filer(state: dict[str, Any]) -> Described:
    backlog, next_expiry = size(state.get("backlog_bytes", 0)), _age(state.get("next_expiry_s", 0))
    details = [
        f"{counted(state.get('filed', 0), 'message')} filed and {state.get('expired', 0):,} expired since the start",
        f"behind by {_age(state.get('lag_s', 0))}, {backlog} to file; next expiry in {next_expiry}",
    ]
    wrong = ["the disk is down to [journal] reserve: filing waits"] if state.get("waiting_for_disk") else []
    if state.get("expiry_blocked"):
        wrong.append(f"expiry has stopped: {state['expiry_blocked']}")
    if state.get("last_error"):
        wrong.append(f"{_age(state.get('last_error_s_ago') or 0)} ago: {state['last_error']}")
    wrong += [f"journal stream {name} is damaged: bouncetap journal verify" for name in state.get("damage", {})]
    wrong += [f"journal stream {name}: {why}" for name, why in state.get("unreadable_streams", {}).items()]
    return "running", details, wrong


def _imap(state: dict[str, Any]) -> Described:
    logged_in = ", ".join(f"{name} {count}" for name, count in sorted(state.get("logged_in", {}).items()))
    details = [_listens(state) + (f" ({logged_in})" if logged_in else "")]
    wrong = [str(state["last_error"])] if state.get("last_error") else []
    return "running", details, wrong


_HANDLER = {"breaker": "down, and not asked for a while (circuit breaker)"}
_DESCRIBED = {"proxy": _proxy, "filer": _filer, "imap": _imap}


def _listens(state: dict[str, Any]) -> str:
    return f"on {', '.join(state.get('listen', []))}: {counted(state.get('connections', 0), 'connection')}"


def _spooled(spool: dict[str, Any]) -> str:
    if not spool.get("messages"):
        return "empty"
    return (
        f"{counted(spool['messages'], 'message')}, {size(spool['bytes'])}, the oldest {_age(spool['oldest_age_s'])} old"
    )


def _counted_wrong(*found: tuple[int, str]) -> list[str]:
    return [f"{counted(count, 'message')} {what}" for count, what in found if count]


def counted(number: int, noun: str) -> str:
    """'1 message', '1,234 messages'."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size(size_bytes: int) -> str:
    """'43 bytes', '64.0 MiB'."""
    if size_bytes < 1024:
        return counted(size_bytes, "byte")
    amount, units = float(size_bytes), iter(("KiB", "MiB", "GiB", "TiB"))
    unit = next(units)
    amount /= 1024
    while amount >= 1024 and (larger := next(units, "")):
        amount, unit = amount / 1024, larger
    return f"{amount:.1f} {unit}"


def _age(seconds: float) -> str:
    """'3 s', '12 min', '5 h', '9 days'."""
    for unit, unit_s in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * unit_s:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{seconds:.0f} s"
