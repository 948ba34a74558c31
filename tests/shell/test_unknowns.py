"""What no rule explains: clustered by template, each with a rule that works as it is pasted."""

from __future__ import annotations

import tempfile
import tomllib
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from bouncetap.unknowns import Cluster, cluster_paths, mask, report, rule
from classifier import Context
from classifier.reasons.book import RULES, load_book
from classifier.reasons.text import Text
from classifier.rule import load_rules
from classifier.rulebook import Rulebook

ODD = "550 5.0.0 <{who}@b.example>: Qwzx plonk 'frobnicated' (id {id}) at mx{n}.b.example, see https://b.example/{id}"


def notice(diagnostic: str) -> bytes:
    return (
        "From: MAILER-DAEMON@b.example\nTo: bounces@shop.example\nSubject: Undelivered Mail Returned to Sender\n"
        'MIME-Version: 1.0\nContent-Type: multipart/report; report-type=delivery-status; boundary="b"\n\n'
        "--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; mx.b.example\n\n"
        f"Final-Recipient: rfc822; a@b.example\nAction: failed\nDiagnostic-Code: smtp; {diagnostic}\n\n--b--\n"
    ).encode()


def written(directory: Path, texts: list[str]) -> list[Path]:
    for number, text in enumerate(texts):
        (directory / f"{number:02}.eml").write_bytes(notice(text))
    return [directory]


def test_the_same_sentence_about_many_is_one_cluster_and_the_largest_comes_first(tmp_path: Path) -> None:
    same = [ODD.format(who=f"user{n}", id=f"q{n}x", n=n) for n in range(5)]
    clusters = cluster_paths(written(tmp_path, ["550 blorp", *same]), Context())
    assert [cluster.count for cluster in clusters] == [5, 1]
    assert [Path(name).name for name in clusters[0].examples] == ["01.eml", "02.eml", "03.eml"]
    shown = report(clusters, 1)
    assert "6 recipients without a reason, 2 templates" in shown
    assert "blorp" not in shown


def test_a_proposed_rule_works_where_it_is_pasted(tmp_path: Path) -> None:
    texts = [
        ODD.format(who="a", id="17", n=1),
        "550 5.0.0 a \\ \"quoted\" 'word' [x] (y)* ^z$",
        "550 größe überschritten",
    ]
    found = report(cluster_paths(written(tmp_path, texts), Context()), 10)
    directory = tmp_path / "rules"
    directory.mkdir()
    for path in RULES.glob("*.toml"):
        (directory / path.name).write_bytes(path.read_bytes())
    pasted = found.partition("\n\n")[2]  # all below the head, remarks included
    (directory / "text_new.toml").write_text(pasted, encoding="utf-8")
    for number, proposed in enumerate(tomllib.loads(pasted)["rule"], 1):
        hits = load_book(directory).text_rules.search(Text(proposed["example"], 8000).masked)
        assert f"text.unknown.new{number}" in {hit.rule.id for hit in hits}
        hits = load_book(directory).text_rules.search(Text(proposed["counter_example"], 8000).masked)
        assert f"text.unknown.new{number}" not in {hit.rule.id for hit in hits}
    assert found.count("[[rule]]") == len(texts)


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=120))
def test_any_text_gives_a_rule_that_loads_and_finds_it(text: str) -> None:
    sample = "".join(c for c in " ".join(text.split()) if c.isprintable())
    toml = rule(Cluster(mask(sample), 1, ("x",), sample), 1)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
        file.write(toml)
        file.flush()
        rules = load_rules(Path(file.name), "reason")
    if "[[rule]]" in toml:
        assert Rulebook(rules).search(Text(sample, 8000).masked)
