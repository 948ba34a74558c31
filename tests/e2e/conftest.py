"""The tap and its handler as real processes, one pair a test."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.tap import Tap, free_port, wait_for


class HandlerProcess:
    """`tests.support.handler` as a process, whose log of accepted messages outlives it."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.log_path = directory / "handler.jsonl"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> HandlerProcess:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.handler", "--port", str(self.port), "--log", str(self.log_path)],
            stdout=subprocess.PIPE, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stdout.readline()
        return self

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdout:
                self._process.stdout.close()

    def accepted(self) -> list[dict[str, Any]]:
        if not self.log_path.exists():
            return []
        lines = self.log_path.read_text(encoding="utf-8").split("\n")[:-1]
        return [json.loads(line) for line in lines]


@pytest.fixture
def handler(tmp_path: Path) -> Iterator[HandlerProcess]:
    process = HandlerProcess(tmp_path).start()
    yield process
    process.stop()


@pytest.fixture
def make_tap(tmp_path: Path, handler: HandlerProcess) -> Iterator[Callable[..., Tap]]:
    made: list[Tap] = []

    def make(**options: Any) -> Tap:
        directory = options.pop("directory", tmp_path / f"tap{len(made)}")
        directory.mkdir(exist_ok=True)
        tap = Tap(directory, handler_port=handler.port, **options)
        made.append(tap)
        return tap

    yield make
    for tap in made:
        tap.stop()


@pytest.fixture
def tap(make_tap: Callable[..., Tap]) -> Tap:
    return make_tap(extra='[journal]\nreserve = "10MB"\n')


__all__ = ["HandlerProcess", "wait_for"]
