"""The decision tables, row by row and for every combination."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.journal import FINAL, Fate
from proxy.outcome import LATER, OWN, WAIT, Outcome, Own, Policy, decide, decisive, fates, grouped
from proxy.types import Reply
from proxy.upstream.client import Said

OK = Reply(250, (b"2.0.0 taken",))
OTHER_OK = Reply(252, (b"2.0.0 maybe",))
TEMP = Reply(451, (b"4.2.0 later", b"4.2.0 please"))
GOING = Reply(421, (b"4.3.2 going down",))
NO = Reply(550, (b"5.1.1 nobody",))
NEVER = Reply(554, (b"5.6.0 never",))
SPOOL, PASS = Policy(), Policy(pass_tempfail=True)


def told(*said: Reply | None, durable: bool | None = True, late: bool = False, policy: Policy = SPOOL) -> object:
    return decide(durable=durable, outcome=Outcome(said, "h:25"), late=late, policy=policy)


def test_nothing_is_said_before_the_record_is_durable_or_the_deadline_has_passed() -> None:
    for said in (OK, TEMP, NO, None):
        assert told(said, durable=None) is WAIT
    assert decide(durable=None, outcome=None, late=False, policy=SPOOL) is WAIT
    assert decide(durable=None, outcome=None, late=True, policy=SPOOL) is WAIT


def test_the_deadline_makes_a_durable_message_ours() -> None:
    assert decide(durable=True, outcome=None, late=False, policy=SPOOL) is WAIT
    assert decide(durable=True, outcome=None, late=True, policy=SPOOL) is OWN
    assert decide(durable=True, outcome=None, late=True, policy=PASS) is OWN


def test_without_a_record_the_handler_is_awaited() -> None:
    assert decide(durable=False, outcome=None, late=True, policy=SPOOL) is WAIT


def test_a_pending_fsync_past_the_deadline_counts_as_no_record() -> None:
    assert told(OK, durable=None, late=True) is OK
    assert told(NO, durable=None, late=True) is NO
    assert told(TEMP, durable=None, late=True) is TEMP
    assert told(None, durable=None, late=True) is LATER


def test_the_handlers_verdict_is_passed_verbatim() -> None:
    for durable in (True, False):
        assert told(OK, durable=durable) is OK
        assert told(NO, durable=durable) is NO
        assert told(NO, NEVER, durable=durable) is NO
        assert told(NO, OTHER_OK, durable=durable) is OTHER_OK


def test_what_is_open_is_spooled_or_passed() -> None:
    for said in ((TEMP,), (None,), (GOING,), (NO, TEMP), (None, NO)):
        assert told(*said) is OWN
    assert told(OK, TEMP) is OK
    assert told(OK, None, policy=PASS) is OK
    assert told(TEMP, policy=PASS) is TEMP
    assert told(NO, TEMP, policy=PASS) is TEMP
    assert told(GOING, policy=PASS) == Reply(451, GOING.lines)
    assert told(None, policy=PASS) is OWN


def test_without_a_record_the_sender_keeps_what_is_open() -> None:
    assert told(TEMP, durable=False) is TEMP
    assert told(GOING, durable=False) == Reply(451, GOING.lines)
    assert told(None, durable=False) is LATER
    assert told(OK, TEMP, durable=False) is LATER  # a duplicate for the first rather than a loss for the second
    assert told(OK, None, durable=False) is LATER


def test_fates() -> None:
    outcome = Outcome((OK, TEMP, NO, None), "h:25")
    assert fates(outcome, told=250) == (Fate.FORWARDED, Fate.OPEN, Fate.DEAD, Fate.OPEN)
    assert fates(Outcome((NO, NEVER), "h:25"), told=550) == (Fate.REJECTED, Fate.REJECTED)
    assert fates(Outcome((None, None), "h:25", in_doubt=True), told=250) == (Fate.IN_DOUBT, Fate.IN_DOUBT)
    assert fates(Outcome((NO, None), "h:25", in_doubt=True), told=250) == (Fate.DEAD, Fate.IN_DOUBT)


def test_recipients_of_one_fate_share_a_mark() -> None:
    said = (OK, TEMP, OK, None)
    found = grouped(fates(Outcome(said), told=250), said)
    assert found == {
        (Fate.FORWARDED, 250, "2.0.0 taken"): [0, 2],
        (Fate.OPEN, 451, "4.2.0 later"): [1],
        (Fate.OPEN, 0, ""): [3],
    }


def test_the_decisive_reply() -> None:
    assert decisive(Said(NO, (OK, OK), None), 2) == (NO, NO)
    assert decisive(Said(NO, (), None), 2) == (NO, NO)
    assert decisive(Said(OK, (OK, NO), TEMP), 2) == (TEMP, NO)
    many = Reply(552, (b"too many recipients",))
    assert decisive(Said(OK, (OK, many), OK), 2) == (OK, Reply(452, many.lines))
    assert decisive(Said(OK, (many, many), None), 2) == (many, many)
    assert decisive(Said(OK, (OK, many), NEVER), 2) == (NEVER, many)
    assert decisive(Said(OK, (TEMP, NO), None), 2) == (TEMP, NO)


replies = st.sampled_from([OK, OTHER_OK, TEMP, GOING, NO, NEVER, None])


@given(
    said=st.lists(replies, min_size=1, max_size=4),
    durable=st.sampled_from([True, False, None]),
    late=st.booleans(),
    pass_tempfail=st.booleans(),
    in_doubt=st.booleans(),
)
def test_nothing_acknowledged_is_ever_lost(
    *, said: list[Reply | None], durable: bool | None, late: bool, pass_tempfail: bool, in_doubt: bool
) -> None:
    """Whatever happens: 250 means that each recipient is forwarded, dead, or kept open by a durable record."""
    outcome = Outcome(tuple(said), "h:25", in_doubt=in_doubt)
    answer = decide(durable=durable, outcome=outcome, late=late, policy=Policy(pass_tempfail=pass_tempfail))
    if answer is WAIT:
        assert durable is None
        assert not late
        return
    code = 250 if isinstance(answer, Own) else answer.code if answer is not None else 0
    assert code != 421
    becomes = fates(outcome, told=code)
    if code < 300:
        assert durable or all(fate in FINAL for fate in becomes)
        assert Fate.REJECTED not in becomes
    elif code >= 500:
        assert set(becomes) == {Fate.REJECTED}
    if isinstance(answer, Own):
        assert not outcome.accepted
