"""A filer process that kills itself at a named point, for the crash tests: arguments STATE_DIR POINT NUMBER."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from proxy.journal.files import Files
from store.filing_loop import FilingLoop
from store.workers import Worker, Workers
from tests.support.store import settings_for


class Deadly(Files):
    """Dies by SIGKILL when `point` is reached for the `number`th time."""

    def __init__(self, point: str, number: int) -> None:
        self._point = point
        self._left = number

    def point(self, name: str) -> None:
        if name == self._point:
            self._left -= 1
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    state_dir, point, number = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    settings = settings_for(state_dir, batch_messages=5, segment_bytes=4000)
    workers = Workers(1, lambda: Worker("tests.support.light_prepare:prepare"))
    loop = FilingLoop(settings, files=Deadly(point, number), workers=workers)
    while loop.step():
        pass
    loop.close()


if __name__ == "__main__":
    main()
