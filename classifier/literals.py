r"""Which strings a text must contain for a pattern to match it at all: what the rule engine looks for first.

`required(r"(?:user|box).{0,20}unknown")` gives `{"unknown"}` and `{"user", "box"}`: one string of each set is in
every matching text. The pattern is read in RE2's syntax; what is not understood requires nothing, which is slower and
never wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import log2

MAX_STRINGS = 128  # alternatives of one requirement
MAX_LENGTH = 24  # characters of a string: more tells no more
MAX_REQUIREMENTS = 4
LEAST_BITS = 8.0  # what a requirement must tell: less than three common letters stand in every other text
MIN_BITS = 18.0  # what a further requirement must tell
_MAX_SPAN = 8  # characters in a class that count as alternatives
_BY_FREQUENCY = " etaoinsrhldcumfpgwybvkxjqz"
_BITS = {char: 2.5 + 0.25 * rank for rank, char in enumerate(_BY_FREQUENCY)}
_RARE_BITS = 8.0  # digits, punctuation
_FOREIGN_BITS = 12.0  # letters of other scripts, which most texts have none of
_SPECIAL = frozenset("\\[](){}|*+?.^$")
_REPEATS = frozenset("?*+{")
_ENDS_RUN = _SPECIAL | {""}
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "a": "\a"}
_NO_WIDTH = frozenset("bBAz")
_CLASSES = frozenset("dDwWsSpPC")

Strings = frozenset[str]


@dataclass(frozen=True, slots=True)
class _Node:
    """What a part of a pattern can be: exactly one of `exact` (None: endlessly many), and what it requires anyway."""

    exact: Strings | None
    needs: tuple[Strings, ...] = ()


_NOTHING = _Node(frozenset([""]))
_ANYTHING = _Node(None)


class _Unknown(Exception):
    """Syntax that is not read here."""


def required(pattern: str) -> tuple[Strings, ...]:
    """The requirements of a pattern that RE2 accepts, the most telling first; empty where none is known."""
    try:
        reader = _Reader(pattern)
        node = reader.alternatives()
        if reader.at < len(pattern):
            raise _Unknown
    except (_Unknown, RecursionError):
        return ()
    return _best([*node.needs, node.exact or frozenset([""])])


def alternatives(pattern: str) -> list[str]:
    """The branches of a pattern that is an alternation as a whole, else the pattern alone.

    Each branch requires more than all of them together do. Flags at the head hold for all branches: no split there.
    """
    if pattern.startswith("(?") and not pattern.startswith("(?:"):
        return [pattern]
    branches, begin, depth, at = [], 0, 0, 0
    while at < len(pattern):
        char = pattern[at]
        if char == "\\":
            at += 1
        elif char == "[":
            at = _class_end(pattern, at)
        elif char == "|" and not depth:
            branches.append(pattern[begin:at])
            begin = at + 1
        else:
            depth += (char == "(") - (char == ")")
        at += 1
    return [*branches, pattern[begin:]]


def _class_end(pattern: str, at: int) -> int:
    """Where the bracket expression that begins at `at` ends; a `]` at its very beginning is one of its characters."""
    at += 2 if pattern.startswith("[^", at) else 1
    first = at
    while at < len(pattern) and (pattern[at] != "]" or at == first):
        at += 2 if pattern[at] == "\\" else 1
    return at


def _bits(strings: Strings) -> float:
    """How much it tells that one of these stands in a text: the logarithm of how seldom one does."""
    return -log2(sum(map(_chance, strings)))


@lru_cache(maxsize=16384)
def _chance(string: str) -> float:
    """That a text has this string, by its letters."""
    bits = sum(_BITS.get(char, _RARE_BITS if char.isascii() else _FOREIGN_BITS) for char in string)
    return float(2.0**-bits)


def _best(requirements: list[Strings]) -> tuple[Strings, ...]:
    told = {strings: bits for strings in requirements if all(strings) and (bits := _bits(strings)) >= LEAST_BITS}
    ordered = sorted(told, key=lambda strings: (told[strings], sorted(strings)), reverse=True)
    return tuple(s for s in ordered if told[s] >= MIN_BITS or s is ordered[0])[:MAX_REQUIREMENTS]


def _joined(nodes: list[_Node]) -> _Node:
    """One after the other: exact parts that touch make longer strings."""
    needs: list[Strings] = []
    run, whole = frozenset([""]), True
    for node in nodes:
        needs += node.needs
        if node.exact is None:
            needs.append(run)
            run, whole = frozenset([""]), False
            continue
        both = {a + b for a in run for b in node.exact} if len(run) * len(node.exact) <= MAX_STRINGS else None
        if both is None or max(map(len, both)) > MAX_LENGTH:
            needs.append(run)
            run, whole = node.exact, False
        else:
            run = frozenset(both)
    if whole:
        return _Node(run, _best(needs))
    return _Node(None, _best([*needs, run]))


def _either(branches: list[_Node]) -> _Node:
    """One of several: what is required is one of what each requires."""
    if len(branches) == 1:
        return branches[0]
    exact: Strings | None = None
    if all(branch.exact is not None for branch in branches):
        exact = frozenset(s for branch in branches for s in branch.exact or ())
        if len(exact) <= MAX_STRINGS:
            return _Node(exact)
    choices = [_best([*b.needs, *([b.exact] if b.exact else [])])[:1] for b in branches]
    if not all(choices):
        return _ANYTHING
    union = frozenset(s for (strings,) in choices for s in strings)
    return _Node(None, (union,))


class _Reader:
    """Recursive descent over the pattern's characters."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0

    def alternatives(self) -> _Node:
        branches = [self._sequence()]
        while self._take("|"):
            branches.append(self._sequence())
        return _either(branches)

    def _sequence(self) -> _Node:
        nodes: list[_Node] = []
        while self.at < len(self.pattern) and self.pattern[self.at] not in "|)":
            nodes.append(self._repeated(self._atom()))
        return _joined(nodes)

    def _repeated(self, node: _Node) -> _Node:
        while self.at < len(self.pattern) and self.pattern[self.at] in _REPEATS:
            mark = self.pattern[self.at]
            least = 0
            if mark == "{":
                close = self.pattern.find("}", self.at)
                first = self.pattern[self.at + 1 : close].partition(",")[0]
                if close < 0 or not (first.isascii() and first.isdigit()):
                    raise _Unknown
                least, self.at = int(first), close
            self.at += 1
            self._take("?")  # lazy or not is all one
            if mark == "?" and node.exact is not None:
                node = _Node(node.exact | {""})
            elif mark in "?*" or (mark == "{" and least == 0):
                node = _ANYTHING
            else:
                node = _Node(None, _best([*node.needs, *([node.exact] if node.exact else [])]))
        return node

    def _atom(self) -> _Node:
        char = self.pattern[self.at]
        self.at += 1
        if char == "(":
            return self._group()
        if char == "[":
            return self._class()
        if char == "\\":
            return self._escape()
        if char in "^$":
            return _NOTHING
        if char == ".":
            return _ANYTHING
        if char in _SPECIAL:
            raise _Unknown
        return _Node(frozenset([char + self._plain()]))

    def _plain(self) -> str:
        """Further characters that stand for themselves, but for one that is repeated; as many as a string may have."""
        begin = self.at
        while self.at - begin < MAX_LENGTH - 1 and self.pattern[self.at : self.at + 1] not in _ENDS_RUN:
            self.at += 1
        if self.at > begin and self.pattern[self.at : self.at + 1] in _REPEATS:
            self.at -= 1
        return self.pattern[begin : self.at]

    def _group(self) -> _Node:
        if self._take("?") and not self._take(":"):
            if self._take("m)") or self._take("s)"):  # flags that change no letter
                return _NOTHING
            raise _Unknown
        node = self.alternatives()
        if not self._take(")"):
            raise _Unknown
        return node

    def _class(self) -> _Node:
        """A bracket expression: its characters where they are few and plain."""
        chars: set[str] = set()
        plain = not self._take("^")
        first = True
        while first or not self._take("]"):
            if self.at >= len(self.pattern) or self.pattern.startswith("[:", self.at):
                raise _Unknown
            first = False
            if self._take("\\"):
                node = self._escape()
                plain = plain and bool(node.exact)
                chars |= node.exact or set()
            else:
                chars.add(self.pattern[self.at])
                self.at += 1
            if self.pattern.startswith("-", self.at) and not self.pattern.startswith("-]", self.at):
                plain = False  # a range
        return _Node(frozenset(chars)) if plain and 0 < len(chars) <= _MAX_SPAN else _ANYTHING

    def _escape(self) -> _Node:
        char = self.pattern[self.at : self.at + 1]
        self.at += 1
        if char in _CONTROLS:
            return _Node(frozenset([_CONTROLS[char]]))
        if char in _NO_WIDTH:
            return _NOTHING
        if char in _CLASSES:
            if char in "pP":
                close = self.pattern.find("}", self.at)
                self.at = close + 1 if self.pattern.startswith("{", self.at) and close > 0 else self.at + 1
            return _ANYTHING
        if char == "x":
            return self._number()
        if not char or char.isalnum():
            raise _Unknown
        return _Node(frozenset([char]))

    def _number(self) -> _Node:
        if self._take("{"):
            close = self.pattern.find("}", self.at)
            digits, self.at = self.pattern[self.at : close], close + 1
        else:
            digits = self.pattern[self.at : self.at + 2]
            self.at += 2
        try:
            return _Node(frozenset([chr(int(digits, 16))]))
        except (ValueError, OverflowError):
            raise _Unknown from None

    def _take(self, char: str) -> bool:
        if self.pattern.startswith(char, self.at):
            self.at += len(char)
            return True
        return False
