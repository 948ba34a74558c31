"""What hostile messages cost the classifier: `python -m tests.support.bounded [NAME ...]` prints a table of `CASES`.

Processor seconds, growth of resident memory at its peak, the kind. Each message is built by one process, written to a
file, and read and classified by another, forked afresh from one that has loaded the rules: only its classification
counts.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from classifier import classify
from classifier.classify import warm_up
from store.worker import collect_garbage_seldom
from tests.support.hostile import CASES

ADDRESS_SPACE_BYTES = 2 << 30
PROCESSOR_LIMIT_S = 20  # a watchdog; what is slower hangs


@dataclass(frozen=True, slots=True)
class Cost:
    """One classification. `trouble` says what went wrong within, "" for nothing."""

    seconds: float
    growth_bytes: int
    kind: str
    trouble: str


def measured(names: Iterable[str] = tuple(CASES)) -> Iterator[tuple[str, Cost | None]]:
    """The cost of each case, None where its process died. To be called in a process of its own: it forks."""
    warm_up()
    collect_garbage_seldom()
    with tempfile.TemporaryDirectory() as directory:
        message, answer = Path(directory, "message"), Path(directory, "answer")
        for name in names:
            answer.write_text("null")
            _in_a_child(partial(_build, name, message))
            _in_a_child(partial(_classify, message, answer))
            told = json.loads(answer.read_text())
            yield name, Cost(**told) if told else None


def _in_a_child(work: Callable[[], None]) -> None:
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def _build(name: str, message: Path) -> None:
    message.write_bytes(CASES[name]())


def _classify(message: Path, answer: Path) -> None:
    raw = message.read_bytes()
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is not the message's
    before = _kilobytes("VmRSS")
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR_LIMIT_S, PROCESSOR_LIMIT_S))
    begin = time.process_time()
    verdict = classify(raw)
    seconds = time.process_time() - begin
    trouble = next((e.text for e in verdict.evidence if e.rule == "unparsable"), "")
    answer.write_text(json.dumps(asdict(Cost(seconds, (_kilobytes("VmHWM") - before) * 1024, verdict.kind, trouble))))


def _kilobytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))


def main(arguments: list[str]) -> None:
    """Print a table, or with `--json` one object of all costs by name."""
    if arguments == ["--json"]:
        print(json.dumps({name: cost and asdict(cost) for name, cost in measured()}))
        return
    for name, cost in measured(arguments or CASES):
        told = (
            f"{cost.seconds:6.3f} s {cost.growth_bytes / 1e6:6.1f} MB  {cost.kind} {cost.trouble}" if cost else "died"
        )
        print(f"{name:55} {told}")


if __name__ == "__main__":
    main(sys.argv[1:])
