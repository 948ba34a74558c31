"""Columns and views: whatever happens to a folder, a client that follows what it is told ends up with the truth."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from store.imap import columns as columns_module
from store.imap.columns import AccountColumn, Changes, Columns, Entry
from store.imap.view import View

ME = "me"


@dataclass
class ClientModel:
    """Believes what untagged responses say."""

    flags: list[set[bytes] | None] = field(default_factory=list)

    def hear(self, line: bytes) -> None:
        if found := re.fullmatch(rb"\* (\d+) EXPUNGE\r\n", line):
            del self.flags[int(found[1]) - 1]
        elif found := re.match(rb"\* (\d+) EXISTS\r\n", line):
            assert int(found[1]) >= len(self.flags), "EXISTS never shrinks a mailbox"
            self.flags += [None] * (int(found[1]) - len(self.flags))
        elif found := re.fullmatch(rb"\* (\d+) FETCH \(UID (\d+) FLAGS \(([^)]*)\)\)\r\n", line):
            self.flags[int(found[1]) - 1] = set(found[3].split())


actions = st.lists(
    st.one_of(
        st.tuples(st.just("arrive"), st.integers(1, 3)),
        st.tuples(st.just("expunge"), st.lists(st.integers(0, 20), max_size=4)),
        st.tuples(st.just("flag"), st.lists(st.integers(0, 20), max_size=3)),
        st.tuples(st.just("own"), st.lists(st.integers(0, 20), max_size=3)),
        st.tuples(st.just("tell"), st.booleans()),
    ),
    max_size=30,
)


def _apply(folder: Columns, action: str, given_: object) -> None:
    uids, modseq = list(folder.uids), folder.modseq + 1
    if action == "arrive":
        assert isinstance(given_, int)
        fresh: list[Entry] = [(folder.uidnext + n, 0, 10, False, "") for n in range(given_)]
        folder.apply(Changes(modseq, folder.uidnext + given_, fresh))
        return
    assert isinstance(given_, list)
    chosen = sorted({uids[n % len(uids)] for n in given_}) if uids else []
    if action == "expunge":
        folder.apply(Changes(modseq, folder.uidnext, (), chosen))
    elif action == "flag":
        folder.apply(Changes(modseq, folder.uidnext, [(uid, 0, 10, True, "$x") for uid in chosen]))
    else:
        folder.apply(Changes(modseq, folder.uidnext, (), (), {ME: [(uid, 1) for uid in chosen], "other": [(1, 1)]}))


@given(actions)
def test_a_client_that_listens_knows_the_truth(steps: list[tuple[str, object]]) -> None:
    folder = Columns("x", 1)
    folder.apply(Changes(1, 4, [(uid, 0, 10, False, "") for uid in (1, 2, 3)]))
    folder.accounts[ME] = AccountColumn(len(folder))
    view, client = View(folder, ME, read_only=False), ClientModel([None] * 3)
    for action, given_ in [*steps, ("tell", False), ("tell", True)]:
        if action != "tell":
            _apply(folder, action, given_)
            continue
        before = len(client.flags)
        for line in view.news(expunge=bool(given_), uid=True):
            assert given_ or b"EXPUNGE" not in line
            client.hear(line)
        assert len(client.flags) == view.count
        assert given_ or view.count >= before
    assert list(view.uids[: view.count]) == list(folder.uids)
    assert view.uids is folder.uids, "after an expunge was told nothing of one's own is kept"
    for index, known in enumerate(client.flags):
        true = set(view.flags(index)[1:-1].split()) - {b"\\Recent"}
        assert (known or set()) - {b"\\Recent"} == true


def test_numbers_hold_while_an_expunge_is_untold() -> None:
    folder = Columns("x", 1)
    folder.apply(Changes(1, 6, [(uid, 0, uid, False, "") for uid in range(1, 6)]))
    folder.accounts[ME] = AccountColumn(5)
    view = View(folder, ME, read_only=False)
    folder.apply(Changes(2, 6, (), [2, 3]))
    assert [view.position(index) for index in range(5)] == [0, -1, -1, 1, 2]
    assert view.index(4) == 3
    assert list(view.news(expunge=True)) == [b"* 3 EXPUNGE\r\n", b"* 2 EXPUNGE\r\n"]
    assert view.index(4) == 1


def test_a_session_that_slept_through_the_log(monkeypatch: object) -> None:
    folder = Columns("x", 1)
    count = columns_module._LOG_LIMIT + 10
    folder.apply(Changes(1, count + 11, [(uid, 0, 1, False, "") for uid in range(1, count + 11)]))
    folder.accounts[ME] = AccountColumn(count + 10)
    view = View(folder, ME, read_only=False)
    folder.apply(Changes(2, count + 11, (), range(1, count + 1)))
    told = list(view.news(expunge=True))
    assert len(told) == count
    assert told[-1] == b"* 1 EXPUNGE\r\n"
    assert view.count == 10


def test_only_one_session_sees_a_message_as_recent() -> None:
    folder = Columns("x", 1)
    folder.apply(Changes(1, 2, [(1, 0, 1, False, "")]))
    folder.recent_from = folder.uidnext
    folder.accounts[ME] = AccountColumn(1)
    first, second = View(folder, ME, read_only=False), View(folder, ME, read_only=False)
    folder.apply(Changes(2, 4, [(2, 0, 1, False, ""), (3, 0, 1, False, "")]))
    assert b"* 2 RECENT\r\n" in b"".join(first.news(expunge=True))
    assert b"* 0 RECENT\r\n" in b"".join(second.news(expunge=True))
    assert b"\\Recent" in first.flags(1)
    assert b"\\Recent" not in second.flags(1)
    folder.apply(Changes(3, 4, (), [2]))
    list(first.news(expunge=True))
    assert first.recent == 1
