r"""What a role may do in the quarantine: the contract's three roles as data.

Per account: `\Seen`, `\Answered`, `\Deleted`; shared: `\Flagged` and keywords. `\Draft` and `\Recent` are never
stored.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from store.imap.columns import ANSWERED, DELETED, SEEN

_OWN = {b"\\seen": SEEN, b"\\answered": ANSWERED, b"\\deleted": DELETED}


@dataclass(frozen=True, slots=True)
class Role:
    r"""A role's rights.

    `own` are the bits of the account's flags that it may set; `shared` whether `\Flagged`, keywords, COPY, MOVE
    and EXPUNGE are allowed; `expunge_held` whether EXPUNGE takes what is `\Flagged` too.
    """

    name: str
    own: int
    shared: bool
    expunge_held: bool

    @property
    def permanent_flags(self) -> bytes:
        """The words of PERMANENTFLAGS."""
        return b"\\Answered \\Flagged \\Deleted \\Seen \\*" if self.shared else b"\\Seen"


ROLES = {
    "reader": Role("reader", SEEN, shared=False, expunge_held=False),
    "analyst": Role("analyst", SEEN | ANSWERED | DELETED, shared=True, expunge_held=False),
    "admin": Role("admin", SEEN | ANSWERED | DELETED, shared=True, expunge_held=True),
}


@dataclass(frozen=True, slots=True)
class FlagChange:
    r"""A STORE as far as a role allows it: bits and keywords to set and to clear.

    `flagged` None leaves `\Flagged` alone. `replace_keywords`: those not in `add` go.
    """

    set_bits: int = 0
    clear_bits: int = 0
    flagged: bool | None = None
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    replace_keywords: bool = False

    @property
    def touches_shared(self) -> bool:
        """Whether others see the change."""
        return self.flagged is not None or bool(self.add or self.remove) or self.replace_keywords


def flag_change(role: Role, sign: str, flags: Iterable[bytes]) -> FlagChange | None:
    """What a STORE does under a role; None where it asks only for what the role may not do."""
    wanted = tuple(dict.fromkeys(flags))
    bits = sum({_OWN.get(f.lower(), 0) for f in wanted}) & role.own
    keywords = tuple(f.decode("ascii") for f in wanted if not f.startswith(b"\\")) if role.shared else ()
    flagged = role.shared and any(f.lower() == b"\\flagged" for f in wanted)
    if wanted and not (bits or keywords or flagged):
        return None
    if sign == "+":
        return FlagChange(set_bits=bits, flagged=True if flagged else None, add=keywords)
    if sign == "-":
        return FlagChange(clear_bits=bits, flagged=False if flagged else None, remove=keywords)
    return FlagChange(
        set_bits=bits,
        clear_bits=role.own & ~bits,
        flagged=flagged if role.shared else None,
        add=keywords,
        replace_keywords=role.shared,
    )
