"""`bouncetap export`, `message`, `expire`, `salvage` on a real state directory, with and without a running filer."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from proxy.journal import Entry
from proxy.journal.records import unstuffed
from store import export, lookup
from store.accounts import Accounts
from store.imap.roles import FlagChange
from store.lock import filer_lock
from store.mailboxes import Mailboxes
from store.quarantine import Quarantine
from store.settings import DAY_S
from tests.support.store import bounce, file_all, filing_loop, journal, make_entry, settings_for

ODD = b"..starts with a dot\r\nbare\rcr\nlf\x00nul \xff\r\n..\r\n"
HARD = "Bounces/Hard"


def command(path: Path, *args: str) -> subprocess.CompletedProcess[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BOUNCETAP_")}
    config = path / "bouncetap.toml"
    return subprocess.run(
        [sys.executable, "-m", "bouncetap", "--config", str(config), *args],
        capture_output=True,
        env=environment,
        timeout=60,
        check=False,
    )


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "bouncetap.toml").write_text(
        f'state_dir = "{tmp_path}"\n[proxy]\ndomains = ["b.example"]\n[legacy]\nhosts = ["127.0.0.1:1"]\n'
    )
    return tmp_path


def fill(path: Path, *entries: Entry) -> None:
    quarantine = Quarantine.open(settings_for(path))
    file_all(quarantine, *entries)
    quarantine.close()


def test_raw_is_the_exact_original(state: Path) -> None:
    entry = make_entry(ODD)
    fill(state, entry)
    done = command(state, "message", entry.id, "--raw")
    assert done.stdout == unstuffed(ODD)
    shown = command(state, "message", entry.id).stdout.decode()
    assert hashlib.sha256(unstuffed(ODD)).hexdigest() in shown
    as_json = json.loads(command(state, "message", "--json", entry.id).stdout)
    assert (as_json["id"], as_json["fate"], as_json["answered"]) == (entry.id, "forwarded", 250)
    unknown = command(state, "message", "01ARZ3NDEKTSV4RRFFQ69G5FAV")
    assert unknown.returncode == 1
    assert unknown.stderr.count(b"\n") == 1
    assert command(state, "message", entry.id, "--raw", "--resend").returncode == 2
    assert command(state, "message", entry.id, "--resend").returncode == 1  # no proxy runs
    assert not list((state / "run").glob(".resend*"))


async def test_a_message_that_is_only_in_the_journal(state: Path) -> None:
    entry = make_entry(ODD)
    await journal(state / "journal", [entry])
    assert command(state, "message", entry.id, "--raw").stdout == unstuffed(ODD)
    assert b"not filed yet" in command(state, "message", entry.id).stdout


def test_a_message_does_not_steer_the_terminal(state: Path) -> None:
    entry = make_entry(bounce().replace(b"User unknown", b"User \x1b[2J\xc2\x9b unknown"), helo=b"\x1b]0;x\x07")
    fill(state, entry)
    shown = command(state, "message", entry.id).stdout.decode()
    assert all(character.isprintable() or character == "\n" for character in shown)


def test_export_resumes(state: Path) -> None:
    first = [make_entry(bounce(b"u%d@example.org" % n)) for n in range(3)] + [make_entry(b"Subject: x\r\n\r\nhi\r\n")]
    fill(state, *first)

    def exported(*args: str) -> list[dict[str, object]]:
        return [json.loads(line) for line in command(state, "export", *args).stdout.splitlines()]

    rows = exported("--cursor", "crm", "--kind", "bounce")
    assert [row["id"] for row in rows] == [entry.id for entry in first[:3]]
    assert rows[0]["recipients"][0]["diagnostic"]  # type: ignore[index]
    assert exported("--cursor", "crm", "--kind", "bounce") == []
    later = make_entry(bounce(b'=formula,"q"@example.org'))
    fill(state, later)
    assert [row["id"] for row in exported("--cursor", "crm", "--kind", "bounce")] == [later.id]
    assert len(exported()) == 5
    assert len(exported("--since", "1h")) == 5
    assert exported("--since", "2099-01-01") == []
    assert command(state, "export", "--since", "yesterday").returncode == 2
    lines = list(csv.DictReader(io.StringIO(command(state, "export", "--format", "csv").stdout.decode())))
    assert [line["id"] for line in lines] == [entry.id for entry in [*first, later]]
    assert lines[0]["address"] == "u0@example.org"
    assert (lines[0]["recipient_category"], lines[0]["opt_out"]) == ("hard", "false")


def test_a_reader_that_dies_is_given_its_rows_again(state: Path) -> None:
    entries = [make_entry(bounce(b"u%d@example.org" % n)) for n in range(400)]
    fill(state, *entries)
    ids = [entry.id for entry in entries]
    cut = subprocess.Popen(
        [sys.executable, "-m", "bouncetap", "--config", str(state / "bouncetap.toml"), "export", "--cursor", "crm"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert cut.stdout is not None
    row = json.loads(cut.stdout.readline())
    cut.stdout.close()
    cut.wait()
    with (state / "out").open("wb") as out:
        done = subprocess.run(cut.args, stdout=out, check=False)
    assert done.returncode == 0
    rows = [json.loads(line) for line in (state / "out").read_bytes().splitlines()]
    assert [row["id"] for row in rows] == ids, "the cursor did not move before"
    assert command(state, "export", "--cursor", "crm").stdout == b""
    after = command(state, "export", "--cursor", "crm", "--after", str(row["position"])).stdout.splitlines()
    assert [json.loads(line)["id"] for line in after] == ids[1:]


def test_a_cursor_passes_what_is_not_wanted(state: Path) -> None:
    fill(state, make_entry())
    quarantine = Quarantine.open(settings_for(state))
    (page,) = export.pages(quarantine, export.Selection(kinds=("human",)))
    assert (page.rows, page.last_pk) == ([], 1)
    assert list(export.pages(quarantine, export.Selection(), page.last_pk)) == []
    quarantine.close()


def test_a_damaged_verdict_does_not_end_the_export(state: Path) -> None:
    entries = [make_entry(bounce(b"u%d@example.org" % n)) for n in range(2)]
    fill(state, *entries)
    (segment,) = (state / "quarantine").rglob("*.seg")
    data = bytearray(segment.read_bytes())
    data[data.index(entries[0].id.encode()) + 60] ^= 0xFF
    segment.write_bytes(data)
    quarantine = Quarantine.open(settings_for(state))
    (page,) = export.pages(quarantine, export.Selection(), full=True)
    quarantine.close()
    assert [row["id"] for row in page.rows] == [entry.id for entry in entries]
    assert page.rows[0]["recipients"][0]["address"] == "u0@example.org"
    assert ["diagnostic" in row["recipients"][0] for row in page.rows] == [False, True]


def test_corrections_are_exported_and_outlive_their_message(state: Path) -> None:
    entry = make_entry()
    fill(state, entry)
    quarantine = Quarantine.open(settings_for(state))
    Accounts(quarantine.index).add("ann", "x", "admin")
    mailboxes = Mailboxes(quarantine)
    mailboxes.move(HARD, "ann", [1], "Replies")
    mailboxes.store("Replies", "ann", [1], FlagChange(set_bits=4))
    assert mailboxes.expunge("Replies", "ann") == [1]
    quarantine.close()
    assert command(state, "export", "--cursor", "crm").stdout == b""
    (line,) = command(state, "export", "--corrections", "--cursor", "crm", "--kind", "bounce").stdout.splitlines()
    told = json.loads(line)
    assert (told["id"], told["from"], told["to"], told["category"]) == (entry.id, HARD, "Replies", "hard")
    assert command(state, "export", "--corrections", "--cursor", "crm").stdout == b""
    lines = command(state, "export", "--corrections", "--format", "csv").stdout.decode()
    (row,) = csv.DictReader(io.StringIO(lines))
    assert row["account"] == "ann"


def test_pages_and_verdicts(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "PAGE_ROWS", 2)
    entries = [make_entry() for _ in range(5)]
    fill(state, *entries)
    rows = list(export.verdicts(settings_for(state)))
    assert [row["id"] for row in rows] == [entry.id for entry in entries]
    assert rows[0]["sha256"] == hashlib.sha256(entries[0].wire).hexdigest()
    assert rows[0]["recipients"][0]["reason"] == "bad_mailbox"
    assert rows[0]["folder"] == HARD


def test_unknowns_of_the_quarantine(state: Path) -> None:
    odd = bounce().replace(b"5.1.1 User unknown", b"5.0.0 Qwzx plonk").replace(b"5.1.1", b"5.0.0")
    odd = odd.replace(b"The mailbox gone@example.org does not exist.", b"Sorry.")
    old = make_entry(odd.replace(b"plonk", b"bonk"), received_ns=time.time_ns() - 40 * int(DAY_S * 1e9))
    fill(state, make_entry(), make_entry(odd), make_entry(odd), old)
    shown = command(state, "unknowns").stdout.decode()
    assert shown.startswith("2 recipients without a reason, 1 templates")
    assert "# 1. 2 x * * qwzx plonk" in shown
    assert "bonk" not in shown
    assert "3 recipients" in command(state, "unknowns", "--since", "60d").stdout.decode()


@pytest.mark.parametrize("wire", [ODD, b".\r\n..\r\n", b"", b"\r\n"])
def test_stuffing_is_undone_by_unstuffing(wire: bytes) -> None:
    assert unstuffed(lookup.stuffed(unstuffed(wire))) == unstuffed(wire)


@pytest.mark.parametrize("args", [("export",), ("account", "list"), ("filer",)], ids=lambda args: args[0])
def test_a_damaged_index_is_told_in_one_line(state: Path, args: tuple[str, ...]) -> None:
    (state / "index.db").write_bytes(os.urandom(20_000))
    done = command(state, *args)
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
    assert b"index.db: file is not a database" in done.stderr


def test_expire_alone(state: Path) -> None:
    old = [make_entry(received_ns=time.time_ns() - 40 * DAY_S * 10**9) for _ in range(3)]
    fill(state, *old, make_entry())
    quarantine = Quarantine.open(settings_for(state))
    Accounts(quarantine.index).add("ann", "x", "admin")
    Mailboxes(quarantine).store(HARD, "ann", [2], FlagChange(flagged=True))
    quarantine.close()
    dry = command(state, "expire", "--dry-run").stdout.decode()
    assert HARD in dry
    assert dry.split()[-3] == "2"
    assert command(state, "expire").stdout == b"removed 2 messages\n"
    assert command(state, "message", old[1].id, "--raw").stdout == unstuffed(old[1].wire)
    loop = filing_loop(settings_for(state))
    blocked = command(state, "expire")
    loop.close()
    assert blocked.returncode == 1
    assert b"another filer" in blocked.stderr


def test_salvage(state: Path) -> None:
    entry = make_entry(ODD)
    fill(state, entry)
    for file in state.glob("index.db*"):
        file.unlink()
    assert command(state, "message", entry.id, "--raw").returncode == 1
    told = command(state, "salvage", "--dry-run").stdout.decode()
    assert "1 message to enter" in told
    assert told.endswith("1 message would be entered\n")
    done = command(state, "salvage")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.endswith(b"1 message was entered\n")
    assert command(state, "salvage").stdout == b"0 messages were entered\n"
    assert b"sender:    unknown since it was salvaged\n" in command(state, "message", entry.id).stdout
    assert command(state, "message", entry.id, "--raw").stdout == unstuffed(entry.wire)
    with filer_lock(state):
        refused = command(state, "salvage")
    assert refused.returncode == 1
    assert b"stop it first" in refused.stderr
