"""Which languages a text can be in, by its commonest words: enough to keep one language's rules off another's texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import chain

MAX_WORDS = 120
MIN_SEEN = 3  # fewer common words than this say nothing


def possible(text: str, common: Mapping[str, tuple[str, ...]]) -> frozenset[str] | None:
    """Codes of the languages that a folded text can be in; None where it is too short, or in another script."""
    words = text.split(" ", MAX_WORDS)[:MAX_WORDS]
    seen = Counter(chain.from_iterable([common.get(word.strip('.,;:!?"()'), ()) for word in words]))
    best = max(seen.values(), default=0)
    if best < MIN_SEEN:
        return None
    return frozenset(code for code, count in seen.items() if count * 10 >= best * 7 or count >= best - 1)
