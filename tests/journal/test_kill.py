"""kill -9 of a real writer process at each crash point of the state table."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.journal import Event, check

CHILD = """
import asyncio, os, signal, sys
from pathlib import Path
from proxy.journal.files import Files
from tests.support.journal import workload

class Dying(Files):
    left = int(sys.argv[3])
    def point(self, name):
        if name == sys.argv[2]:
            Dying.left -= 1
            if not Dying.left:
                os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(workload(Path(sys.argv[1]), Dying(), lambda event: os.write(1, (" ".join(event) + chr(10)).encode())))
"""

POINTS = [
    *[(f"CP{number}", nth) for number in (1, 2, 3, 4) for nth in (1, 4, 11, 17)],
    *[(f"CP{number}", nth) for number in (5, 6, 7) for nth in (1, 2, 4)],
    ("CP8", 1),
    ("CP9", 1),
    ("CP9", 3),
    ("CP10", 1),
    ("CP10", 2),
    ("CP11", 1),
    ("CP12", 1),
    ("CP12", 2),
]


@pytest.mark.parametrize(("point", "nth"), POINTS)
async def test_killed_at(tmp_path: Path, point: str, nth: int) -> None:
    child = subprocess.run(  # noqa: ASYNC221 - nothing else runs on this loop
        [sys.executable, "-c", CHILD, str(tmp_path), point, str(nth)],
        capture_output=True,
        cwd=Path(__file__).parents[2],
        timeout=60,
        check=False,
    )
    assert child.returncode == -9, f"{point} was not reached {nth} times: {child.stderr.decode()}"
    events: list[Event] = [tuple(line.split()) for line in child.stdout.decode().splitlines()]
    await check(tmp_path, events)
