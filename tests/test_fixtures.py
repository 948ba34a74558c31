"""The project's own messages in `fixtures/`: complete, sendable as they are, and classified as they say."""

from __future__ import annotations

import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from bouncetap.demo.traffic import FIXTURES, Sample, samples
from classifier import classify
from classifier.context import Context, Patterns
from classifier.verdict import REASONS, AutoReplyType, Category, Kind, Reason
from proxy.address import parse_mail, parse_rcpt
from proxy.wire import Smuggling, inspect

OURS = Patterns(
    verp=("bounce+{address}@bounces.example.com",),
    unsubscribe_addresses=("unsub-*@bounces.example.com",),
    sent_domains=("example.com",),
)
TOTAL_LIMIT_BYTES = 2_000_000
NAMES = sorted(p.relative_to(FIXTURES).with_suffix("").as_posix() for p in FIXTURES.rglob("*.eml"))
TOP_KEYS = {"about", "language", "expect_refused", "envelope", "expect"}


@cache
def raw(name: str) -> bytes:
    return (FIXTURES / f"{name}.eml").read_bytes()


@cache
def facts(name: str) -> dict[str, Any]:
    return tomllib.loads((FIXTURES / f"{name}.toml").read_text(encoding="utf-8"))


@cache
def everything() -> dict[str, Sample]:
    return {sample.name: sample for sample in samples(refused=None)}


def context(name: str) -> Context:
    """What the classifier is told of a fixture's envelope; `AddressError` if the front line would not take it."""
    sample = everything()[name]
    mail = parse_mail(sample.mail_arg.encode())
    rcpts = [parse_rcpt(arg.encode(), smtputf8=b"SMTPUTF8" in mail.params) for arg in sample.rcpt_args]
    return Context(
        envelope_from=mail.address.decode(),
        envelope_to=tuple(rcpt.address.decode() for rcpt in rcpts),
        patterns=OURS,
        received_year=2026,
    )


def unlike(expected: object, found: object, where: str = "") -> list[str]:
    """Where `found` differs from `expected`: dicts hold at least the named keys, lists have the same length."""
    if isinstance(expected, dict):
        if not isinstance(found, dict):
            return [f"{where}: expected {expected!r}, found {found!r}"]
        return [
            line
            for key, value in expected.items()
            for line in unlike(value, found.get(key), f"{where}.{key}".strip("."))
        ]
    if isinstance(expected, list):
        if not isinstance(found, list | tuple) or len(found) != len(expected):
            return [f"{where}: expected {len(expected)} entries, found {found!r}"]
        return [line for i, value in enumerate(expected) for line in unlike(value, found[i], f"{where}[{i}]")]
    return [] if found == expected else [f"{where}: expected {expected!r}, found {found!r}"]


def expected(*path: str) -> set[object]:
    """Every value that any fixture expects under a key of `expect` (or of its recipients)."""
    values: set[object] = set()
    for name in NAMES:
        node: Any = facts(name)["expect"]
        for key in path:
            node = [n.get(key) for n in node] if isinstance(node, list) else node.get(key, {})
        values.update(node if isinstance(node, list) else [node] if isinstance(node, str | bool) else [])
    return values


@pytest.mark.parametrize("name", NAMES)
def test_classified_as_expected(name: str) -> None:
    verdict = classify(raw(name), context(name)).to_json()
    differences = unlike(facts(name)["expect"], verdict)
    assert not differences, "\n".join([facts(name)["about"], *differences])


@pytest.mark.parametrize("name", NAMES)
def test_facts_are_well_formed(name: str) -> None:
    told = facts(name)
    assert set(told) <= TOP_KEYS
    assert told["about"]
    assert "\n" not in told["about"]
    assert re.fullmatch(r"[a-z]{2}", told["language"])
    assert told["expect"]["kind"] in set(Kind)
    folder = name.partition("/")[0]
    assert folder == "refused" if told.get("expect_refused") else folder == told["expect"]["kind"]
    for person in told["expect"].get("recipients", []):
        if "reason" in person:
            assert person["category"] == REASONS[Reason(person["reason"])][0]


@pytest.mark.parametrize("name", NAMES)
def test_the_front_line_takes_it_or_refuses_it(name: str) -> None:
    """The envelope is acceptable as written, and the smuggling policy refuses exactly what says so."""
    sample = everything()[name]
    assert sample.raw == raw(name)
    assert context(name).envelope_to
    assert bool(inspect(sample.wire, Smuggling.REFUSE).refused) is facts(name).get("expect_refused", False)


def test_messages_and_facts_come_in_pairs() -> None:
    facts_alone = {p.relative_to(FIXTURES).with_suffix("").as_posix() for p in FIXTURES.rglob("*.toml")}
    assert facts_alone == set(NAMES)
    assert len(NAMES) >= 70


def test_no_two_are_the_same() -> None:
    """The tap would rightly take a second one for a resend."""
    assert len({raw(name) for name in NAMES}) == len(NAMES)


def test_they_stay_small() -> None:
    assert sum(p.stat().st_size for p in FIXTURES.rglob("*") if p.is_file()) < TOTAL_LIMIT_BYTES


def test_samples_leave_the_refused_out() -> None:
    assert {s.name for s in samples()} == {n for n in NAMES if not n.startswith("refused/")}
    assert {s.name for s in samples(refused=True)} == {n for n in NAMES if n.startswith("refused/")}


def test_every_kind_is_covered() -> None:
    assert expected("kind") == set(Kind)


def test_every_category_is_covered() -> None:
    assert expected("recipients", "category") >= set(Category)
    assert expected("category") == set(Category)


def test_every_reason_is_covered() -> None:
    assert expected("recipients", "reason") >= set(Reason)


def test_every_kind_of_automatic_answer_is_covered() -> None:
    assert expected("auto_reply", "type") == set(AutoReplyType)


def test_opt_outs_forgeries_and_the_unparsable_are_covered() -> None:
    assert expected("opt_out") == {True, False}
    assert expected("authentic") == {True, False}
    assert expected("unparsable") >= {True}


def test_at_least_twelve_languages() -> None:
    spoken = {facts(name)["language"] for name in NAMES}
    assert len(spoken) >= 12
    assert spoken >= {"en", "de", "fr", "es", "it", "pt", "nl", "pl", "ru", "ja", "zh", "ko", "tr", "sv", "ar"}


def test_only_reserved_domains() -> None:
    """No real address can be hit by the demo, and nobody's mail is in here."""
    found = {
        d.lower()
        for name in NAMES
        for d in re.findall(rb"@([A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,})", raw(name))
    }
    real = {d for d in found if not re.search(rb"(?:\.|^)example(?:\.(?:com|net|org))?$", d)}
    assert real == set()


def line_ends(name: str) -> tuple[int, int, int]:
    """How many CRLF, bare CR and bare LF a message has."""
    data = raw(name)
    crlf = data.count(b"\r\n")
    return crlf, data.count(b"\r") - crlf, data.count(b"\n") - crlf


def test_bare_line_ends_stand_only_where_they_are_the_point() -> None:
    bare = {name for name in NAMES if line_ends(name)[1:] != (0, 0)}
    assert bare == {n for n in NAMES if n.rpartition("/")[2].startswith(("bare-", "smuggl", "binary-"))}


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("human/bare-cr", rb"[^\r]\r[^\n]"),
        ("human/bare-lf", rb"[^\r]\n"),
        ("bounce/bare-lf-throughout", rb"\A[^\r]+\Z"),
        ("human/nul-bytes", rb"\x00"),
        ("human/raw-8bit-header", rb"(?m)^Subject: [^\r\n]*[\x80-\xff]"),
        ("human/raw-8bit-body", rb"\r\n\r\n(?s:.*)[\x80-\xff]"),
        ("human/one-long-line", rb"[^\r\n]{200000}"),
        ("human/no-final-crlf", rb"[^\r\n]\Z"),
        ("human/leading-dots", rb"\r\n\.\r\n"),
        ("other/empty", rb"\A\Z"),
        ("human/header-only", rb"\A(?:[A-Za-z-]+: [^\r\n]*\r\n)+\Z"),
        ("other/body-without-header", rb"\A\r\n"),
        ("human/mbox-from-line", rb"\AFrom "),
        ("human/missing-closing-boundary", rb"\A(?s:(?!.*--edge--))"),
    ],
)
def test_the_odd_bytes_are_as_said(name: str, pattern: bytes) -> None:
    assert re.search(pattern, raw(name))


def test_one_nests_forty_deep() -> None:
    assert raw("human/deep-nesting").count(b"multipart/mixed") == 40


def test_git_keeps_its_hands_off_the_bytes() -> None:
    root = FIXTURES.parent
    if not (root / ".git").exists():
        pytest.skip("not a git work tree")
    asked = subprocess.run(
        ["git", "check-attr", "text", "fixtures/other/empty.eml"], cwd=root, capture_output=True, text=True, check=True
    )
    assert asked.stdout.strip().endswith("text: unset")


def test_the_directory_says_how_it_works() -> None:
    assert "expect_refused" in Path(FIXTURES / "README.md").read_text(encoding="utf-8")
