"""Return dates (being written)."""


def returns_on(text: str, date: str | None, year: int | None) -> str | None:
    return None
