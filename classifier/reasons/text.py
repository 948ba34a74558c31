"""Refusal texts made comparable: folded (one line, lower case, plain punctuation) and masked (no names, no numbers).

A multi-line SMTP reply repeats its codes inside sentences, and relay names, addresses and links contain words that
mean nothing (mx1.mailspamprotection.example is not "spam"). General rules see the masked form only; rules of one
receiver see the folded form, where host names and link paths are telling.
"""

from __future__ import annotations

import re
from typing import Any

import re2

from classifier.fold import letters
from classifier.rulebook import Scan

MAX_DIAGNOSTIC = 8 * 1024  # characters looked at of a diagnostic
MAX_PROSE = 32 * 1024  # and of a report's human-readable part

# "550-5.1.1 text 550 5.1.1 more" (RFC 5321 section 4.2.1): repeated codes only cut sentences apart.
_CONTINUED = re.compile(r"[245][0-5]\d-")
_REPLY_CODES = re.compile(
    r"(?<!\S)(?:(?:<<< )?([245][0-5]\d)([- ])(?:#?([245]\.\d{1,3}\.\d{1,3}) )?|([245]\.\d{1,3}\.\d{1,3}) )"
)


def _both(pattern: str) -> tuple[Any, Any]:
    """The pattern for short words (`re` is quicker to call) and for long ones (RE2 stays linear)."""
    return re.compile(pattern), re2.compile(pattern)


_URL = _both(r"(?:https?|ftp)://[^\s<>\"')\]]+|\bwww\.[^\s<>\"')\]]+")
_ADDRESS = _both(r"<?[^\s<>@\"'(),;:\[\]]+@[^\s<>@\"'(),;:\[\]]+>?")
_IP = _both(r"\[?\b\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b\]?|\[?\b(?:ipv6:)?[0-9a-f]{1,4}:[0-9a-f:]*:[0-9a-f:.]*\]?")
# Two labels with a well-known end, or three and more. Microsoft's dotted words (RESOLVER.ADR.RecipNotFound) are none.
_HOST = _both(
    r"\b[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.(?:com|net|org|edu|gov|mil|int|info|biz|name|arpa|local|lan|internal|localdomain"
    r"|example|test|invalid|cloud|email|online|site|shop|app|dev|xyz|top|club|pro|[a-z]{2})\b\.?"
    r"|\b[a-z0-9_-]+\.[a-z0-9_-]+\.[a-z0-9_-]*[a-z][a-z0-9_-]*\b"
)
# Words around a refusal that every report of its kind has, and that say nothing of the cause: who asked what when,
# and the sentences of form letters.
_BOILERPLATE = re2.compile(
    r"\(?in reply to (?:the )?[a-z ]{2,20} command\)?|smtp error from remote (?:mail server|mailer) (?:after|during) "
    r"(?:end of data|initial connection|sending data block|pipelined [a-z ]*|"
    r"[a-z]+(?: (?:to|from))?:?(?:addr)?)(?: size=\d+)?:?"
    r"|\(?this is (?:only )?a (?:permanent|temporary|transient) (?:error|failure)(?: report)?"
    r"|technical details of (?:permanent|temporary) failure:?"
    r"|\b(?:temp|perm)_failure:?|permanent (?:fatal )?errors|transient non-fatal errors"
    r"|please note that this is only a temporary failure report"
    r"|\bonly a temporary failure report|(?:[245]\.\d+\.\d+ )?(?:- )?"
    r"(?:unknown address error|other mail system problem|other network problem|"
    r"unspecified mail system problem) [245]\d\d[- ]?['\"]|<no answer>|rfc822;|delivery attempts: \d+"
)
_NOT_A_HOST = ("resolver.", "storedrv", "smtpsend", "transport.", "routing.", "agent", "queue.", "moderat", "approval")


class Text:
    """One text in its two forms, each made when it is first asked for; `folded` is what evidence quotes."""

    def __init__(self, text: str, limit: int) -> None:
        self._text = text
        self._limit = limit
        self._folded: str | None = None
        self._scan: Scan | None = None
        self._masked: str | None = None

    @property
    def folded(self) -> str:
        """One line, lower case, the codes that a reply repeats taken out."""
        if self._folded is None:
            self._folded = join_reply_lines(fold(self._text, self._limit))
        return self._folded

    @property
    def scan(self) -> Scan:
        """`folded`, to be looked through for receivers and their rules."""
        if self._scan is None:
            self._scan = Scan(self.folded)
        return self._scan

    @property
    def masked(self) -> str:
        """`folded` without names, numbers and boilerplate."""
        if self._masked is None:
            self._masked = mask(self.folded)
        return self._masked


def fold(text: str, limit: int) -> str:
    """Lower case, accents off, runs of white space as one space, plain quotes; the first `limit` characters only."""
    return letters(" ".join(text[:limit].split()))


def join_reply_lines(folded: str) -> str:
    """Drop the codes that a multi-line reply repeats within its sentences. The first of each run stays."""
    if not _CONTINUED.search(folded):
        return folded
    reply = enhanced = ""  # of the multi-line reply that we are in

    def keep_first(found: re.Match[str]) -> str:
        nonlocal reply, enhanced
        code, mark, own, lone = found.groups()
        if lone is not None:
            return "" if reply and lone == enhanced else found.group()
        if code == reply and (own or "") in ("", enhanced):
            if mark == " ":
                reply = ""
            return ""
        reply, enhanced = (code, own or "") if mark == "-" else ("", "")
        return found.group()

    return _REPLY_CODES.sub(keep_first, folded)


def mask(folded: str) -> str:
    """Replace links, addresses, IP addresses and host names by the words url, addr, ip and host."""
    if "." in folded or "@" in folded:
        words = folded.split(" ")
        for i, word in enumerate(words):
            if "." in word[1:-1] or "@" in word:
                words[i] = _mask_word(word)
        folded = " ".join(words)
    data, kept, done = folded.encode("utf-8", "replace"), [], 0
    for found in _BOILERPLATE.finditer(data):
        start, end = found.span()
        kept.append(data[done:start])
        done = end
    return b" ".join([*kept, data[done:]]).decode("utf-8") if done else folded


def _mask_word(word: str) -> str:
    """One word of a folded text: none of what is masked has a space in it."""
    long = len(word) > 200
    if "://" in word or "www." in word:
        word = _URL[long].sub("url", word)
    if "@" in word:
        word = _ADDRESS[long].sub("addr", word)
    if "." in word and not word.startswith("/"):  # a path is no host
        word = _HOST[long].sub(_mask_host, _IP[long].sub("ip", word))
    return word


def _mask_host(found: re.Match[str]) -> str:
    name = found.group()
    return name if name.startswith(_NOT_A_HOST) else "host"
