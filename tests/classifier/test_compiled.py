"""The classifier as `make compiled` installs it gives the verdicts that the sources give.

mypyc trusts types where Python does not look at them: what it makes of a wrong one is a TypeError, hence an unparsable
verdict, and it has faults of its own. So all fixtures, labelled and hostile messages, and letters and notices of our
own are read twice.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from classifier import classify
from tests.classifier.test_reports import NOTICES
from tests.classifier.test_reports import raw as notice
from tests.conftest import CORPUS, ROOT
from tests.support.hostile import CASES
from tests.support.letters import letter

HERE = Path(__file__).parent
ADDRESSES = ("newsletter@news.shop.example", "bounces+17188-bob=client.example@rp.shop.example")
PROGRAM = """
import pickle
import sys
from pathlib import Path
import classifier.rulebook
from classifier import classify
from classifier.context import Patterns
from store.prepare import Job, prepare
from store.settings import Retention
assert not classifier.rulebook.__file__.endswith(".py"), "not compiled"
for path in sorted(Path(sys.argv[1]).iterdir()):
    verdict = classify(path.read_bytes())
    assert pickle.loads(pickle.dumps(verdict)) == verdict
    sys.stdout.write(ascii(verdict) + "\\n")
job = Job("1", 0, path.read_bytes(), b"<>", (b"<a@b.example>",), "", Retention(), Patterns())
assert pickle.loads(pickle.dumps(prepare(job))).verdict  # as the filer's worker does it
"""


def letters() -> list[bytes]:
    """The short messages of `letters*.txt`, to an ordinary address and to a return path by turns."""
    lines = [line for path in sorted(HERE.glob("letters*.txt")) for line in path.read_text("utf-8").splitlines()]
    texts = [line.split(" ", 2)[2] for line in lines if line and not line.startswith("#")]
    return [letter(text, to=ADDRESSES[n % 2], answers=n % 3 == 0) for n, text in enumerate(texts)]


@pytest.fixture(scope="module")
def python() -> Path:
    """The Python of `.venv-compiled`, brought up to date."""
    made = subprocess.run(["make", "-s", "compiled"], cwd=ROOT, capture_output=True, text=True, check=False)
    if "make compiled needs" in made.stderr and not os.environ.get("CI"):
        pytest.skip(f"the compiled classifier is left untested: {made.stderr.strip()}")
    assert made.returncode == 0, made.stdout + made.stderr
    return ROOT / ".venv-compiled/bin/python"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_compiled_and_sources_agree(python: Path, tmp_path: Path) -> None:
    files = [*sorted((ROOT / "fixtures").rglob("*.eml")), *(sorted(CORPUS.iterdir()) if CORPUS.is_dir() else ())]
    ours = letters() + [notice(each) for each in NOTICES]
    messages = [path.read_bytes() for path in files] + ours + [make() for make in CASES.values()]
    for number, raw in enumerate(messages):
        (tmp_path / f"{number:06}").write_bytes(raw)
    command = [str(python), "-P", "-c", PROGRAM, str(tmp_path)]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    verdicts = told.stdout.splitlines()
    assert len(verdicts) == len(messages)
    differ = [n for n, raw in enumerate(messages) if ascii(classify(raw)) != verdicts[n]]
    assert not differ, [(messages[n][:200], verdicts[n]) for n in differ[:3]]
