"""Rules as data (TOML): one rule as written, and how rule files are read.

A rule file holds `[[rule]]` tables: `id` (stable, dotted), a label (what the rule says, e.g. `reason`), `patterns`
(RE2 syntax, matched anywhere), an `example` that must match and a `counter_example` that must not, and optionally
`unless` (patterns that withdraw the rule), `rank` (0..100, higher is more specific) and whatever else the reader of
the book understands (kept in `attributes`). A `[words]` table names alternatives that patterns use as `<name>`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DEFAULT_RANK = 50
_OWN_KEYS = frozenset({"id", "patterns", "unless", "rank", "example", "counter_example"})


class RuleError(ValueError):
    """A rule file that cannot be used; the message names the file and the rule."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule as written. `label` is what it concludes; `attributes` holds the keys that the engine ignores."""

    id: str
    label: str
    patterns: tuple[str, ...]
    example: str
    counter_example: str
    unless: tuple[str, ...] = ()
    rank: int = DEFAULT_RANK
    attributes: Mapping[str, Any] = field(default_factory=dict)


def load_rules(path: Path, label_key: str) -> list[Rule]:
    """Read the `[[rule]]` tables of one file; raises RuleError for a table that lacks or mistypes a key."""
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    words = {f"<{name}>": f"(?:{alternatives})" for name, alternatives in content.get("words", {}).items()}
    rules = []
    for table in content.get("rule", []):
        where = f"{path.name}: rule {table.get('id', '?')}"
        missing = {"id", label_key, "patterns", "example", "counter_example"} - table.keys()
        if missing:
            raise RuleError(f"{where}: missing {', '.join(sorted(missing))}")
        rules.append(
            Rule(
                id=table["id"],
                label=table[label_key],
                patterns=tuple(_spell_out(p, words) for p in table["patterns"]),
                example=table["example"],
                counter_example=table["counter_example"],
                unless=tuple(_spell_out(p, words) for p in table.get("unless", ())),
                rank=table.get("rank", DEFAULT_RANK),
                attributes={k: v for k, v in table.items() if k not in _OWN_KEYS and k != label_key},
            )
        )
    return rules


def _spell_out(pattern: str, words: Mapping[str, str]) -> str:
    for name, meaning in words.items():
        pattern = pattern.replace(name, meaning)
    return pattern
