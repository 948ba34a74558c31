"""The journal: crash spool, tee and audit trail; the only thing that both halves of the product share.

Layout, under `<state_dir>/journal/` (0700):

    <node>-<worker>-<boot uuid>/       one stream: one writer process's life
        lock                           flock'ed by the writer for as long as it lives
        <seq>-<base LSN>.seg           preallocated segments of framed records (`format.py`)
        durable                        the LSN up to which all is fsynced: readers stop there
        filed                          the filer's cursor, published after its index commit (atomic rename)
    unanswered                         digests of what a crash left unanswered (`duplicates that we caused`), 5 days

An LSN is a byte position in the stream, counted over all its segments: segment N+1 begins where N ends. After a
failed write or fsync the writer never touches that descriptor again: it opens a new segment whose base is the last
durable LSN, and by that every record of the failed segment at or past it is void. Every record carries its LSN and
a CRC seeded with the segment's random salt, so that neither stale blocks nor a message that contains journal bytes
can pass for a record.

Records (`records.py`): an `Entry` is one message as received; a `Mark` tells what became of it. The states of an
entry, who owns the message in each, and what a crash (of the process, or of the machine) does there:

    | state        | on disk                              | the sender has | owner  | a crash here                                     |
    |--------------|--------------------------------------|----------------|--------|--------------------------------------------------|
    | S0 receiving | nothing                              | no reply       | sender | the sender resends; nothing is known of it       |
    | S1 written   | Entry written, not fsynced           | no reply       | sender | lost or found by recovery: as S0 or S2           |
    | S2 durable   | Entry fsynced, no `answered`         | no reply yet   | both   | recovery marks it `answered` (recovered); open   |
    |              |                                      |                |        | recipients are replayed; digest to `unanswered`, |
    |              |                                      |                |        | a resend is answered 250 without a second record |
    | S3 spooled   | + Mark answered 250, recipients open | 250            | tap    | replayed                                         |
    | S4 in doubt  | + Mark in_doubt(host)                | 250 or none    | tap    | replayed to the same host first                  |
    | S5 forwarded | + Mark forwarded(code), maybe not yet| 250            | handler| mark not durable: replayed once more, a          |
    |              |   durable                            |                |        | duplicate at the handler (counted)               |
    | S6 rejected  | + Mark rejected(code), answered 5xx  | 5xx            | sender | settled                                          |
    | S7 dead      | + Mark dead(code)                    | 250            | tap    | settled; shown as a dead letter                  |
    | S8 passed    | + Mark answered 4xx                  | 4xx            | sender | settled, never filed, never replayed             |
    | S9 dropped   | + Mark dropped (by an operator)      | 250            | nobody | settled; stays in the quarantine                 |
    | S10 settled  | every recipient final, filed < cursor| -              | nobody | its segment may be deleted                       |

An entry is *decided* once it has an `answered` mark, *settled* once decided and every recipient is final (forwarded,
rejected, dead, dropped) or the sender kept it (4xx). The filer files decided entries (but for a passed 4xx).
"""
