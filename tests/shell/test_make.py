"""`make` on a machine that lacks something: one line that says what to install."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("make", "sh", "basename", "readlink")


def make(directory: Path, pythons: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """`make run` of a fresh copy, where only these Pythons (shell scripts) can be found."""
    tools = directory / "bin"
    tools.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found is not None
        (tools / name).symlink_to(found)
    for name, script in pythons.items():
        (tools / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (tools / name).chmod(0o755)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, directory)
    environment = {"PATH": str(tools)}
    command = [str(tools / "make"), "run"]
    return subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, check=False, timeout=60
    )


OLD = "exit 1"  # as the question whether it is 3.11 is answered by an older one
NO_ENSUREPIP = 'case "$2" in *ensurepip*) exit 1;; esac; exit 0'


@pytest.mark.parametrize(
    ("pythons", "hint"),
    [
        ({}, "bouncetap needs Python 3.11 or newer: on Debian or Ubuntu, apt-get install python3.11 python3.11-venv"),
        ({"python3": OLD}, "bouncetap needs Python 3.11 or newer"),
        ({"python3.12": OLD, "python3.11": NO_ENSUREPIP}, "apt-get install python3.11-venv"),
        ({"python3": NO_ENSUREPIP}, "apt-get install python3-venv"),
    ],
    ids=["no Python", "an old one", "no ensurepip", "no ensurepip in python3"],
)
def test_what_is_missing_is_said_in_one_line(tmp_path: Path, pythons: dict[str, str], hint: str) -> None:
    done = make(tmp_path, pythons)
    assert done.returncode == 2
    said = [line for line in done.stderr.splitlines() if not line.startswith("make:")]
    assert len(said) == 1, done.stderr
    assert hint in said[0]
    assert not (tmp_path / ".venv").exists()
