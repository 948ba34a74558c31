"""Whom a message is about: its sender, the address that a token or the text names, the new address it tells."""

from __future__ import annotations

import re

from classifier import addresses
from classifier.context import NO_CONTEXT, Context
from classifier.mime import Message
from classifier.verdict import AutoReplyType, Recipient

_NOBODY = re.compile(r"^(?:no-?reply|do-?not-?reply|noreply\S*|donotreply\S*|mailer-daemon|postmaster)$", re.IGNORECASE)
MAX_NAMED = 5


def sender(message: Message, targets: tuple[str, ...] = (), context: Context = NO_CONTEXT) -> tuple[Recipient, ...]:
    """The mailbox that wrote; the address that our return path's token names is its `original`."""
    address = _mailbox(message)
    original = _mailed(targets, context)
    if not address and not original:
        return ()
    if original and address and original.lower() == address.lower():
        original = None
    return (Recipient(address=address or original, original=original, confidence=0.95),)


def _mailbox(message: Message) -> str | None:
    for name in ("from", "reply-to", "sender", "return-path"):
        for found in addresses.find((message.headers.get(name) or "")[:2000], 1):
            if not addresses.is_machine(found.address) or name == "return-path":
                return found.address
    return message.from_address if addresses.valid(message.from_address) else None


def opting_out(
    message: Message, text: str, targets: tuple[str, ...], token: str | None, context: Context = NO_CONTEXT
) -> tuple[Recipient, ...]:
    """Whose mail shall end: whom the token names, else whom the text names, else the return path, else the sender."""
    if token:
        return (Recipient(address=token, original=token, confidence=0.99),)
    author, mailed = _mailbox(message), _mailed(targets, context)
    ours = {target.lower() for target in targets} | {target.rpartition("@")[2].lower() for target in targets}
    named = [
        f.address
        for f in addresses.find(text[:4000], MAX_NAMED)
        if f.address.lower() not in ours and f.address.rpartition("@")[2].lower() not in ours
    ]
    people = [Recipient(address=a, confidence=0.9) for a in dict.fromkeys(named)]
    known = {a.lower() for a in named}
    if mailed and mailed.lower() not in known:
        people.append(Recipient(address=mailed, original=mailed, confidence=0.5 if named else 0.95))
        known.add(mailed.lower())
    if author and author.lower() not in known:
        people.append(Recipient(address=author, confidence=0.5 if people else 0.95))
    return tuple(people)


def _mailed(targets: tuple[str, ...], context: Context) -> str | None:
    """The address that our return path names: whom we had sent to."""
    tokens = (addresses.return_path_token(target, context.patterns) for target in targets[:8])
    return next((token.address for token in tokens if token and token.address), None)


def new_address(message: Message, text: str, targets: tuple[str, ...], kind: AutoReplyType) -> str | None:
    """The address that a farewell or a change of address tells; None where several are told, or none."""
    if kind not in (AutoReplyType.LEFT, AutoReplyType.MOVED, AutoReplyType.UNMONITORED):
        return None
    author = (message.from_address or "").lower()
    known = {author} | {target.lower() for target in targets}
    told = [
        a for a in dict.fromkeys(f.address for f in addresses.find(text[:4000], MAX_NAMED)) if a.lower() not in known
    ]
    return told[0] if len(told) == 1 else None
