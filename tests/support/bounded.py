"""Run as a process of its own: classify one hostile message, print seconds and growth in KB, and the verdict's kind."""

from __future__ import annotations

import resource
import sys
import time

from classifier import classify
from tests.support.hostile import CASES


def main() -> None:
    """The case's name is the argument; a line of `seconds kilobytes kind unparsable evidence` comes out."""
    classify(b"From: a@b.example\n\nhello\n")
    raw = CASES[sys.argv[1]]()
    with open("/proc/self/clear_refs", "w") as peak:  # noqa: PTH123 the peak so far is the builder's
        peak.write("5")
    before = _kilobytes("VmRSS")
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
    begin = time.perf_counter()
    verdict = classify(raw)
    seconds = time.perf_counter() - begin
    why = verdict.evidence[0].text.replace("\n", " ")[:80] if verdict.unparsable else ""
    print(f"{seconds:.3f} {_kilobytes('VmHWM') - before} {verdict.kind} {verdict.unparsable} {why}")


def _kilobytes(field: str) -> int:
    with open("/proc/self/status") as status:  # noqa: PTH123
        return next(int(line.split()[1]) for line in status if line.startswith(field + ":"))


if __name__ == "__main__":
    main()
