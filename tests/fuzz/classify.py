"""Coverage-guided fuzzing of the classifier, seeded with `fixtures/`: `python -m tests.fuzz.classify DIR [flags]`.

DIR keeps the inputs that reach new code; flags are libFuzzer's (`-runs=N`, `-max_total_time=S`, `-seed=N` ...). What it
finds it writes to `crash-*`: inputs for which the classifier raises within (its verdict hides that), takes more than
`LIMIT_S` of processor time, gives what JSON cannot hold, or gives another verdict with other line ends.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["classifier"]):
    from classifier import Context, Patterns, classify
    from classifier.classify import _classify, warm_up
    from classifier.mime import parse
    from tests.support.verdicts import without_places

ROOT = Path(__file__).parents[2]
LIMIT_S = 0.5
MAX_BYTES = 16_384
CONTEXT = Context(
    envelope_from="",
    envelope_to=("bounce+somebody=customer.example@bounces.example.com",),
    patterns=Patterns(
        verp=("bounce+{address}@bounces.example.com",),
        unsubscribe_addresses=("unsub-*@bounces.example.com",),
        sent_domains=("example.com",),
    ),
    received_year=2026,
)


class Finding(Exception):
    """What libFuzzer shall keep."""


def one_input(data: bytes) -> None:
    """Classify one input and hold the verdict against what every verdict must be."""
    begin = time.process_time()
    verdict = classify(data, CONTEXT)
    took_s = time.process_time() - begin
    if any(e.rule == "unparsable" for e in verdict.evidence):
        _classify(parse(data), CONTEXT, "")  # raises what the verdict hides
        raise Finding("an exception that comes only once")
    if took_s > LIMIT_S:
        raise Finding(f"{took_s:.2f} s for {len(data)} bytes")
    json.dumps(verdict.to_json())
    text = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    told = without_places(classify(text, CONTEXT))
    for ending in (b"\r\n", b"\r"):
        if without_places(classify(text.replace(b"\n", ending), CONTEXT)) != told:
            raise Finding(f"another verdict with {ending!r}")


def main(arguments: list[str]) -> None:
    """Copy the seeds, hand over to libFuzzer; it ends the process."""
    directory = Path(arguments[0])
    directory.mkdir(parents=True, exist_ok=True)
    for fixture in (ROOT / "fixtures").rglob("*.eml"):
        raw = fixture.read_bytes()
        if len(raw) <= MAX_BYTES:
            (directory / f"seed-{fixture.parent.name}-{fixture.stem}").write_bytes(raw)
    warm_up()
    words = Path(__file__).with_name("mail.dict")
    atheris.Setup(
        ["fuzz", f"-max_len={MAX_BYTES}", f"-dict={words}", "-timeout=60", *arguments[1:], str(directory)], one_input
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
