r"""Patterns as RE2 can run them on folded texts: folded likewise, with word breaks that know other scripts.

RE2's `\b` and `\w` know ASCII only. A pattern in Latin letters is ASCII once it is folded and keeps them; in any
other pattern they become classes of ASCII punctuation and its complement, which is what separates words in folded
texts. `<g>` stands for a few words, `<n>` for at most two: a negation and its verb.
"""

from __future__ import annotations

import re
from dataclasses import replace

from classifier.fold import letters
from classifier.rule import Rule

GAP = "[^!?]{0,40}"  # full stops stay in: dates have them
NEAR = " (?:[^ .,;!?]{1,20} ){0,2}"
_BREAKS = r" -/:-@\[-\x60{-~،؟؛।"
_BREAK = f"[{_BREAKS}]"
_ESCAPE = re.compile(r"\\(?:[pP]\{\w+\}|x\{\w+\}|x\w\w|.)")


def pattern(text: str) -> str:
    """Fold a pattern (its escapes stay) and spell out its gaps and word breaks."""
    pieces: list[str] = []
    done = 0
    for escape in _ESCAPE.finditer(text):
        pieces += [letters(text[done : escape.start()]), escape.group()]
        done = escape.end()
    folded = "".join([*pieces, letters(text[done:])]).replace(r"\b<n>\b", "<n>")
    if not folded.isascii():
        folded = _breaks(folded)
    return folded.replace("<g>", GAP).replace("<n>", NEAR)


def folded(rule: Rule) -> Rule:
    """Give a rule that finds in folded texts what it was written for."""
    return replace(rule, patterns=tuple(map(pattern, rule.patterns)), unless=tuple(map(pattern, rule.unless)))


def _breaks(folded: str) -> str:
    folded = folded.replace(r"\b<g>\b", f"(?:{_BREAK}(?:<g>{_BREAK})?|$)").replace(r"\b<g>", f"(?:{_BREAK}<g>|$)")
    folded = folded.replace(r"<g>\b", f"(?:<g>{_BREAK})?")
    folded = re.sub(r"(^|[(|:^])\\b", lambda m: f"{m[1]}(?:^|{_BREAK})", folded).replace(r"\b", f"(?:{_BREAK}|$)")
    return folded.replace(r"\w", f"[^{_BREAKS}]").replace(r"\W", _BREAK)
