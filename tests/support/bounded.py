"""What hostile messages cost the classifier, each in a process of its own: `python -m tests.support.bounded [NAME]`.

Without a name, a table of all `CASES`: processor seconds, growth of resident memory at its peak, the kind. The
message is built by one process and read from a file by another, so that only its classification counts.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from classifier import classify
from tests.support.hostile import CASES

ROOT = Path(__file__).parents[2]
ADDRESS_SPACE_BYTES = 2 << 30
PROCESSOR_LIMIT_S = 20  # a watchdog; what is slower hangs


@dataclass(frozen=True, slots=True)
class Cost:
    """One classification. `trouble` says what went wrong within, "" for nothing."""

    seconds: float
    growth_bytes: int
    kind: str
    trouble: str


def measured(name: str) -> Cost:
    """Build a case, classify it in a fresh process; raises CalledProcessError where that dies."""
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(CASES[name]())
        command = [sys.executable, "-m", "tests.support.bounded", "--file", file.name]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return Cost(**json.loads(done.stdout))


def cost_of(path: Path) -> Cost:
    """Classify a file here and now."""
    classify(b"From: a@b.example\n\nhello\n")
    raw = path.read_bytes()
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is not the message's
    before = _kilobytes("VmRSS")
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR_LIMIT_S, PROCESSOR_LIMIT_S))
    begin = time.process_time()
    verdict = classify(raw)
    seconds = time.process_time() - begin
    trouble = next((e.text for e in verdict.evidence if e.rule == "unparsable"), "")
    return Cost(seconds, (_kilobytes("VmHWM") - before) * 1024, verdict.kind, trouble)


def _kilobytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))


def main(arguments: list[str]) -> None:
    """Print one cost as JSON (`--file PATH`), or a table."""
    if arguments[:1] == ["--file"]:
        cost = cost_of(Path(arguments[1]))
        print(json.dumps({name: getattr(cost, name) for name in Cost.__slots__}))
        return
    for name in arguments or CASES:
        cost = measured(name)
        print(f"{name:55} {cost.seconds:6.3f} s {cost.growth_bytes / 1e6:6.1f} MB  {cost.kind} {cost.trouble}")


if __name__ == "__main__":
    main(sys.argv[1:])
