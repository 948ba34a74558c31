"""`bouncetap unknowns`: what no rule explains, clustered by masked template, with a proposed rule for each.

A refusal is masked as the rules see it (links, addresses, hosts and IP addresses become words), and numbers and ids go
too, so that the same sentence about a thousand recipients is one template. Clusters come largest first; each shows its
text, how many it stands for, and a rule that can be pasted into a file of `classifier/rules/reasons/`: it loads and
finds the text as it is; what is left to a person is its name, its reason, and a counter-example.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bouncetap.config import Config
from bouncetap.config.for_store import store_settings
from bouncetap.config.values import parse_duration
from bouncetap.messages import messages
from classifier import Context, classify
from classifier.reasons.text import Text
from classifier.verdict import Kind, Reason, Verdict
from store.export import Selection, whole

SAMPLE_CHARACTERS = 300
PATTERN_WORDS = 10
NO_TEXT = "(no diagnostic text)"
_FAILURES = (Kind.BOUNCE, Kind.DELAY)
_MASKED = frozenset({"url", "addr", "ip", "host"})
_VARYING = re.compile(r"\S*\d\S*")  # numbers, codes, ids
_SPECIAL = re.compile(r"[\\.+*?()\[\]{}|^$]")


@dataclass(frozen=True, slots=True)
class Cluster:
    """Recipients whose unexplained refusals have the same template. `examples` are up to three messages, by name or id.

    `sample` is one of the refusals as it stood, on one line, without unprintable characters.
    """

    template: str
    count: int
    examples: tuple[str, ...]
    sample: str


def mask(text: str) -> str:
    """The template of a text: as rules see it, with "*" for what has a digit."""
    return _VARYING.sub("*", Text(text, SAMPLE_CHARACTERS).masked).strip()


def cluster_paths(paths: Iterable[Path], context: Context) -> list[Cluster]:
    """Clusters over files, classified now."""
    sources = messages(str(path) for path in paths)
    return _cluster((s.name, text) for s in sources for text in _unexplained(classify(s.raw, context)))


def cluster_quarantine(config: Config, since: str) -> list[Cluster]:
    """Clusters over what is in the quarantine and younger than `since` ("30d"); from the stored verdicts."""
    oldest = int((time.time() - parse_duration(since)) * 1e9)
    selection = Selection(kinds=tuple(_FAILURES), since_ns=oldest)
    found = whole(store_settings(config), selection, lambda row: any(map(_is_unknown, row["recipients"])))
    return _cluster(
        (verdict["id"], person.get("diagnostic") or NO_TEXT)
        for verdict in found
        for person in verdict["recipients"]
        if _is_unknown(person)
    )


def _is_unknown(person: dict[str, object]) -> bool:
    return person.get("reason") == Reason.UNKNOWN


def _unexplained(verdict: Verdict) -> list[str]:
    if verdict.kind not in _FAILURES:
        return []
    return [r.diagnostic or NO_TEXT for r in verdict.recipients if r.reason is Reason.UNKNOWN]


def _cluster(texts: Iterable[tuple[str, str]]) -> list[Cluster]:
    counts: Counter[str] = Counter()
    names: dict[str, dict[str, None]] = {}
    samples: dict[str, str] = {}
    for name, text in texts:
        sample = "".join(c for c in " ".join(text.split()) if c.isprintable())[:SAMPLE_CHARACTERS]
        template = mask(sample)
        counts[template] += 1
        samples.setdefault(template, sample)
        names.setdefault(template, {}).setdefault(name)
    return [Cluster(t, n, tuple(names[t])[:3], samples[t]) for t, n in counts.most_common()]


def report(clusters: list[Cluster], limit: int) -> str:
    """The clusters as text, largest first, each with a rule."""
    if not clusters:
        return "nothing: every failure has a reason"
    total = sum(cluster.count for cluster in clusters)
    head = f"{total} recipients without a reason, {len(clusters)} templates"
    return "\n\n".join([head, *(_shown(n, cluster) for n, cluster in enumerate(clusters[:limit], 1))])


def _shown(number: int, cluster: Cluster) -> str:
    head = f"# {number}. {cluster.count} x {cluster.template}\n#    e.g. {', '.join(cluster.examples)}"
    return f"{head}\n{rule(cluster, number)}"


def rule(cluster: Cluster, number: int) -> str:
    """A rule for `classifier/rules/reasons/text_*.toml` that finds the cluster's text; a remark where none can be."""
    pattern = _pattern(cluster.sample)
    if not pattern:
        return "# no words to make a rule of"
    return (
        "[[rule]]\n"
        f'id = "text.unknown.new{number}"  # text.REASON.NAME; ids are stable\n'
        f'reason = "{Reason.UNKNOWN}"  # one of docs/taxonomy.md\n'
        f"patterns = [{_literal(pattern)}]  # shorten it to what tells the reason\n"
        f"example = {_literal(cluster.sample)}\n"
        "counter_example = '250 message accepted for delivery'  # something close that means another reason\n"
    )


def _pattern(sample: str) -> str:
    """The longest run of plain words of a text as rules see it, as an RE2 pattern."""
    runs: list[list[str]] = [[]]
    for word in Text(sample, SAMPLE_CHARACTERS).masked.split(" "):
        if word in _MASKED or not any(c.isalpha() for c in word) or _VARYING.fullmatch(word):
            runs.append([])
        else:
            runs[-1].append(word)
    words = max(runs, key=lambda run: sum(map(len, run)))[:PATTERN_WORDS]
    return _SPECIAL.sub(r"\\\g<0>", " ".join(words))


def _literal(text: str) -> str:
    """A TOML string that holds the text as it is (TOML 1.0: literal strings know no escapes)."""
    if "'" not in text:
        return f"'{text}'"
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
