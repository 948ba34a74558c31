"""What the demo shows: the table of what was forwarded and how it was classified, its sum, and where to look next."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from bouncetap.cli.options import table
from bouncetap.demo.handler import StandInHandler
from bouncetap.demo.place import HOST, Ports
from bouncetap.demo.traffic import DOMAIN, Sample

ACCOUNT = PASSWORD = "demo"  # noqa: S105  # it is printed: the demo listens on loopback only
WIDTH_MIN = 80


def say(text: str) -> None:
    """One or more lines, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def progress(done: int, total: int) -> None:
    """On a terminal one line that counts; elsewhere a line now and then."""
    if sys.stdout.isatty():
        sys.stdout.write(f"\r  {done} of {total}" + ("\n" if done == total else ""))
        sys.stdout.flush()
    elif done == total or done % 50 == 0:
        say(f"  {done} of {total}")


def result(
    traffic: list[Sample], replies: dict[str, str], handler: StandInHandler, filed: dict[str, dict[str, Any]]
) -> str:
    """The table, one line a message, and its sum."""
    arrived = Counter(digest for digest, _ in handler.received)
    rows: list[tuple[str, ...]] = []
    kinds: Counter[tuple[str, str]] = Counter()
    for sample in traffic:
        verdict = filed.get(sample.sha256, {})
        same = arrived[hashlib.sha256(sample.wire).hexdigest()]
        kinds[verdict.get("kind", "not filed"), verdict.get("category", "none")] += 1
        rows.append((sample.name, "identical" if same else f"no: {replies[sample.name]}", *_verdict(verdict)))
    kinds_shown = [(kind, "" if category == "none" else category, count) for (kind, category), count in kinds.items()]
    identical = sum(row[1] == "identical" for row in rows)
    return f"""\
{_fitted(rows, ["message", "at handler", "verdict", "who"])}

{table(kinds_shown, ["kind", "category", "messages"])}

sent {len(traffic)}, at the handler {len(handler.received)} ({identical} of them identical), \
in the quarantine {len(filed)}"""


def _verdict(verdict: dict[str, Any]) -> tuple[str, str]:
    """('hard: bad_mailbox', 'anna@example.org'): of several people the one that decided."""
    people = verdict.get("recipients") or [{}]
    category = verdict.get("category", "none")
    person = next((one for one in people if one.get("category") == category), people[0])
    kind = category if verdict.get("kind") == "bounce" else verdict.get("kind", "-")
    reason = person.get("reason")
    return f"{kind}: {reason}" if reason and category != "none" else str(kind), person.get("address") or "-"


def _fitted(rows: list[tuple[str, ...]], header: list[str]) -> str:
    """The table, as wide as the terminal: the longest cells of message and who are cut. Elsewhere nothing is."""
    if not sys.stdout.isatty():
        return table(rows, header)
    width = max(WIDTH_MIN, shutil.get_terminal_size().columns)
    fixed = sum(max(len(row[column]) for row in [*rows, header]) for column in (1, 2)) + 3 * len("  ")
    for_who = min(max(len(row[3]) for row in rows), (width - fixed) // 2)
    for_name = width - fixed - for_who
    return table([(_cut(row[0], for_name), *row[1:3], _cut(row[3], for_who)) for row in rows], header)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def where_to_look(ports: Ports, state_dir: Path) -> str:
    """How to look inside while it runs, in lines of at most 80 characters."""
    state = state_dir.relative_to(Path.cwd()) if state_dir.is_relative_to(Path.cwd()) else state_dir
    return f"""\
It keeps running; Ctrl-C stops it. Look inside meanwhile:

  mail client  IMAP, server {HOST}, port {ports.imap}, user {ACCOUNT}, password {PASSWORD},
               no encryption (it is your own machine)
  Thunderbird  New account > Configure manually > IMAP, {HOST}, port {ports.imap},
               security None, "Password, transmitted insecurely", user {ACCOUNT}
  curl         curl -u {ACCOUNT}:{PASSWORD} 'imap://{HOST}:{ports.imap}/Bounces%2FHard;UID=1'
  mutt         mutt -f imap://{ACCOUNT}:{PASSWORD}@{HOST}:{ports.imap}/Bounces/Hard
  send one     curl --mail-from '' --mail-rcpt return@{DOMAIN} \\
                    -T fixtures/bounce/mailbox-full.eml smtp://{HOST}:{ports.smtp}
  status       {sys.argv[0]} --config {state / "bouncetap.toml"} status
  metrics      curl http://{HOST}:{ports.http}/metrics
  its log      {state / "log.jsonl"}"""
