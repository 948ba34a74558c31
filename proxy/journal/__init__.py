"""The journal: crash spool, tee and audit trail; the only thing that both halves of the product share.

Layout, under `<state_dir>/journal/` (0700):

    <node>-<worker>-<boot id>/         one stream: one writer process's life
        lock                           flock'ed by the writer for as long as it lives
        <seq>-<base LSN>.seg           preallocated segments of framed records (`format.py`)
        durable                        the LSN up to which all is fsynced: readers stop there
        filed                          the filer's cursor, published after its index commit (atomic rename)
    unanswered                         digests of what was never answered (`unanswered.py`), kept 5 days

Who does what: the proxy has one `JournalWriter` a process (`writer.py`; behind it `pipeline.py`, `adoption.py`,
`tidying.py`, `unanswered.py`, and the disk's thread with `committer.py` and `log.py`); the filer has a
`JournalReader` (`reader.py`) and calls `publish_filed`; the CLI looks in by `audit.py`.

An LSN is a byte position in the stream, counted over all its segments: segment N+1 begins where N ends. After a
failed write or fsync the writer never touches that descriptor again: it opens a new segment whose base is the last
durable LSN, and by that every record of the failed segment at or past it is void. Every record carries its LSN and
a CRC seeded with the segment's random salt, so that neither stale blocks nor a message that contains journal bytes
can pass for a record.

Records (`records.py`): an `Entry` is one message as received; a `Mark` tells what became of it. The states of an
entry, who owns the message in each, and what a crash (of the process, or of the machine) does there:

    state         on disk                                sender has   owner    a crash here
    S0 receiving  nothing                                no reply     sender   the sender resends; nothing is known
    S1 written    Entry written, not fsynced             no reply     sender   found by recovery or not: S2 or S0 (the
                                                                               handler may have it: then a duplicate)
    S2 durable    Entry fsynced, no `answered`           no reply     both     recovery marks it `answered` 0; open
                                                                               recipients are replayed; a resend gets
                                                                               250 (or the recorded 5xx), no 2nd record
    S3 spooled    + Mark answered 250, recipients open   250          tap      replayed
    S4 in doubt   + Mark in_doubt(host)                  250 or none  tap      replayed, to the same host first
    S5 forwarded  + Mark forwarded, maybe not yet        250          handler  mark not durable: replayed once more,
                  durable                                                      a duplicate at the handler (counted)
    S6 rejected   + Mark rejected(code), answered 5xx    5xx          sender   settled
    S7 dead       + Mark dead(code)                      250          tap      settled; shown as a dead letter
    S8 passed     + Mark answered 4xx                    4xx          sender   settled, never filed, never replayed
    S9 dropped    + Mark dropped (by an operator)        250          nobody   settled; stays in the quarantine
    S10 settled   every recipient final, filed           -            nobody   its segment may be deleted

An entry is *decided* once it has an `answered` mark, *settled* once decided and every recipient is final (forwarded,
rejected, dead, dropped) or the sender kept it (4xx). The filer files decided entries (but for a passed 4xx). An entry
that our smuggling policy `refused` is decided and settled from the start, and gets no marks.

A mark is fsynced with the next commit, not before the reply it tells of: a crash in that instant turns S3, S5, S6 or
S8 back into S2. For S8 (`on_tempfail = "pass"`) that would be a message that both sides own, so await the future of
`answered` 4xx before sending the reply. A reply that could not be sent (the client has gone) is `answered` 0, by
which its digest counts as unanswered like after a crash.

Only the oldest segments of a stream are deleted, one after the other: a later one may hold the very marks that settle
an earlier one's entries. An entry that stays open long is copied to the head of the writer's own stream with its
outcomes so far, `copied_from` says whence (readers pass over copies), and where it left another stream a mark
`moved_to` says so there.

Crash points, in the order in which a record passes them; each has a test that kills the process there, and another
that cuts the power after every single write before, between and after them:

    CP1   before the entry (or mark) is written                  S0: nothing is known of it
    CP2   written, before fdatasync                              S1
    CP3   fsynced, `durable` not published                       S2: readers see it after recovery
    CP4   published, nobody told                                 S2
    CP5   a segment's file made, its header not written          an empty segment, passed over
    CP6   its header fsynced, its name not                       the segment is empty or gone; no record was in it
    CP7   a new segment ready, no record in it                   empty
    CP8   recovery: digests stored, marks `answered` 0 not       recovery does it again; a digest may stand twice
    CP9   a copy is durable, the original has no `moved_to`      found twice: the copy wins, and inherits
    CP10  the oldest segment deleted, others not yet             the rest is a shorter stream
    CP11  a stream renamed for removal, not yet removed          swept at the next start
    CP12  a stream made under its hidden name                    swept at the next start

What remains, each a duplicate at the handler and never a loss: after a failed fsync *and* a crash before the next
segment is begun, an entry that was reported as failed may be found after all, and is replayed; so is one that was
delivered in the instant between CP9 and the commit of its `moved_to`.
"""

from proxy.journal.errors import JournalError
from proxy.journal.ids import new_id
from proxy.journal.reader import Item, JournalReader
from proxy.journal.records import FINAL, Entry, Fate, Mark, OpenEntry, Record, unstuffed
from proxy.journal.stream import is_live, publish_filed
from proxy.journal.unanswered import UnansweredHit
from proxy.journal.writer import JournalWriter

__all__ = [
    "FINAL",
    "Entry",
    "Fate",
    "Item",
    "JournalError",
    "JournalReader",
    "JournalWriter",
    "Mark",
    "OpenEntry",
    "Record",
    "UnansweredHit",
    "is_live",
    "new_id",
    "publish_filed",
    "unstuffed",
]
