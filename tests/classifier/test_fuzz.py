"""A short coverage-guided run over the classifier (`tests/fuzz/classify.py` says what counts as a finding)."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUNS = 1500


@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="atheris has no wheel for this machine or Python: left unfuzzed",
)
def test_a_short_run_finds_nothing(tmp_path: Path) -> None:
    # Afresh each time: the inputs are libFuzzer's choice, the count is ours. A finding is printed with its bytes.
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.classify", str(tmp_path / "inputs"), f"-runs={RUNS}",
         f"-artifact_prefix={tmp_path}/"],
        cwd=ROOT, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    found = [path.read_bytes() for path in tmp_path.glob("*-*") if path.is_file()]
    assert done.returncode == 0, (found, done.stderr[-3000:])
    assert "DONE" in done.stderr
    assert f"Done {RUNS} runs" in done.stderr
