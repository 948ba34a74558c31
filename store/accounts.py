"""Who may log in over IMAP: names, roles, and passwords hashed by scrypt (RFC 7914), which is memory-hard.

A verification takes the same work whether the account exists or not, and no longer passwords are tried than 1,000
characters.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import time
import unicodedata

import sqlalchemy as sa

from store.index import Index
from store.quarantine import Quarantine
from store.schema import account_flags, accounts
from store.settings import StoreSettings

ROLES = ("reader", "analyst", "admin")
NAME_CHARS = 255
PASSWORD_CHARS = 1000
_N, _R, _P = 2**14, 8, 1  # 16 MiB, about 40 ms
_MAX_MEMORY_BYTES = 64 * 1024 * 1024
_SALT_BYTES, _HASH_BYTES = 16, 32


class Accounts:
    """The accounts of an index. Thread-safe; every function blocks."""

    def __init__(self, index: Index) -> None:
        self._index = index

    @classmethod
    def open(cls, settings: StoreSettings) -> Accounts:
        """The accounts of the quarantine, which is created if need be. Raises IndexUnusable, OSError."""
        return cls(Quarantine.open(settings).index)

    def close(self) -> None:
        """Gives the index's connections back."""
        self._index.close()

    def add(self, name: str, password: str, role: str) -> None:
        """Add an account, or give it a new password and role. Raises ValueError for what cannot be."""
        if role not in ROLES:
            raise ValueError(f"unknown role {role!r}; one of {', '.join(ROLES)}")
        if not name or len(name) > NAME_CHARS or not name.isprintable():
            raise ValueError(f"an account name has 1 to {NAME_CHARS} printable characters")
        if not password or len(password) > PASSWORD_CHARS or "\0" in password:
            raise ValueError(f"a password has 1 to {PASSWORD_CHARS} characters, and no NUL")
        values = {"role": role, "password": hashed(password)}
        with self._index.write() as connection:
            changed = connection.execute(sa.update(accounts).where(accounts.c.name == name).values(values))
            if not changed.rowcount:
                connection.execute(sa.insert(accounts).values(name=name, created_ns=time.time_ns(), **values))

    def list(self) -> list[tuple[str, str]]:
        """(name, role), by name."""
        with self._index.read() as connection:
            rows = connection.execute(sa.select(accounts.c.name, accounts.c.role).order_by(accounts.c.name))
            return [(name, role) for name, role in rows]

    def role(self, name: str) -> str | None:
        """An account's role now; None if there is none (any more)."""
        with self._index.read() as connection:
            found = connection.execute(sa.select(accounts.c.role).where(accounts.c.name == name)).scalar_one_or_none()
        return None if found is None else str(found)

    def remove(self, name: str) -> bool:
        """Remove an account and its flags; False if there was none."""
        with self._index.write() as connection:
            query = sa.select(accounts.c.pk).where(accounts.c.name == name)
            pk = connection.execute(query).scalar_one_or_none()
            if pk is None:
                return False
            connection.execute(sa.delete(account_flags).where(account_flags.c.account_pk == pk))
            connection.execute(sa.delete(accounts).where(accounts.c.pk == pk))
        return True

    def verify(self, name: str, password: str) -> str | None:
        """The role of the account if the password is right, else None; in the same time whatever is wrong."""
        with self._index.read() as connection:
            query = sa.select(accounts.c.role, accounts.c.password).where(accounts.c.name == name)
            row = connection.execute(query).one_or_none()
        right = _matches(password[:PASSWORD_CHARS], row.password if row is not None else _NOBODY)
        return str(row.role) if row is not None and right else None


def hashed(password: str) -> str:
    """`scrypt$n$r$p$salt$hash`, salted anew each time."""
    salt = os.urandom(_SALT_BYTES)
    return "$".join(("scrypt", str(_N), str(_R), str(_P), _text(salt), _text(_scrypt(password, salt, _N, _R, _P))))


def _matches(password: str, stored: str) -> bool:
    _, n, r, p, salt, digest = stored.split("$")
    computed = _scrypt(password, base64.b64decode(salt), int(n), int(r), int(p))
    return hmac.compare_digest(computed, base64.b64decode(digest))


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    # The same characters may be typed as different code points (RFC 8265 section 4.2 asks for NFC).
    secret = unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
    return hashlib.scrypt(secret, salt=salt, n=n, r=r, p=p, maxmem=_MAX_MEMORY_BYTES, dklen=_HASH_BYTES)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


_NOBODY = "$".join(("scrypt", str(_N), str(_R), str(_P), _text(bytes(_SALT_BYTES)), _text(bytes(_HASH_BYTES))))
