"""Compiles the classifier to C where BOUNCETAP_COMPILE=1 asks for it (`make compiled`); else nothing is built.

mypyc does it, by the types that mypy checks. A compiled copy holds the sources as well and gives the same verdicts
(`tests/classifier/test_compiled.py`); what it brings is in `docs/measurements.md`. All else about the package is in
`pyproject.toml`.
"""

import os
from pathlib import Path

from setuptools import Extension, setup

# Imports only; what others make, pickle and take apart, so plain classes; what writes a page of the documentation.
SKIPPED = ("__init__.py", "verdict.py", "context.py", "rulepage.py")


def extensions() -> list[Extension]:
    """The classifier's modules; none while setuptools only asks what has to be installed for building."""
    try:
        from mypyc.build import mypycify  # noqa: PLC0415  # there only while this builds
    except ModuleNotFoundError as missing:
        if missing.name != "mypyc":
            raise
        return []
    modules = sorted(str(path) for path in Path("classifier").rglob("*.py") if path.name not in SKIPPED)
    return mypycify(["--ignore-missing-imports", *modules], multi_file=True)


compiled = os.environ.get("BOUNCETAP_COMPILE") == "1"
setup(ext_modules=extensions() if compiled else [], setup_requires=["mypy>=2.4,<3"] if compiled else [])
