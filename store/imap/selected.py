"""A mailbox that a session has selected: what `fetch.py` and `actions.py` work with, and where their answers go."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from store.imap.backend import Backend
from store.imap.roles import Role
from store.imap.view import View


class Output(Protocol):
    """Where responses go."""

    async def send(self, data: bytes) -> None:
        """Write, and wait while the client is slow; raises ConnectionError when it is too slow or gone."""


@dataclass(frozen=True, slots=True)
class Selected:
    """The client's view of the folder, what the account may do in it, and the two ends."""

    view: View
    role: Role
    backend: Backend
    out: Output

    async def tell(self, *, expunge: bool, uid: bool = False, told: Iterable[int] = ()) -> None:
        """Send what has changed; see `View.news`."""
        news = b"".join(self.view.news(expunge=expunge, uid=uid, told=told))
        if news:
            await self.out.send(news)

    def leave(self) -> None:
        """Give the folder back."""
        self.backend.release(self.view.columns, self.view.account)
