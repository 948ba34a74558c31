"""Power loss: every prefix of the recorded writes and fsyncs, the unsynced ones dropped, kept, torn or mixed."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.journal import check, workload
from tests.support.powerloss import Op, RecordingFiles, image

SECTOR_BYTES = 512


def _none(_: Op) -> None:
    return None


def _all(op: Op) -> Op:
    return op


def _torn(rng: random.Random) -> Callable[[Op], Op | None]:
    """Operations come through or not; of a write some sectors do."""

    def keep(op: Op) -> Op | None:
        if rng.random() < 0.4:
            return None
        if op.kind != "write" or rng.random() < 0.3:
            return op
        offset, data = op.args
        assert isinstance(offset, int)
        assert isinstance(data, bytes)
        start = rng.randrange(0, len(data), SECTOR_BYTES)
        stop = min(len(data), start + SECTOR_BYTES * rng.randint(1, 8))
        return Op("write", op.node, (offset + start, data[start:stop]))

    return keep


def _keeper(policy: str, cut: int) -> Callable[[Op], Op | None]:
    return {"none": _none, "all": _all}.get(policy) or _torn(random.Random(f"{policy}-{cut}"))


@pytest.mark.parametrize("policy", ["none", "all", "torn-1", "torn-2", "torn-3"])
async def test_every_prefix_recovers(tmp_path: Path, policy: str) -> None:
    live = tmp_path / "live"
    live.mkdir()
    files = RecordingFiles(live)
    await workload(live, files, files.log.append)
    cuts = [at + 1 for at, op in enumerate(files.log) if isinstance(op, Op)]
    assert len(cuts) > 200
    for cut in [0, *cuts]:
        log = files.log[:cut]
        root = tmp_path / f"image-{cut}"
        image(log, root, _keeper(policy, cut))
        events = [event for event in log if not isinstance(event, Op)]
        try:
            await check(root, events, again=cut % 5 == 0)
        except Exception as error:
            raise AssertionError(f"power lost after operation {cut}: {log[-1] if log else ''}") from error
        shutil.rmtree(root)
