"""Accounts: added, verified, changed, removed; and what must not be accepted."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.accounts import Accounts
from tests.support.store import settings_for


def test_an_account_from_first_to_last(tmp_path: Path) -> None:
    accounts = Accounts.open(settings_for(tmp_path))
    accounts.add("ann", "correct horse", "reader")
    accounts.add("zoë", "pässwörd", "admin")
    assert accounts.list() == [("ann", "reader"), ("zoë", "admin")]
    assert accounts.verify("ann", "correct horse") == "reader"
    assert accounts.verify("zoë", "pa\u0308sswo\u0308rd") == "admin"  # the same letters, composed otherwise
    for name, password in (("ann", "wrong"), ("ann", ""), ("nobody", "correct horse"), ("ann", "x" * 10**6)):
        assert accounts.verify(name, password) is None
    accounts.add("ann", "new", "analyst")
    assert accounts.verify("ann", "new") == "analyst"
    assert accounts.verify("ann", "correct horse") is None
    assert accounts.remove("ann")
    assert not accounts.remove("ann")
    assert accounts.verify("ann", "new") is None
    assert accounts.role("ann") is None
    accounts.close()


def test_a_password_is_not_stored(tmp_path: Path) -> None:
    accounts = Accounts.open(settings_for(tmp_path))
    accounts.add("ann", "correct horse", "reader")
    accounts.close()
    assert all(b"correct horse" not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("name", "password", "role"),
    [("", "x", "reader"), ("a", "", "reader"), ("a", "x", "root"), ("a\nb", "x", "reader"), ("a" * 256, "x", "admin")],
)
def test_what_cannot_be(tmp_path: Path, name: str, password: str, role: str) -> None:
    accounts = Accounts.open(settings_for(tmp_path))
    with pytest.raises(ValueError, match=r"account name|password|role"):
        accounts.add(name, password, role)
    accounts.close()
