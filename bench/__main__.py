"""Runs every benchmark, one after the other, each in a process of its own.

`make bench`, or `make bench ARGS="proxy classifier"` for some of them. One that needs what is absent (the labelled
messages, another product to compare with) says so and is passed over.
"""

from __future__ import annotations

import subprocess
import sys

BENCHMARKS = ("journal", "proxy", "independence", "arrival", "classifier", "filing", "imap")


def main(names: list[str]) -> int:
    unknown = sorted(set(names) - set(BENCHMARKS))
    if unknown:
        sys.stderr.write(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}\n")
        return 2
    failed = []
    for name in names or BENCHMARKS:
        sys.stdout.write(f"\n== {name}\n")
        sys.stdout.flush()
        if subprocess.run([sys.executable, "-m", f"bench.{name}"], check=False).returncode:
            failed.append(name)
    if failed:
        sys.stderr.write(f"failed: {', '.join(failed)}\n")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
