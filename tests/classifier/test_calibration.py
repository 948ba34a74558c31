"""A recipient's confidence means something: of the reasons given at 0.95 and more, 95 % are right on labelled mail."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from classifier import classify

SURE = 0.95


def scorer(corpus: Path) -> ModuleType:
    """The corpus's own scorer, which knows what each reason is called there."""
    spec = importlib.util.spec_from_file_location("score", corpus.parent / "score.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.corpus
def test_confidence_is_calibrated(corpus: Path) -> None:
    score = scorer(corpus)
    sure = right = unsure = unsure_right = 0
    for row in score.load(corpus.parent / "gold-dev.jsonl"):
        if row["kind"] not in score.REPORTS:
            continue
        found = json.loads(json.dumps(classify((corpus / row["file"]).read_bytes()).to_json()))
        for want, _, got in score.pair(row["recipients"], found.get("recipients") or [])[0]:
            group = want.get("coarse") or score.FINE_TO_COARSE.get((want.get("reason") or "").lower())
            if not group or not got:
                continue
            fines, said = score.REASONS.get(got["reason"], (set(), None))
            good = said == group or (group, said) in score.NEAR or want.get("reason") in fines
            if got["confidence"] >= SURE:
                sure, right = sure + 1, right + good
            else:
                unsure, unsure_right = unsure + 1, unsure_right + good
    assert sure > 100
    assert right / sure >= SURE
    assert unsure_right / unsure <= right / sure
