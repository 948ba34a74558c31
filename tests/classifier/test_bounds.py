"""No message makes the classifier raise, hang or grow: hostile ones, each in a process of its own, under a watchdog.

How long they take is measured by `python -m tests.support.bounded`; here a limit on processor time ends what hangs.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from classifier import classify
from classifier.mime import message as mime
from classifier.mime import parse
from classifier.reports.model import MAX_RECIPIENTS
from tests.support import hostile

ROOT = Path(__file__).parents[2]
GROWTH_BYTES = 64 << 20


@pytest.fixture(scope="module")
def costs() -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.support.bounded", "--json"]
    costs: dict[str, Any] = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)
    return costs


def test_hostile_messages_are_read_within_bounds(costs: dict[str, Any]) -> None:
    assert costs.keys() == hostile.CASES.keys()
    assert not [name for name, cost in costs.items() if cost is None], "died"
    assert not {name: cost["trouble"] for name, cost in costs.items() if cost["trouble"]}
    assert not {n: cost["growth_bytes"] for n, cost in costs.items() if cost["growth_bytes"] > GROWTH_BYTES}


def test_the_work_on_a_message_does_not_grow_with_its_repetitions() -> None:
    """Past the bounds twice as much of the same is no more work: calls are counted, not seconds."""
    for build in (hostile.report, hostile.prose, hostile.embedded, hostile.many_in_to, hostile.broken_from):
        few, many = calls(build(20_000)), calls(build(40_000))
        assert many <= few * 1.05 + 100, build.__name__


def calls(raw: bytes) -> int:
    """How many Python and C functions one classification calls."""
    classify(raw)  # what is loaded once is loaded
    counted = 0

    def count(*event: object) -> None:
        nonlocal counted
        counted += event[1] in ("call", "c_call")

    sys.setprofile(count)
    try:
        classify(raw)
    finally:
        sys.setprofile(None)
    return counted


def test_parts_depth_and_recipients_are_capped_and_the_cap_is_told() -> None:
    tree = parse(hostile.nested(200, lambda level: b"b%d" % level))
    assert len(list(tree.walk())) <= mime.MAX_DEPTH + 1
    assert tree.truncated
    wide = parse(hostile.person(b"--b\n\nx\n" * 5000, b'Content-Type: multipart/mixed; boundary="b"'))
    assert len(list(wide.walk())) <= mime.MAX_PARTS
    assert wide.truncated
    verdict = classify(hostile.report(MAX_RECIPIENTS + 1))
    assert len(verdict.recipients) == MAX_RECIPIENTS
    assert "dsn.recipients-capped" in {e.rule for e in verdict.evidence}
