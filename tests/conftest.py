"""What all tests share: where the labelled corpus is, and what happens where a system package is absent."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORPUS = Path(os.environ.get("BOUNCETAP_CORPUS", ROOT.parent / "shared/corpus/dev"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test marked `system(NAME)` needs that command: absent, it skips by name, and fails in CI."""
    for item in items:
        for mark in item.iter_markers("system"):
            missing = [name for name in mark.args if shutil.which(name) is None]
            if missing and not os.environ.get("CI"):
                item.add_marker(pytest.mark.skip(reason=f"{', '.join(missing)} is not installed: left untested"))
        if item.get_closest_marker("corpus") and not CORPUS.is_dir():
            item.add_marker(pytest.mark.skip(reason=f"the labelled messages are not at {CORPUS}: left untested"))


@pytest.fixture
def corpus() -> Path:
    """The directory of labelled messages (`../shared/corpus/dev`, or $BOUNCETAP_CORPUS)."""
    return CORPUS
