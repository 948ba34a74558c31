"""The documents are true: every metric, command and dependency is named, every link and file name leads somewhere."""

from __future__ import annotations

import ast
import contextlib
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from bouncetap.cli import COMMANDS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "fixtures/README.md"]
NOT_OURS = {"bouncetap.toml", "score.py"}  # the operator's, and what comes with the labelled messages


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def tracked() -> list[str]:
    """The files that git knows, and that are there."""
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, check=True, cwd=ROOT).stdout
    return [name for name in listed.decode().split("\0") if (ROOT / name).is_file()]


def test_every_dependency_is_explained_and_pinned() -> None:
    project = tomllib.loads(text("pyproject.toml"))["project"]
    page, pins = text("docs/dependencies.md"), text("constraints.txt").lower().replace("_", "-")
    for requirement in project["dependencies"]:
        name = re.split(r"[<>=; ]", requirement)[0]
        assert f"| {name} |" in page
        assert f"{name.lower()}==" in pins
    for requirement in project["optional-dependencies"]["dev"]:
        assert re.split(r"[<>=; ]", requirement)[0] in page


def test_licences_are_those_that_the_packages_declare() -> None:
    page = dict(re.findall(r"^\| (\S+) \| ([^|]+) \|", text("docs/dependencies.md"), re.MULTILINE))
    project = tomllib.loads(text("pyproject.toml"))["project"]
    for name in (re.split(r"[<>=; ]", requirement)[0] for requirement in project["dependencies"]):
        with contextlib.suppress(metadata.PackageNotFoundError):  # one for other Pythons
            declared = metadata.metadata(name)
            if "License-Expression" in declared:
                assert declared["License-Expression"].upper() == page[name].upper(), name


def test_every_metric_is_in_operations() -> None:
    page = text("docs/operations.md")
    declared = re.compile(r'(?:Counter|Gauge|Histogram)\(\s*"(bouncetap_\w+)"')
    found = {m for area in ("proxy", "store", "bouncetap") for p in (ROOT / area).rglob("*.py")
             for m in declared.findall(p.read_text(encoding="utf-8"))}  # fmt: skip
    assert len(found) > 30
    assert not {name for name in found if name.removesuffix("_total") not in page}


def test_alert_rules_name_metrics_that_exist() -> None:
    declared = re.compile(r'"(bouncetap_\w+)"')
    sources = "".join(
        p.read_text(encoding="utf-8") for area in ("proxy", "store", "bouncetap") for p in (ROOT / area).rglob("*.py")
    )
    names = {name.removesuffix("_total") for name in declared.findall(sources)} | {"bouncetap_up"}
    used = re.findall(r"bouncetap_\w+", text("etc/prometheus/rules.yml"))
    assert used
    assert not {name for name in used if name.removesuffix("_total").removesuffix("_bucket") not in names}


def test_every_command_is_in_operations() -> None:
    page = text("docs/operations.md")
    assert not [command for command in COMMANDS if f"`bouncetap {command}" not in page]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert "://" not in target or target.startswith("https://")
        if "://" not in target:
            assert (page.parent / target).exists(), target


def named_files(page: str) -> set[str]:
    """Files of ours that a text names between backticks, with or without their folder."""
    return set(re.findall(r"`((?:[a-z_]+/)*[a-z_0-9]+\.(?:py|toml|md|txt|sh|dict|service))`", page)) - NOT_OURS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_a_page_names_exist(page: Path) -> None:
    there = tracked()
    for name in named_files(page.read_text(encoding="utf-8")):
        assert any(f"/{file}".endswith(f"/{name}") for file in there), name


def test_every_module_says_what_it_is_for_and_names_files_that_exist() -> None:
    there = tracked()
    modules = [name for name in there if name.endswith(".py") and "/versions/" not in name]
    assert len(modules) > 200
    for module in modules:
        said = ast.get_docstring(ast.parse(text(module)))
        assert said, f"{module} does not say what it is for"
        missing = [name for name in named_files(said) if not any(f"/{file}".endswith(f"/{name}") for file in there)]
        assert not missing, f"{module} names {missing}"


def test_every_table_of_the_tests_is_read_by_one() -> None:
    there = tracked()
    sources = "".join(text(name) for name in there if name.startswith("tests/") and name.endswith(".py"))
    tables = [name for name in there if re.fullmatch(r"tests/(?!dialogues/).+\.(?:toml|txt|dict)", name)]
    assert tables
    assert not [name for name in tables if Path(name).name not in sources]


def test_the_proxy_s_process_never_loads_the_store() -> None:
    proxy_alone = "bouncetap.parts, bouncetap.config.for_proxy, proxy.server, proxy.delivery"
    barred = "{'store', 'classifier', 'sqlalchemy', 're2', 'alembic'}"
    code = f"import sys, {proxy_alone}; print([m for m in sys.modules if m.split('.')[0] in {barred}])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == b"[]"


def test_no_registry_hosts_and_no_machine_paths_in_the_tree() -> None:
    for name in tracked():
        content = (ROOT / name).read_bytes()
        for forbidden in (b"pypi" + b".org", b"files.python" + b"hosted", b"/work" + b"/main", b"deb.debian" + b".org"):
            assert forbidden not in content, name
