"""When somebody is back: the date in "until 7 December", "bis zum 12.08.", "12月7日まで", as ISO 8601.

Dates without a year are completed from the message's own date: the first such day not long before it. A date whose
day and month could be swapped is read as the text's language orders them, or not at all: no date is better than a
wrong one. Of several dates the last one of the first range counts ("from 3 to 14 May").
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cache

from classifier.fold import fold
from classifier.texts.book import book
from classifier.texts.calendars import MONTHS, persian, persian_year

MAX_CHARS = 1200
_EARLIEST_DAYS = -14  # a notice may still go out some days after its date
_ISO = re.compile(r"\b(20\d\d)[-/.](\d{1,2})[-/.](\d{1,2})\b")
_CJK = re.compile(r"(?:(20\d\d)\s?[年년]\s?)?(\d{1,2})\s?[月월]\s?(\d{1,2})\s?[日号號일]")
_NUMERIC = re.compile(r"(?<![\d.:/-])(\d{1,2})([./-])\s?(\d{1,2})(?:\2\s?(20\d\d|\d\d)?)?(?![\d:%])")
_FAR_EAST = re.compile("[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]")  # there the month comes first
_PERSIAN = re.compile(
    rf"(?<!\d)(\d{{1,2}}) ?(?:م )?({'|'.join(fold(name) for name in MONTHS)})(?!\w)(?: ماه)?(?: (1[34]\d\d))?"
    r"|\b(1[34]\d\d)[/.-](\d{1,2})[/.-](\d{1,2})\b"
)
_PERSIAN_MONTHS = {fold(name): number for number, name in enumerate(MONTHS, 1)}
_ORDINAL = re.compile(
    r"\b(?:until|till|til|through|back(?: on)?|returning(?: on)?) (?:the )?(\d{1,2})(?:st|nd|rd|th)\b"
)
_LAST_DAY = 31
_ZEROS = (0x660, 0x6F0, 0x966, 0x9E6, 0xBE6, 0xC66, 0xE50)  # Arabic, Persian, Indian and Thai digits
_DIGITS = {zero + value: str(value) for zero in _ZEROS for value in range(10)}


@dataclass(frozen=True, slots=True)
class _Found:
    at: int
    end: int
    day: dt.date


def returns_on(text: str, date: str | None, year: int | None, tongues: frozenset[str] | None = None) -> str | None:
    """The day until which, or on which, as ISO 8601; None where the folded text tells none for sure.

    `date` is the message's Date field, `year` stands in where it is missing; `tongues` are the text's languages.
    """
    sent = _sent(date, year)
    text = text[:MAX_CHARS].translate(_DIGITS)
    found = sorted(
        [
            *_iso(text),
            *_cjk(text, sent),
            *_persian(text, sent),
            *_named(text, sent, tongues),
            *_numeric(text, sent, tongues),
        ],
        key=lambda f: f.at,
    ) or _ordinal(text, sent)
    if not found:
        return None
    last = found[0]
    for following in found[1:]:
        if following.at - last.end > 40 or following.day < last.day:
            break
        last = following
    return last.day.isoformat()


def _sent(date: str | None, year: int | None) -> dt.date | None:
    try:
        return parsedate_to_datetime(date or "").date()
    except (ValueError, TypeError, IndexError, OverflowError):
        return dt.date(year, 1, 1) if year and 1990 <= year < 2200 else None


def _complete(year: int | None, month: int, day: int, sent: dt.date | None) -> dt.date | None:
    """A date from its parts; without a year the first one that is not much before the message was sent."""
    try:
        if year is not None:
            return dt.date(year + 2000 if year < 100 else year, month, day)
        if sent is None:
            return None
        this = dt.date(sent.year, month, day)
        return this if (this - sent).days >= _EARLIEST_DAYS else dt.date(sent.year + 1, month, day)
    except ValueError:
        return None


def _iso(text: str) -> list[_Found]:
    matches = ((m, _complete(int(m[1]), int(m[2]), int(m[3]), None)) for m in _ISO.finditer(text))
    return [_Found(m.start(), m.end(), day) for m, day in matches if day]


def _cjk(text: str, sent: dt.date | None) -> list[_Found]:
    matches = ((m, _complete(int(m[1]) if m[1] else None, int(m[2]), int(m[3]), sent)) for m in _CJK.finditer(text))
    return [_Found(m.start(), m.end(), day) for m, day in matches if day]


def _persian(text: str, sent: dt.date | None) -> list[_Found]:
    """Days of the Persian calendar; without a year the first one that is not much before the message was sent."""
    found: list[_Found] = []
    for m in _PERSIAN.finditer(text):
        day, month = int(m[1] or m[6]), _PERSIAN_MONTHS[m[2]] if m[2] else int(m[5])
        if year := m[3] or m[4]:
            dates = [persian(int(year), month, day)]
        else:
            dates = [persian(persian_year(sent) + later, month, day) for later in (-1, 0, 1)] if sent else []
        for date in dates:
            if date and (year or sent is None or (date - sent).days >= _EARLIEST_DAYS):
                found.append(_Found(m.start(), m.end(), date))
                break
    return found


def _ordinal(text: str, sent: dt.date | None) -> list[_Found]:
    """Read "until the 14th" as the first such day from the day of sending on."""
    if sent is None or not (m := _ORDINAL.search(text)):
        return []
    month, year = (
        (sent.month, sent.year) if int(m[1]) >= sent.day else (sent.month % 12 + 1, sent.year + sent.month // 12)
    )
    try:
        return [_Found(m.start(), m.end(), dt.date(year, month, int(m[1])))]
    except ValueError:
        return []


def _numeric(text: str, sent: dt.date | None, tongues: frozenset[str] | None) -> list[_Found]:
    orders = {language.dates for code, language in book().languages.items() if tongues and code in tongues}
    order = "mdy" if _FAR_EAST.search(text) else orders.pop() if len(orders) == 1 else "ambiguous"
    found: list[_Found] = []
    for m in _NUMERIC.finditer(text):
        first, second = int(m[1]), int(m[3])
        if (m[2] == "-" and not m[4]) or (m[2] == "." and second > 12):
            continue  # 2-3 is a range of something, 10.30 a time of day
        if first > _LAST_DAY or second > _LAST_DAY or not first or not second or (first > 12 and second > 12):
            continue
        if first <= 12 and second <= 12 and first != second:
            # A dotted date has its day first wherever dots are used; of slashed ones the language tells.
            if m[2] != "." and order not in ("dmy", "mdy"):
                continue
            swapped = m[2] != "." and order == "mdy"
        else:
            swapped = second > 12
        day, month = (second, first) if swapped else (first, second)
        date = _complete(int(m[4]) if m[4] else None, month, day, sent)
        if date:
            found.append(_Found(m.start(), m.end(), date))
    return found


def _named(text: str, sent: dt.date | None, tongues: frozenset[str] | None) -> list[_Found]:
    found: list[_Found] = []
    for code in book().languages:
        if tongues is not None and code not in tongues:
            continue
        written = _months(code)
        for m in written.finditer(text) if written else ():
            number = next(n for n in range(1, 13) if m[f"m{n}"])
            day, year = m["before"] or m["after"], m["year"]
            if not day or not 1 <= int(day) <= _LAST_DAY:
                continue
            date = _complete(int(year) if year else None, number, int(day), sent)
            if date and all(date != f.day or m.start() >= f.end or m.end() <= f.at for f in found):
                found.append(_Found(m.start(), m.end(), date))
    return found


@cache
def _months(code: str) -> re.Pattern[str] | None:
    """A day and a month of one language in either order, the month in group m1 to m12; None where none are listed."""
    names = book().languages[code].months
    if len(names) != 12:
        return None
    month = "|".join(f"(?P<m{number}>{name})" for number, name in enumerate(names, 1))
    return re.compile(
        r"(?:(?<!\d)(?P<before>\d{1,2})(?:st|nd|rd|th|er|\.|º|ª|o|-?(?:го|е))?,? {0,2}(?:de |d'|of |d. |ta' |ng )?)?"
        rf"(?<![^\W\d_])[בלמה]{{0,2}}(?:{month})(?!\w)\.?"
        r"(?: {0,2}(?P<after>\d{1,2})(?:st|nd|rd|th)?(?![\d:]))?(?:,? {0,2}(?:de |del |of )?(?P<year>20\d\d))?"
    )


def load() -> None:
    """Compile all there is, so that no message waits for it."""
    for code in book().languages:
        _months(code)
