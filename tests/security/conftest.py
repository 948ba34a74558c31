"""A tap of real processes, shared by the tests of a file: they attack, they do not change it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import HandlerProcess
from tests.support.tap import Tap


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tap")


@pytest.fixture(scope="module")
def handler(directory: Path) -> Iterator[HandlerProcess]:
    process = HandlerProcess(directory).start()
    yield process
    process.stop()


@pytest.fixture(scope="module")
def tap(directory: Path, handler: HandlerProcess) -> Iterator[Tap]:
    """Proxy, filer and IMAP server; one reader and one analyst; a careless umask, an open state directory."""
    before = os.umask(0o022)
    (directory / "var").mkdir(mode=0o755)
    tap = Tap(directory, handler_port=handler.port, extra='[journal]\nreserve = "10MB"\n')
    try:
        for name, role in (("rita", "reader"), ("anna", "analyst")):
            done = tap.cli("account", "add", name, "--role", role, "--password-stdin", stdin=b"a good password\n")
            assert done.returncode == 0, done.stderr
        tap.start("proxy", "filer", "imap")
        yield tap
    finally:
        os.umask(before)
        tap.stop()
