"""What a person would read of an HTML part, in linear time and without a tree.

A bounced message's HTML is text with a few tags; building a DOM costs more than all the rest of a verdict.
Every loop below moves forward only, so hostile input costs no more than its length.
"""

from __future__ import annotations

import re
from html import unescape

_HIDDEN = (("<!--", "-->"), ("<style", "</style"), ("<script", "</script"), ("<title", "</title"))
_BLOCK = re.compile(
    r"<(?:br|/?p|/?div|/?tr|/?li|/?h[1-6]|/?table|/?ul|/?ol|hr|/?blockquote|/?pre|/?center|/?body)(?:[\s/][^<>]*)?>",
    re.IGNORECASE,
)
_CELL = re.compile(r"<(?:/td|/th|td|th|/span|/dt|/dd)(?:[\s/][^<>]*)?>", re.IGNORECASE)
_TAG = re.compile(r"</?[a-zA-Z!?][^<>\s@]*(?:\s[^<>]*)?>")
_SPACE = re.compile(r"[ \t\xa0\r\f\u200b]+")
_LINES = re.compile(r" ?\n[ \n]*\n ?")


def _without(html: str, opening: str, closing: str) -> str:
    lowered = html.lower()
    at = lowered.find(opening)
    if at < 0 or len(lowered) != len(html):
        return html
    kept, done = [], 0
    while at >= 0:
        end = lowered.find(closing, at)
        kept.append(html[done:at])
        if end < 0:
            done = at + len(opening) if opening == "<!--" else len(html)
            break
        done = end + len(closing)
        at = lowered.find(opening, done)
    kept.append(html[done:])
    return " ".join(kept)


def to_text(html: str) -> str:
    """HTML as plain text: blocks become lines, tags, comments, styles and scripts go, entities are resolved.

    `<user@host>` that somebody forgot to escape stays.
    """
    for opening, closing in _HIDDEN:
        html = _without(html, opening, closing)
    if "<pre" not in html and "<PRE" not in html:
        html = html.replace("\n", " ")
    html = _CELL.sub(" ", _BLOCK.sub("\n", html))
    text = unescape(_TAG.sub("", html))
    text = _SPACE.sub(" ", text)
    return _LINES.sub("\n\n", text).strip()
