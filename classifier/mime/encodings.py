"""Transfer encodings, charsets and encoded words, decoded for reading: nothing here ever raises.

What is undecodable comes out as U+FFFD or as it stands; a wrong or unknown charset label falls back on what
the bytes look like (RFC 2045 section 6, RFC 2047, RFC 2231 section 4).
"""

from __future__ import annotations

import binascii
import codecs
import encodings
import encodings.aliases
import pkgutil
import quopri
import re
from functools import lru_cache

# Python codecs that are no mail charsets: some are quadratic or decode to something else than text.
_NO_CHARSETS = frozenset({"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem"})
_KNOWN = {module.name for module in pkgutil.iter_modules(encodings.__path__)} | set(encodings.aliases.aliases)
UUENCODED = frozenset({"x-uuencode", "uuencode", "x-uue", "x-uu"})
_ALIASES = {
    "unicode-1-1-utf-7": "utf-7",
    "x-gbk": "gb18030",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "gb_2312-80": "gb18030",
    "x-sjis": "cp932",
    "shift_jis": "cp932",
    "shift-jis": "cp932",
    "ks_c_5601-1987": "cp949",
    "euc-kr": "cp949",
    "iso-2022-jp": "iso2022_jp_3",
    "iso-8859-1": "cp1252",
    "latin1": "cp1252",
    "us-ascii": "ascii",
    "iso-8859-8-i": "iso-8859-8",
    "windows-874": "cp874",
    "tis-620": "cp874",
    "cp-850": "cp850",
    "x-mac-roman": "mac_roman",
    "macintosh": "mac_roman",
}
_WORD = r"=\?([^?\s]{1,64})\?([bBqQ])\?([^?]*)\?="
_ENCODED_WORD = re.compile(_WORD)
_ENCODED_WORDS = re.compile(rf"{_WORD}(?:[ \t\n]*{_WORD})*")
_UU_END = (b"end", b"`", b" ")
_BASE64_JUNK = re.compile(rb"[^A-Za-z0-9+/]+")


@lru_cache(maxsize=256)
def codec(charset: str) -> str | None:
    """Name the Python codec that reads `charset`, None where there is none."""
    name = charset.strip().strip("\"'").lower().partition("*")[0]
    name = _ALIASES.get(name, name)
    if encodings.normalize_encoding(name) not in _KNOWN:  # Python remembers every name it is asked for, for ever
        return None
    try:
        info = codecs.lookup(name)
    except (LookupError, ValueError, UnicodeError):
        return None
    if info.name.replace("-", "_") in _NO_CHARSETS or not getattr(info, "_is_text_encoding", True):
        return None
    return info.name


def decode(data: bytes, charset: str | None = None) -> str:
    """Bytes as text: by the label if it fits, else UTF-8, else what the bytes look like."""
    name = codec(charset) if charset else None
    if b"\x1b$" in data and (name is None or not name.startswith("iso2022")):
        name = "iso2022_jp_3"
    if name is None or name == "ascii":
        if data.isascii():
            return data.decode("ascii")
        name = "utf-8"
    if name == "utf-8":
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            if error.start > len(data) - 4 or data.count(b"\xc3") + data.count(b"\xe2") > len(data) // 100 > 1:
                return data.decode("utf-8", "replace")
            return data.decode("cp1252", "replace")
    try:
        text = data.decode(name, "replace")
    except (UnicodeError, ValueError, LookupError, OverflowError):
        return data.decode("latin-1")
    # UTF-7 has lone surrogates in spite of "replace", which no text can be encoded with.
    return text.encode("utf-8", "replace").decode("utf-8") if name.startswith(("utf_7", "utf-7")) else text


def from_base64(data: bytes) -> bytes:
    """Base64 with anything in between and at its end ignored; stops at padding followed by text."""
    pad = data.find(b"=")
    if pad >= 0:
        data = data[:pad]
    data = _BASE64_JUNK.sub(b"", data)
    usable = len(data) - (len(data) % 4 == 1)
    data = data[:usable] + b"=" * (-usable % 4)
    try:
        return binascii.a2b_base64(data)
    except binascii.Error:
        return b""


def from_uuencode(data: bytes) -> bytes:
    """A uuencoded file (POSIX uuencode) from its `begin` line on; stops at what is none."""
    lines = iter(data.split(b"\n"))
    decoded = []
    if any(line.startswith(b"begin ") for line in lines):
        for line in lines:
            if line.rstrip() in _UU_END:
                break
            try:
                decoded.append(binascii.a2b_uu(line))
            except binascii.Error:
                break
    return b"".join(decoded)


def from_transfer(data: bytes, encoding: str, limit: int) -> bytes:
    """Undo a Content-Transfer-Encoding; at most `limit` bytes come out."""
    if encoding == "base64":
        return from_base64(data[: limit * 7 // 5 + 100])[:limit]
    if encoding == "quoted-printable":
        return quopri.decodestring(data[: limit * 3])[:limit]
    if encoding in UUENCODED:
        return from_uuencode(data[: limit * 3])[:limit]
    return data[:limit]


def _encoded_words(match: re.Match[str]) -> str:
    """Words that touch, as one text: some senders cut a character in two, or a base64 group (RFC 2047 section 5)."""
    runs: list[tuple[str, str, list[str]]] = []
    for charset, how, text in _ENCODED_WORD.findall(match.group()):
        if not runs or runs[-1][:2] != (charset, how):
            runs.append((charset, how, []))
        runs[-1][2].append(text)
    try:
        return "".join(decode(_word_bytes(how, texts), charset) for charset, how, texts in runs)
    except ValueError:
        return match.group()


def _word_bytes(how: str, texts: list[str]) -> bytes:
    pieces = [text.encode("latin-1", "replace") for text in texts]
    if how in "qQ":
        return b"".join(quopri.decodestring(piece, header=True) for piece in pieces)
    padded = any(b"=" in piece for piece in pieces[:-1])
    return b"".join(map(from_base64, pieces)) if padded else from_base64(b"".join(pieces))


def header_text(raw: bytes) -> str:
    """A field body for reading: unfolded, encoded words decoded, raw 8-bit guessed (RFC 5322, RFC 2047)."""
    text = raw.decode("ascii") if raw.isascii() and b"\x1b" not in raw else decode(raw)
    if "\n" in text:
        text = text.replace("\n", "")
    text = text.strip(" \t")
    if "=?" not in text:
        return text
    return _ENCODED_WORDS.sub(_encoded_words, text)
