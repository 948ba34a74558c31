"""One contender of `bench.classifier` as a process: holds messages in memory, reads those whose numbers come in.

Arguments: `bouncetap` or `flufl`, and a file that names the messages, one path a line. Each line of numbers on standard
input is answered by one line: processor seconds, reports seen, the slowest message's number, its seconds.
"""

from __future__ import annotations

import email
import gc
import sys
from collections.abc import Callable
from pathlib import Path
from time import process_time

from store.worker import collect_garbage_seldom


def bouncetap() -> tuple[Callable[[bytes], bool], Callable[[], None]]:
    """Our classifier, the whole verdict; tells whether it is a delivery report."""
    from classifier import classify
    from classifier.classify import warm_up
    from classifier.rulebook import Rulebook

    warm_up()
    books = [thing for thing in gc.get_objects() if isinstance(thing, Rulebook)]

    def forget() -> None:
        for book in books:
            book.forget()

    reports = {"bounce", "delay", "delivered"}
    return lambda raw: classify(raw).kind in reports, forget


def flufl() -> tuple[Callable[[bytes], bool], Callable[[], None]]:
    """flufl.bounce as its documentation shows it; it raises on some messages, which counts as nothing seen."""
    from flufl.bounce import all_failures

    def read(raw: bytes) -> bool:
        try:
            return any(all_failures(email.message_from_bytes(raw)))
        except Exception:
            return False

    return read, lambda: None


def main(name: str, listing: str) -> None:
    """Load, say `ready`, answer until standard input ends."""
    read, forget = {"bouncetap": bouncetap, "flufl": flufl}[name]()
    loaded = [Path(path).read_bytes() for path in Path(listing).read_text().splitlines()]
    gc.collect()
    collect_garbage_seldom()  # as where we classify; so for all contenders in Python
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        numbers = [int(word) for word in line.split()]
        forget()
        found, slowest, slowest_s = 0, numbers[0], 0.0
        begin = before = process_time()
        for number in numbers:
            found += read(loaded[number])
            now = process_time()
            if now - before > slowest_s:
                slowest, slowest_s = number, now - before
            before = now
        sys.stdout.write(f"{before - begin:.6f} {found} {slowest} {slowest_s:.6f}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
