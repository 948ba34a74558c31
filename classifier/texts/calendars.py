"""Days of the Persian calendar as Gregorian days: notices from Iran give them without saying so.

The arithmetic calendar with its cycle of 33 years: leap years are those whose number has a remainder of 1, 5, 9, 13,
17, 22, 26 or 30. It agrees with the astronomical one from 1343 to 1472 (1964 to 2093).
"""

from __future__ import annotations

import datetime as dt

FIRST_YEAR, LAST_YEAR = 1343, 1472
MONTHS = (
    "فروردین", "اردیبهشت", "خرداد", "تیر", "مرداد", "شهریور", "مهر", "آبان", "آذر", "دی", "بهمن", "اسفند",
)  # fmt: skip
_LEAP = frozenset({1, 5, 9, 13, 17, 22, 26, 30})
_NEW_YEAR_1343 = dt.date(1964, 3, 21)


def persian(year: int, month: int, day: int) -> dt.date | None:
    """The Gregorian day; None for a day that does not exist, or outside of `FIRST_YEAR` to `LAST_YEAR`."""
    if not (FIRST_YEAR <= year <= LAST_YEAR and 1 <= month <= 12 and 1 <= day <= _days(year, month)):
        return None
    years = sum(366 if y % 33 in _LEAP else 365 for y in range(FIRST_YEAR, year))
    return _NEW_YEAR_1343 + dt.timedelta(years + sum(_days(year, m) for m in range(1, month)) + day - 1)


def persian_year(sent: dt.date) -> int:
    """The Persian year that begins in the Gregorian year of `sent`."""
    return sent.year - 621


def _days(year: int, month: int) -> int:
    if month <= 6:
        return 31
    return 30 if month < 12 or year % 33 in _LEAP else 29
