"""Who may live: every pair of a journal record and a listing has one ruling."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.custody import NOTHING, Machine, Patience, Ruling, judge
from autoscaler.core.lifecycle import InstanceRecord, Phase

PATIENT = Patience(stranger_s=10, settle_s=10, missing_s=10, deadline_s=10, ending_s=10)
HASTY = Patience(stranger_s=0, settle_s=0, missing_s=0, deadline_s=0, ending_s=0)
NOW = 10_000.0
ALIVE = Machine(launched_at_ms=9_000_000, ended_at_ms=None, first_seen_at=9_000.0)
ENDED = replace(ALIVE, ended_at_ms=9_500_000, reason="user")
BOOTING = InstanceRecord(
    "t", Phase.BOOTING, site="sky", instance="i", intended_at=9_000.0, accepted_at=9_001.0, join_by=9_900.0
)
RUNNING = replace(BOOTING, phase=Phase.RUNNING, joined_at=9_100.0, lease_until=9_900.0)


def ruling(
    record: InstanceRecord | None, machine: Machine | None, patience: Patience = PATIENT, **more: bool
) -> Ruling:
    return judge(record, machine, NOW, patience, **more).ruling


def test_a_machine_that_no_entry_justifies_is_an_orphan_once_it_has_been_there_for_a_while() -> None:
    assert ruling(None, ALIVE) is Ruling.ORPHAN
    assert ruling(None, replace(ALIVE, first_seen_at=NOW - 5)) is Ruling.NOTHING
    assert ruling(None, replace(ALIVE, first_seen_at=NOW - 5), HASTY) is Ruling.ORPHAN


def test_a_machine_whose_launch_was_given_up_is_an_orphan() -> None:
    given_up = InstanceRecord("t", Phase.ENDED, intended_at=9_000.0, ended_at=9_100.0, cause="never_appeared")
    assert ruling(given_up, ALIVE) is Ruling.ORPHAN
    assert ruling(replace(given_up, ended_at=NOW - 1), ALIVE) is Ruling.NOTHING, "the listing may be older"


def test_an_unheard_reply_is_adopted_unless_it_is_being_waited_for() -> None:
    unheard = InstanceRecord("t", Phase.REQUESTED, intended_at=9_990.0, join_by=NOW + 60)
    assert ruling(unheard, ALIVE) is Ruling.ADOPT
    assert ruling(unheard, ALIVE, in_flight=True) is Ruling.NOTHING
    joined = replace(unheard, phase=Phase.RUNNING, joined_at=9_995.0, lease_until=NOW + 60)
    assert ruling(joined, ALIVE) is Ruling.ADOPT, "it joined before anybody learnt its id"


def test_deadlines_end_a_machine_after_the_patience_and_not_before() -> None:
    assert ruling(BOOTING, ALIVE) is Ruling.END
    assert ruling(RUNNING, ALIVE) is Ruling.END
    for late in (replace(BOOTING, join_by=NOW - 5), replace(RUNNING, lease_until=NOW - 5)):
        assert ruling(late, ALIVE) is Ruling.NOTHING
        assert ruling(late, ALIVE, HASTY) is Ruling.END


def test_an_intended_end_is_repeated_until_the_cloud_says_that_it_is_over() -> None:
    ending = replace(RUNNING, phase=Phase.ENDING, ending_at=9_500.0)
    assert ruling(ending, ALIVE) is Ruling.REPEAT
    assert ruling(ending, ENDED) is Ruling.ENDED
    assert ruling(ending, None, seen_before=True) is Ruling.REPEAT, "not listed is not yet gone"
    assert ruling(ending, None, not_found=True) is Ruling.GONE
    assert ruling(replace(ending, ended_at_ms=1), ENDED) is Ruling.NOTHING, "it is written already"


def test_an_accepted_machine_may_be_missing_from_listings_for_a_while() -> None:
    young = replace(BOOTING, accepted_at=NOW - 1, join_by=NOW + 60)
    assert ruling(young, None) is Ruling.NOTHING
    assert ruling(replace(young, accepted_at=NOW - 60), None) is Ruling.END


def test_a_launch_that_nobody_pursues_and_nobody_lists_is_cancelled() -> None:
    left = InstanceRecord("t", Phase.REQUESTED, intended_at=NOW - 60, join_by=NOW + 60)
    assert ruling(left, None) is Ruling.CANCEL
    assert ruling(left, None, in_flight=True) is Ruling.NOTHING
    assert ruling(replace(left, intended_at=NOW - 1), None) is Ruling.NOTHING
    assert ruling(replace(left, phase=Phase.ENDING, ending_at=NOW - 60), None) is Ruling.NEVER


def test_what_has_ended_in_both_books_is_left_alone() -> None:
    over = replace(RUNNING, phase=Phase.ENDED, ended_at=9_600.0, ended_at_ms=9_500_000)
    assert judge(over, ENDED, NOW, PATIENT) == NOTHING
    assert judge(over, None, NOW, PATIENT) == NOTHING


times = st.none() | st.floats(0, 20_000)


@given(
    phase=st.sampled_from(Phase),
    instance=st.sampled_from(["", "i"]),
    moments=st.tuples(times, times, times, times, times),
    machine=st.none() | st.sampled_from([ALIVE, ENDED]),
    in_flight=st.booleans(),
)
def test_more_patience_never_ends_more(
    phase: Phase,
    instance: str,
    moments: tuple[float | None, ...],
    machine: Machine | None,
    in_flight: bool,
) -> None:
    intended, accepted, joined, join_by, lease = moments
    record = InstanceRecord(
        "t",
        phase,
        instance=instance,
        intended_at=intended,
        accepted_at=accepted,
        joined_at=joined,
        join_by=join_by,
        lease_until=lease,
    )
    ends = {Ruling.END, Ruling.ORPHAN, Ruling.CANCEL, Ruling.NEVER}
    if ruling(record, machine, PATIENT, in_flight=in_flight) in ends:
        assert ruling(record, machine, HASTY, in_flight=in_flight) in ends
