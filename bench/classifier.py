"""How many messages a second the classifier reads, beside flufl.bounce and Sisimai, on one core and in one run.

Ours takes part twice: from the sources on this Python, and compiled on the distribution's, which Sisimai's Perl is too.

The labelled messages (`../shared/corpus/dev`, or $BOUNCETAP_CORPUS), else `fixtures/`, lie in the memory of one process
a contender; all are pinned to one core. First each reads every message once, alone and under guard: what kills a
contender (1 GB of memory, 5 s) is named and left out for all of them. Then come rounds in which they take turns, over
all messages and over the delivery reports among them; what ours remembers of texts is dropped before each round.
Rates are medians over processor time, which is what a core of one's own would take: ratios hold on a busy machine too.
"""

from __future__ import annotations

import json
import os
import resource
import selectors
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
CORPUS = Path(os.environ.get("BOUNCETAP_CORPUS", ROOT.parent / "shared/corpus/dev"))
REPORTS = {"bounce", "delay", "delivered"}
ROUNDS = 7
MEMORY_CAP_BYTES = 1 << 30
MESSAGE_LIMIT_S = 5.0
ROUND_LIMIT_S = 600.0
# As `make compiled` installs it: -P keeps the sources of this checkout out of its way.
COMPILED = ROOT / ".venv-compiled/bin/python"
INSTALLED = ROOT / ".venv-compiled/.installed"  # written last
CONTENDERS = {
    "bouncetap": [sys.executable, "-m", "bench.contender", "bouncetap"],
    "compiled": [str(COMPILED), "-P", str(ROOT / "bench/contender.py"), "bouncetap"],
    "flufl.bounce": [sys.executable, "-m", "bench.contender", "flufl"],
    "Sisimai": ["perl", str(Path(__file__).with_name("sisimai.pl"))],
}


class Dead(Exception):
    """A contender ended, or did not answer in time."""


@dataclass(frozen=True, slots=True)
class Pass:
    """One reading of some messages: processor seconds, reports seen, and the slowest message."""

    seconds: float
    found: int
    slowest: int
    slowest_s: float


@dataclass(slots=True)
class Results:
    """All rounds of one contender, by set of messages, and its memory in MB: loaded and at its peak."""

    rounds: dict[str, list[Pass]] = field(default_factory=dict)
    loaded_mb: float = 0.0
    peak_mb: float = 0.0


class Contender:
    """A process that holds the messages and reads those whose numbers it is given: one line in, one line out."""

    def __init__(self, command: list[str], listing: Path, core: int) -> None:
        self.process = subprocess.Popen(
            [*command, str(listing)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT
        )
        os.sched_setaffinity(self.process.pid, {core})
        resource.prlimit(self.process.pid, resource.RLIMIT_AS, (MEMORY_CAP_BYTES, MEMORY_CAP_BYTES))
        if self._answer(60.0).strip() != b"ready":
            raise Dead

    def read(self, numbers: list[int], limit_s: float) -> Pass:
        """Let it read these messages; raises Dead."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(b" ".join(b"%d" % n for n in numbers) + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Dead from None
        seconds, found, slowest, slowest_s = self._answer(limit_s).split()
        return Pass(float(seconds), int(found), int(slowest), float(slowest_s))

    def megabytes(self, name: str) -> float:
        """A figure of /proc/PID/status: VmRSS, or VmHWM for the peak."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024

    def stop(self) -> None:
        """End it, however it is."""
        self.process.kill()
        self.process.communicate()

    def _answer(self, limit_s: float) -> bytes:
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            line = self.process.stdout.readline() if selector.select(limit_s) else b""
        if not line:
            raise Dead
        return line


@contextmanager
def started(name: str, listing: Path, core: int) -> Iterator[Contender]:
    """A contender for as long as the block runs."""
    contender = Contender(CONTENDERS[name], listing, core)
    try:
        yield contender
    finally:
        contender.stop()


def messages() -> tuple[list[Path], set[int]]:
    """The files, and the numbers of those that are delivery reports by their label."""
    if CORPUS.is_dir():
        gold = CORPUS.parent / f"gold-{CORPUS.name}.jsonl"
        rows = [json.loads(line) for line in gold.read_text("utf-8").splitlines()]
        return [CORPUS / row["file"] for row in rows], {n for n, row in enumerate(rows) if row["kind"] in REPORTS}
    sys.stdout.write(f"no labelled messages at {CORPUS}: with the project's own, which are few and chosen to be odd\n")
    files = sorted((ROOT / "fixtures").rglob("*.eml"))
    return files, {n for n, path in enumerate(files) if path.parent.name in REPORTS}


def available() -> list[str]:
    """The contenders that are installed; says which are not."""
    absent = []
    perl = shutil.which("perl")
    if not perl or subprocess.run([perl, "-MSisimai", "-e", "1"], capture_output=True, check=False).returncode:
        sys.stdout.write("Sisimai is not installed (Debian package libsisimai-perl): without it\n")
        absent.append("Sisimai")
    if INSTALLED.exists():
        sys.stdout.write(f"compiled: bouncetap as `make compiled` installs it, for {COMPILED.resolve()}\n")
    else:
        sys.stdout.write("nothing is compiled (`make compiled`): without it\n")
        absent.append("compiled")
    return [name for name in CONTENDERS if name not in absent]


def deadly(name: str, listing: Path, count: int, core: int) -> list[int]:
    """The messages, by number, that a contender does not survive within the limits."""
    killers, todo = [], list(range(count))
    while todo:
        with started(name, listing, core) as contender:
            while todo:
                try:
                    contender.read([todo[0]], MESSAGE_LIMIT_S)
                except Dead:
                    killers.append(todo.pop(0))
                    break
                todo.pop(0)
    return killers


def race(names: list[str], listing: Path, sets: dict[str, list[int]], core: int) -> dict[str, Results]:
    """Let the contenders take turns: one round to warm up, then `ROUNDS` that count."""
    results = {name: Results({label: [] for label in sets}) for name in names}
    contenders = {name: Contender(CONTENDERS[name], listing, core) for name in names}
    try:
        for name, contender in contenders.items():
            results[name].loaded_mb = contender.megabytes("VmRSS")
        for number in range(ROUNDS + 1):
            for label, chosen in sets.items():
                for name, contender in contenders.items():
                    took = contender.read(chosen, ROUND_LIMIT_S)
                    if number:
                        results[name].rounds[label].append(took)
        for name, contender in contenders.items():
            results[name].peak_mb = contender.megabytes("VmHWM")
    finally:
        for contender in contenders.values():
            contender.stop()
    return results


def main() -> int:
    """Measure, print a table."""
    files, reports = messages()
    names = available()
    core = max(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as directory:
        listing = Path(directory) / "messages"
        listing.write_text("".join(f"{path}\n" for path in files))
        left_out: set[int] = set()
        for name in names:
            for number in deadly(name, listing, len(files), core):
                left_out.add(number)
                size = files[number].stat().st_size
                sys.stdout.write(f"left out, it kills {name}: {files[number].name} ({size} bytes)\n")
        everything = [n for n in range(len(files)) if n not in left_out]
        sets = {"all": everything, "reports": [n for n in everything if n in reports]}
        results = race(names, listing, sets, core)
    sizes = {label: sum(files[n].stat().st_size for n in chosen) for label, chosen in sets.items()}
    for label, chosen in sets.items():
        sys.stdout.write(f"{label}: {len(chosen)} messages, {sizes[label] / 1e6:.1f} MB, median of {ROUNDS} rounds\n")
        rates = {n: len(chosen) / statistics.median(p.seconds for p in r.rounds[label]) for n, r in results.items()}
        for name, result in results.items():
            took = result.rounds[label]
            ours = [
                f"{n} is {rates[n] / rates[name]:.2f}" for n in ("bouncetap", "compiled") if n in rates and n != name
            ]
            ratio = f"  {', '.join(ours)} times as fast" if ours else ""
            spread = (
                f"{len(chosen) / max(p.seconds for p in took):,.0f}-{len(chosen) / min(p.seconds for p in took):,.0f}"
            )
            sys.stdout.write(f"  {name:13}{rates[name]:8,.0f} msg/s ({spread}), {took[0].found} reports seen{ratio}\n")
    for name, result in results.items():
        worst = min(result.rounds["all"], key=lambda p: p.slowest_s)
        sys.stdout.write(
            f"  {name:13}slowest message {worst.slowest_s * 1000:6.1f} ms ({files[worst.slowest].name}); "
            f"memory {result.loaded_mb:.0f} MB loaded, {result.peak_mb:.0f} MB at its peak\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
