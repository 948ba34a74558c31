"""Folders over a real index: what is filed is shown, what is changed is seen by others, nothing is lost by a copy."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from proxy.journal.records import unstuffed
from store.accounts import Accounts
from store.copying import COPIES_LIMIT
from store.errors import NoFolder, NotAllowed
from store.expiry import Expiry
from store.filing import BatchFiler
from store.imap.columns import Columns
from store.imap.roles import FlagChange
from store.mailboxes import Mailboxes
from store.quarantine import NotThere, Quarantine
from store.schema import corrections, messages, segments
from store.settings import DAY_S
from tests.support.store import bounce, check_books, file_all, filing, make_entry, settings_for

HARD = "Bounces/Hard"


@pytest.fixture
def quarantine(tmp_path: Path) -> Iterator[Quarantine]:
    opened = Quarantine.open(settings_for(tmp_path))
    accounts = Accounts(opened.index)
    accounts.add("ann", "secret", "analyst")
    accounts.add("bob", "secret", "analyst")
    yield opened
    opened.close()


def test_filed_messages_show_with_their_exact_original(quarantine: Quarantine) -> None:
    odd = b"no header\x00\xff\r\n..stuffed\r\n\nbare\r.\r\n"
    entries = [make_entry(bounce(b"u%d@example.org" % n)) for n in range(3)] + [make_entry(odd)]
    file_all(quarantine, *entries)
    mailboxes = Mailboxes(quarantine)
    folder = mailboxes.folder(HARD)
    assert (folder.messages, folder.uidnext) == (3, 4)
    for entry in entries:
        assert quarantine.original(entry.id) == unstuffed(entry.wire)
    shown = dict(mailboxes.shown(HARD, [1, 2, 3, 9]))
    assert sorted(shown) == [1, 2, 3]
    assert shown[1].endswith(unstuffed(entries[0].wire))
    assert b"\r\nX-Bouncetap-Reason: bad_mailbox\r\n" in shown[1]
    described = mailboxes.described(HARD, [2])[2]
    assert b"Undelivered mail" in described.envelope
    assert shown[2][: described.header_bytes].endswith(b"\r\n\r\n")
    with pytest.raises(NotThere):
        quarantine.original("nothing")
    with pytest.raises(NoFolder):
        mailboxes.folder("Nowhere")
    assert mailboxes.folder("inbox").messages == 0


def test_filing_twice_files_once(quarantine: Quarantine) -> None:
    entry = make_entry()
    file_all(quarantine, entry, entry)
    file_all(quarantine, entry)
    assert Mailboxes(quarantine).folder(HARD).messages == 1


def test_load_and_changes_agree(quarantine: Quarantine) -> None:
    mailboxes = Mailboxes(quarantine)
    file_all(quarantine, *(make_entry() for _ in range(5)))
    columns = loaded(mailboxes)
    before = columns.modseq
    assert mailboxes.poll()[HARD] == before
    assert not mailboxes.changes(HARD, before, ["ann"]).entries  # type: ignore[union-attr]

    file_all(quarantine, make_entry())
    mailboxes.store(HARD, "ann", [1, 2, 77], FlagChange(set_bits=5, flagged=True, add=("$Mine",)))
    mailboxes.store(HARD, "bob", [2], FlagChange(set_bits=1))
    mailboxes.store(HARD, "ann", [3], FlagChange(set_bits=4))
    assert mailboxes.expunge(HARD, "ann") == [3]
    changes = mailboxes.changes(HARD, before, ["ann", "bob"])
    assert changes is not None
    columns.apply(changes)
    assert columns.uids == array("I", [1, 2, 4, 5, 6])
    assert changes.account_flags == {"ann": [(1, 5), (2, 5)], "bob": [(2, 1)]}
    names = columns.flag_sets.names[columns.sets[0]]
    assert b"\\Flagged" in names
    assert b"$Mine" in names
    fresh = loaded(mailboxes)
    assert (fresh.uids, fresh.modseq, fresh.uidnext) == (columns.uids, columns.modseq, columns.uidnext)
    assert mailboxes.unseen("ann", HARD) == 3
    assert mailboxes.unseen("bob", HARD) == 4


def loaded(mailboxes: Mailboxes) -> Columns:
    columns = Columns(HARD, 1)
    for piece in mailboxes.load(HARD):
        columns.apply(piece)
    return columns


def test_store_answers_what_has_changed(quarantine: Quarantine) -> None:
    mailboxes = Mailboxes(quarantine)
    file_all(quarantine, make_entry(), make_entry())
    done = mailboxes.store(HARD, "ann", [1, 2], FlagChange(add=("$new",), remove=("$hard",)))
    assert [(entry[0], entry[4]) for entry in done.entries] == [(1, "$bad_mailbox $new"), (2, "$bad_mailbox $new")]
    done = mailboxes.store(HARD, "ann", [1], FlagChange(replace_keywords=True, add=("$x",), flagged=False))
    assert [entry[4] for entry in done.entries] == ["$x"]
    assert mailboxes.store(HARD, "ann", [1], FlagChange(set_bits=1)).account_flags == {"ann": [(1, 1)]}
    assert mailboxes.store(HARD, "ann", [1], FlagChange(set_bits=1)).account_flags == {"ann": []}
    assert mailboxes.store(HARD, "ann", [1], FlagChange(clear_bits=1)).account_flags == {"ann": [(1, 0)]}
    with pytest.raises(NotAllowed):
        mailboxes.store(HARD, "nobody", [1], FlagChange(set_bits=1))


def test_a_copied_message_lives_until_its_last_entry_goes(quarantine: Quarantine) -> None:
    mailboxes = Mailboxes(quarantine)
    entry = make_entry()
    file_all(quarantine, entry)
    mailboxes.store(HARD, "ann", [1], FlagChange(set_bits=1, flagged=True, add=("$Mine",)))
    assert mailboxes.copy(HARD, "ann", [1, 5], "Replies") == [(1, 1)]
    assert mailboxes.move(HARD, "ann", [1], "Complaints") == [(1, 1)]
    assert mailboxes.folder(HARD).messages == 0
    assert mailboxes.account_flags("Complaints", "ann") == [(1, 1)]
    assert dict(mailboxes.shown("Complaints", [1])) == dict(mailboxes.shown("Replies", [1])) != {}
    for folder in ("Replies", "Complaints"):
        assert quarantine.original(entry.id)
        mailboxes.store(folder, "ann", [1], FlagChange(set_bits=4))
        assert mailboxes.expunge(folder, "ann") == []  # it is held
        assert mailboxes.expunge(folder, "bob", held=True) == []  # not marked by bob
        assert mailboxes.expunge(folder, "ann", [2], held=True) == []
        assert mailboxes.expunge(folder, "ann", [1], held=True) == [1]
    with pytest.raises(NotThere):
        quarantine.original(entry.id)
    with quarantine.index.read() as connection:
        assert connection.execute(sa.select(messages)).all() == []
        assert connection.execute(sa.select(segments.c.live_messages, segments.c.live_bytes)).all() == [(0, 0)]
        said = connection.execute(sa.select(corrections.c.action, corrections.c.to_folder, corrections.c.account))
        assert said.all() == [("copy", "Replies", "ann"), ("move", "Complaints", "ann")]


def test_copies_of_copies_end(quarantine: Quarantine) -> None:
    """Each COPY of a folder onto itself doubles it: an analyst's client in a loop must not fill the index."""
    mailboxes = Mailboxes(quarantine)
    file_all(quarantine, make_entry())
    for _ in range(12):
        with contextlib.suppress(NotAllowed):
            mailboxes.copy(HARD, "ann", range(1, mailboxes.folder(HARD).uidnext), HARD)
    assert COPIES_LIMIT <= mailboxes.folder(HARD).messages < 2 * COPIES_LIMIT
    with pytest.raises(NotAllowed, match="at most"):
        mailboxes.copy(HARD, "ann", [1], HARD)
    assert mailboxes.copy(HARD, "ann", [1], "Replies") == [(1, 1)]
    check_books(quarantine)


def test_inbox_stays_empty(quarantine: Quarantine) -> None:
    mailboxes = Mailboxes(quarantine)
    file_all(quarantine, make_entry())
    for change in (mailboxes.copy, mailboxes.move):
        with pytest.raises(NotAllowed):
            change(HARD, "ann", [1], "INBOX")
    with pytest.raises(NotAllowed):
        mailboxes.move(HARD, "ann", [1], HARD)
    with pytest.raises(NoFolder):
        mailboxes.copy(HARD, "ann", [1], "Nowhere")
    assert mailboxes.folder(HARD).messages == 1


def test_the_books_stay_right_while_all_work_at_once(quarantine: Quarantine) -> None:
    """Filing, expiry and three analysts, each on connections of their own."""
    mailboxes = Mailboxes(quarantine)
    filer = BatchFiler(quarantine)
    old_ns = time.time_ns() - 50 * DAY_S * 10**9
    ready = [
        filing(quarantine.settings, make_entry(received_ns=old_ns if n % 3 else time.time_ns())) for n in range(100)
    ]
    done = threading.Event()
    failures: list[BaseException] = []

    def analyst(seed: int) -> None:
        dice = random.Random(seed)
        account = dice.choice(["ann", "bob"])
        try:
            while not done.is_set():
                uids = dice.sample(range(1, 100), 5)
                source, target = dice.sample([HARD, "Replies", "Other"], 2)
                mailboxes.store(source, account, uids, FlagChange(set_bits=4, flagged=dice.random() < 0.1))
                with contextlib.suppress(NotAllowed):  # there are enough copies
                    dice.choice([mailboxes.copy, mailboxes.move])(source, account, uids, target)
                mailboxes.expunge(source, account, uids[:2])
                for _ in mailboxes.shown(target, uids):
                    pass
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=analyst, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for start in range(0, 100, 20):
        filer.file(ready[start : start + 20])
        sum(Expiry(quarantine, filer).steps(force=True))
    done.set()
    for thread in threads:
        thread.join()
    filer.close()
    assert failures == []
    check_books(quarantine)
