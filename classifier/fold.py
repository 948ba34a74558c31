"""Texts as the rules see them: one spelling for what people write in many ways.

Lower case, compatibility forms resolved (NFKC), accents of Latin, Greek and Cyrillic letters off (people leave them
out), Arabic and Hebrew points off, one kind of apostrophe, quote and dash, white space collapsed. Rule files are
folded the same way when they are read, so they are written as people write.
"""

from __future__ import annotations

import re
import unicodedata

_MARKS = (
    (0x300, 0x36F), (0x591, 0x5C7), (0x640, 0x640), (0x64B, 0x655), (0x670, 0x670),  # accents and points
    (0xAD, 0xAD), (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x2069), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF),  # unseen
)  # fmt: skip
_DROPPED = "".join(chr(c) for first, last in _MARKS for c in range(first, last + 1))
_UNIFIED = {
    "ı": "i", "ł": "l",
    "ø": "o", "đ": "d", "æ": "ae", "œ": "oe", "ð": "d", "þ": "th", "ς": "σ", "ə": "e", "ħ": "h",
    "’": "'", "‘": "'", "ʼ": "'", "ʻ": "'", "`": "'", "´": "'", "ʹ": "'", "′": "'", "՚": "'",
    "“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "‹": '"', "›": '"',
    "–": "-", "—": "-", "‑": "-", "‐": "-", "−": "-",
    "ي": "ی", "ى": "ی", "ك": "ک", "ة": "ه", "。": ".", "、": ",",
}  # fmt: skip
_TABLE = str.maketrans({**dict.fromkeys(_DROPPED), **_UNIFIED})
_CJK = "\u3005-\u30ff\u3400-\u9fff\uf900-\ufaff"
_CJK_BREAK = re.compile(f" (?<=[{_CJK}] )(?=[{_CJK}])")  # the blank first, which is quick to find


def fold(text: str) -> str:
    """One line of folded text; linear in its length."""
    return letters(" ".join(text.split()))


def letters(text: str) -> str:
    """Fold the letters only: white space stays as it is, but for line breaks within Chinese and Japanese."""
    if text.isascii():
        return text.lower().replace("`", "'")
    text = unicodedata.normalize("NFKD", text).casefold().translate(_TABLE)
    return _CJK_BREAK.sub("", unicodedata.normalize("NFC", text))
