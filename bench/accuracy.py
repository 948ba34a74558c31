"""How right the classifier is on labelled messages: the scorer's figures, categories, calibration, flufl.bounce's part.

`python -m bench.accuracy [DIRECTORY [GOLD.jsonl]]`: the messages (`../shared/corpus/dev`, or $BOUNCETAP_CORPUS) and
their labels (`gold-dev.jsonl` beside that directory), scored by the `score.py` that lies there.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from classifier import classify
from classifier.reports import secondopinion
from classifier.verdict import REASONS

ROOT = Path(__file__).parents[1]
CORPUS = Path(os.environ.get("BOUNCETAP_CORPUS", ROOT.parent / "shared/corpus/dev"))
BANDS = ((0.95, "0.95 and more"), (0.93, "0.93 to 0.94"), (0.85, "0.85 to 0.92"), (0.55, "0.55 to 0.84"), (0.0, "less"))
FIGURES = (
    "report_recall", "report_precision", "address_f1", "status_exact", "reason_fine", "reason_coarse", "hard_or_not",
    "action", "who", "persons_lost", "human_false_alarms",
)  # fmt: skip
Row = dict[str, Any]


def scorer() -> ModuleType:
    """The labels' own scorer, which knows what each reason is called there."""
    spec = importlib.util.spec_from_file_location("score", CORPUS.parent / "score.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def verdicts(directory: Path, rows: Iterable[Row]) -> dict[str, Row]:
    return {r["file"]: json.loads(json.dumps(classify((directory / r["file"]).read_bytes()).to_json())) for r in rows}


def judged(score: ModuleType, rows: list[Row], predicted: dict[str, Row]) -> Iterator[tuple[Row, Row, str]]:
    """Each recipient whose reason is labelled: label, verdict, and the label's coarse group."""
    for row in rows:
        if row["kind"] in score.REPORTS:
            for want, _, got in score.pair(row["recipients"], predicted[row["file"]]["recipients"])[0]:
                group = want.get("coarse") or score.FINE_TO_COARSE.get((want.get("reason") or "").lower())
                if group and got:
                    yield want, got, group


def right(score: ModuleType, want: Row, got: Row, group: str) -> bool:
    fines, said = score.REASONS.get(got["reason"], (set(), None))
    return said == group or (group, said) in score.NEAR or want.get("reason") in fines


def categories(score: ModuleType, want: Row) -> set[str]:
    """The categories that a label allows: those of all reasons of ours that it may stand for."""
    return {str(REASONS[ours][0]) for ours, (fines, _) in score.REASONS.items() if want.get("reason") in fines}


def calibration(score: ModuleType, rows: list[Row], predicted: dict[str, Row]) -> dict[str, tuple[int, int]]:
    table = {name: (0, 0) for _, name in BANDS}
    for want, got, group in judged(score, rows, predicted):
        name = next(name for least, name in BANDS if got["confidence"] >= least)
        good, all_ = table[name]
        table[name] = good + right(score, want, got, group), all_ + 1
    return table


def without_flufl(work: Callable[[], dict[str, Row]]) -> dict[str, Row]:
    ask = secondopinion.ask
    secondopinion.ask = lambda message: None
    try:
        return work()
    finally:
        secondopinion.ask = ask


def main(arguments: list[str]) -> int:
    directory = Path(arguments[0]) if arguments else CORPUS
    labels = Path(arguments[1]) if len(arguments) > 1 else directory.parent / "gold-dev.jsonl"
    if not labels.is_file() or not (CORPUS.parent / "score.py").is_file():
        print(f"accuracy: no labelled messages at {directory} with {labels}: passed over")
        return 0
    score = scorer()
    rows: list[Row] = score.load(labels)
    predicted = verdicts(directory, rows)
    figures = score.figures(*score.score(rows, predicted))
    print(f"{len(rows)} messages")
    for figure in FIGURES:
        print(figure.ljust(24) + str(figures[figure]).rjust(10))
    known = [(categories(score, want), got) for want, got, _ in judged(score, rows, predicted) if want.get("reason")]
    agreed = sum(got["category"] in allowed for allowed, got in known if allowed)
    print("category, four-way".ljust(24) + f"{agreed}/{sum(bool(allowed) for allowed, _ in known)}".rjust(10))
    for band, (good, all_) in calibration(score, rows, predicted).items():
        print(f"said {band}".ljust(24) + f"{good}/{all_}".rjust(10))
    alone = [f for f, v in predicted.items() if any(e["rule"].startswith("flufl.") for e in v["evidence"])]
    changed = sum(predicted[f] != v for f, v in without_flufl(lambda: verdicts(directory, rows)).items())
    hard = sum(r["category"] == "hard" for f in alone for r in predicted[f]["recipients"])
    print(f"flufl.bounce decided {len(alone)} alone ({hard} of them hard) and changed {changed}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
