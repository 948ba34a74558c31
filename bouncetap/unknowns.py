"""`bouncetap unknowns`: what no rule explains, clustered by masked template, with a proposed rule for each.

A text is masked (addresses, hosts, numbers, ids become placeholders), so that the same sentence about a thousand
recipients is one template. Clusters come largest first; each shows one example, how many messages it stands for,
and a rule skeleton in the format of `classifier/rules/reasons/*.toml`, to be finished by a person.
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
from classifier.verdict import Kind, Reason, Verdict
from store.export import verdicts

TEMPLATE_CHARACTERS = 160
_MASKS = (
    (re.compile(r"https?://\S+"), "<url>"),
    (re.compile(r"[^\s<>\"'()\[\]]+@[^\s<>\"'()\[\]]+"), "<address>"),
    (re.compile(r"\b(?:[0-9a-f]{1,4}:){3,}[0-9a-f:]*|\b\d{1,3}(?:\.\d{1,3}){3}\b", re.IGNORECASE), "<ip>"),
    (re.compile(r"\b(?:[a-z0-9-]+\.)+[a-z]{2,}\b", re.IGNORECASE), "<host>"),
    (re.compile(r"\b(?=\w*\d)[\w-]{6,}\b"), "<id>"),
    (re.compile(r"\d+"), "<n>"),
)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Messages whose unexplained text has the same template. `examples` are up to three of their names or ids."""

    template: str
    count: int
    examples: tuple[str, ...]
    sample: str


def mask(text: str) -> str:
    """The template of a text: what varies from message to message is replaced, white space folded."""
    for pattern, placeholder in _MASKS:
        text = pattern.sub(placeholder, text)
    return " ".join(text.split())[:TEMPLATE_CHARACTERS].lower()


def cluster_paths(paths: Iterable[Path], context: object) -> list[Cluster]:
    """Clusters over files, classified now."""
    assert isinstance(context, Context)
    sources = messages(str(path) for path in paths)
    return _cluster((s.name, text) for s in sources for text in _unexplained(classify(s.raw, context)))


def cluster_quarantine(config: Config, since: str) -> list[Cluster]:
    """Clusters over what is in the quarantine and younger than `since` ("30d"); from the stored verdicts."""
    oldest = time.time() - parse_duration(since)
    rows = (row for row in verdicts(store_settings(config)) if row.get("received_s", oldest) >= oldest)
    return _cluster(
        (row["id"], recipient.get("diagnostic") or "(no diagnostic text)")
        for row in rows
        for recipient in row.get("recipients", ())
        if row["kind"] in {Kind.BOUNCE, Kind.DELAY} and recipient.get("reason") == Reason.UNKNOWN
    )


def _unexplained(verdict: Verdict) -> list[str]:
    if verdict.kind not in {Kind.BOUNCE, Kind.DELAY}:
        return []
    return [r.diagnostic or "(no diagnostic text)" for r in verdict.recipients if r.reason is Reason.UNKNOWN]


def _cluster(texts: Iterable[tuple[str, str]]) -> list[Cluster]:
    counts: Counter[str] = Counter()
    names: dict[str, list[str]] = {}
    samples: dict[str, str] = {}
    for name, text in texts:
        template = mask(text)
        counts[template] += 1
        samples.setdefault(template, " ".join(text.split())[:300])
        if len(names.setdefault(template, [])) < 3:
            names[template].append(name)
    return [Cluster(t, n, tuple(names[t]), samples[t]) for t, n in counts.most_common()]


def report(clusters: list[Cluster], limit: int) -> str:
    """The clusters as text, largest first, each with a rule skeleton."""
    if not clusters:
        return "nothing: every failure has a reason"
    shown = [_shown(number, cluster) for number, cluster in enumerate(clusters[:limit], 1)]
    total = sum(cluster.count for cluster in clusters)
    return f"{total} recipients without a reason, {len(clusters)} templates\n\n" + "\n\n".join(shown)


def _shown(number: int, cluster: Cluster) -> str:
    pattern = r"\W+".join(
        re.escape(word) for word in re.findall(r"[^\W_]+", re.sub(r"<\w+>", " ", cluster.template))[:6]
    )
    sample = cluster.sample.replace("'''", "''")
    return (
        f"{number}. {cluster.count} x {cluster.template}\n   e.g. {', '.join(cluster.examples)}\n"
        f'   [[rule]]\n   id = "text.REASON.NAME"\n   reason = "REASON"\n   patterns = [\'{pattern}\']\n'
        f"   example = '''{sample}'''\n   counter_example = \"\""
    )
