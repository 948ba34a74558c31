"""What a person would read of an HTML part, in linear time and without a tree.

A bounced message's HTML is text with a few tags; building a DOM costs more than all the rest of a verdict.
Every loop below moves forward only, so hostile input costs no more than its length.
"""

from __future__ import annotations

import re
from html import unescape

_HIDDEN = re.compile(r"<(?:!--|style|script|title)", re.IGNORECASE)
_SHOWN = {
    "<!--": re.compile("-->"),
    "<style": re.compile("</style[^<>]{0,20}>?", re.IGNORECASE),
    "<script": re.compile("</script[^<>]{0,20}>?", re.IGNORECASE),
    "<title": re.compile("</title[^<>]{0,20}>?", re.IGNORECASE),
}
# The tag's name, then what follows it; "<user@host>" is no tag.
_TAG = re.compile(r"<(/?[a-zA-Z!?][^<>\s@/]*)(?:/[^<>\s@]*)?(?:\s[^<>]*)?>")
_BLOCKS = (
    "p",
    "div",
    "tr",
    "li",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "table",
    "ul",
    "ol",
    "blockquote",
    "pre",
    "center",
    "body",
)
_CELLS = ("td", "th", "/td", "/th", "/span", "/dt", "/dd")
_INSTEAD = {
    **dict.fromkeys(("br", "hr", *_BLOCKS, *(f"/{name}" for name in _BLOCKS)), "\n"),
    **dict.fromkeys(_CELLS, " "),
}
_ENDLESS = re.compile("&#[0-9]{8,};?")  # no character; int() raises for 4,301 digits
_SPACES = re.compile(" {2,}")
_LINES = re.compile(r" ?\n[ \n]*\n ?")


def _shown(html: str) -> str:
    """The document without what is never shown: comments, styles, scripts, its title."""
    kept, done = [], 0
    while hidden := _HIDDEN.search(html, done):
        kept.append(html[done : hidden.start()])
        end = _SHOWN[hidden.group().lower()].search(html, hidden.end())
        if end is None:  # a comment that never ends is none, as browsers see it
            done = hidden.end() if hidden.group() == "<!--" else len(html)
            break
        done = end.end()
    kept.append(html[done:])
    return " ".join(kept)


def to_text(html: str) -> str:
    """HTML as plain text: blocks become lines, tags, comments, styles and scripts go, entities are resolved.

    `<user@host>` that somebody forgot to escape stays.
    """
    html = _shown(html)
    if "<pre" not in html and "<PRE" not in html:
        html = html.replace("\n", " ")
    pieces = _TAG.split(html)  # texts and tags' names in turns
    pieces[1::2] = [_INSTEAD.get(name.lower(), "") for name in pieces[1::2]]
    text = unescape(_ENDLESS.sub("\ufffd", "".join(pieces)))
    for space in "\t\xa0\r\f\u200b":
        text = text.replace(space, " ")
    text = _SPACES.sub(" ", text)
    return _LINES.sub("\n\n", text).strip()
