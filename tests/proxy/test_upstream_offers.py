"""What handlers offer: parameters dropped for one of them, the intersection over all, kept over restarts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proxy.types import Capabilities
from proxy.upstream.capabilities import Known
from proxy.upstream.offers import Offers
from tests.support.handler import Handler, serving
from tests.support.inbound import until
from tests.support.outbound import tapping


def test_parameters_that_a_host_lacks_are_dropped() -> None:
    mail = b'<"a> b"@c.example> SIZE=1 body=8BITMIME SMTPUTF8 RET=FULL ENVID=x=y'
    assert Offers().mail(mail) == b'<"a> b"@c.example>'
    assert Offers(size=True, dsn=True).mail(mail) == b'<"a> b"@c.example> SIZE=1 RET=FULL ENVID=x=y'
    full = Offers(size=True, dsn=True, smtputf8=True, eight_bit=True)
    assert full.mail(mail) is mail
    assert Offers().mail(b"<>  SIZE=1") == b"<>"
    assert Offers(size=True).mail(b"<>  SIZE=1") == b"<>  SIZE=1"  # nothing to drop: as received
    rcpts = [b"<a@b> NOTIFY=NEVER ORCPT=rfc822;x", b"<a@b>"]
    assert Offers().rcpts(rcpts) == [b"<a@b>", b"<a@b>"]
    assert Offers(dsn=True).rcpts(rcpts) == rcpts
    assert Offers().mail(b"<broken SIZE=1") == b"<broken SIZE=1"


@pytest.mark.parametrize("text", ["", "0", "x", "-1", "1" * 30, "٣"])
def test_sizes_that_say_nothing(text: str) -> None:
    assert Offers.parse({"size": text}).size_bytes in {None, int("1" * 30)}


def test_the_intersection_over_all_hosts(tmp_path: Path) -> None:
    known = Known(tmp_path, ("a:25", "b:25"))
    known.load()
    assert known.all == Capabilities(smtputf8=False, dsn=False, size_bytes=None)
    assert known.hear("a:25", Offers(smtputf8=True, dsn=True, size=True, size_bytes=1000))
    assert known.all == Capabilities(smtputf8=False, dsn=False, size_bytes=1000)
    assert known.hear("b:25", Offers(smtputf8=True, size=True, size_bytes=500))
    assert not known.hear("b:25", Offers(smtputf8=True, size=True, size_bytes=500))
    assert known.all == Capabilities(smtputf8=True, dsn=False, size_bytes=500)
    known.store()
    again = Known(tmp_path, ("a:25", "b:25"))
    again.load()
    assert again.all == known.all
    other = Known(tmp_path, ("a:25", "c:25"))
    other.load()
    assert other.all == Capabilities(smtputf8=False, dsn=False, size_bytes=1000)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"a:25": 3}', '{"a:25": {"smtputf8": 1}}', "\xff"])
def test_a_damaged_file_is_no_file(text: str, tmp_path: Path) -> None:
    (tmp_path / "capabilities.json").write_bytes(text.encode("latin-1"))
    known = Known(tmp_path, ("a:25",))
    known.load()
    assert known.all == Capabilities(smtputf8=False, dsn=False, size_bytes=None)


async def test_every_host_is_asked_and_the_answer_kept(tmp_path: Path) -> None:
    async with serving() as first, serving(Handler(extensions=("SMTPUTF8", "SIZE 5000"))) as second:
        async with tapping(tmp_path, first, second) as tap:
            await until(lambda: tap.delivery.capabilities().smtputf8)
            assert tap.delivery.capabilities() == Capabilities(smtputf8=True, dsn=False, size_bytes=5000)
            await until((tmp_path / "capabilities.json").exists)
            await until(lambda: len(json.loads((tmp_path / "capabilities.json").read_text())) == 2)
        await second.stop()
        async with tapping(tmp_path, first, second) as tap:
            assert tap.delivery.capabilities() == Capabilities(smtputf8=True, dsn=False, size_bytes=5000)
