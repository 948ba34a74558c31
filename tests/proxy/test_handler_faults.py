"""Every way in which the handler can fail: what the sender sees, what the handler gets, what the journal holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.faults import ROWS, Row, observe


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_fault(row: Row, tmp_path: Path) -> None:
    assert await observe(row, tmp_path) == row.expect


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_fault_where_temporary_failures_are_passed_on(row: Row, tmp_path: Path) -> None:
    seen = await observe(row, tmp_path, on_tempfail="pass")
    assert seen.sender == row.passing
    if row.passing == row.expect.sender:
        assert seen == row.expect
    else:  # the sender keeps it: it is never replayed
        assert (seen.taken, seen.then_taken) == (0, 0)
        assert seen.then_journal == "open, answered 451"
