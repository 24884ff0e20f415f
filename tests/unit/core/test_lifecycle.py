"""The life of a launch: the table of edges, and what is learnt on the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.lifecycle import EDGES, Action, InstanceRecord, Phase, fold_instances, step
from fabric.journal.base import GENESIS, Entry
from fabric.model.events import Event
from fabric.model.money import Tariff

TOKEN = "fab-1"


def entry(seq: int, kind: Event, at: float = 0.0, **data: Any) -> Entry:
    """One journal entry about the launch."""
    return Entry(seq, at or float(seq), "controller", kind.value, {"token": TOKEN, **data}, GENESIS, GENESIS)


def life(*entries: Entry) -> InstanceRecord:
    """The launch after these entries."""
    return fold_instances(entries)[TOKEN]


INTENT = entry(
    1,
    Event.LAUNCH_INTENDED,
    site="sky",
    node_type="sky.gpu",
    offer="sky.gpu/a/spot",
    zone="a",
    market="spot",
    per_hour=3_600_000,
    minimum_seconds=60,
    ticket_sha256="t",
    ticket_expires_at=100.0,
    join_by=90.0,
    request_id="r",
    labels={"zone": "a"},
)
ACCEPTED = entry(2, Event.LAUNCH_ACCEPTED, instance="i-1")
JOINED = entry(3, Event.NODE_JOINED, site="sky", node_type="sky.gpu", python="3.11", ray="2.60", lease_until=50.0)
ENDED = entry(9, Event.INSTANCE_ENDED, instance="i-1", launched_at_ms=1000, ended_at_ms=91_000)


def test_a_whole_life_is_told_in_order() -> None:
    renewed = entry(4, Event.LEASE_RENEWED, until=60.0)
    ending = entry(8, Event.TERMINATE_INTENDED, instance="i-1", cause="idle", by="controller")
    known: dict[str, InstanceRecord] = {}
    phases = []
    for one in (INTENT, ACCEPTED, JOINED, renewed, ending, ENDED):
        known = fold_instances([one], known)
        phases.append(known[TOKEN].phase)
    assert phases == [Phase.REQUESTED, Phase.BOOTING, Phase.RUNNING, Phase.RUNNING, Phase.ENDING, Phase.ENDED]
    record = known[TOKEN]
    assert (record.site, record.node_type, record.offer, record.market) == ("sky", "sky.gpu", "sky.gpu/a/spot", "spot")
    assert (record.instance, record.tariff, record.labels) == ("i-1", Tariff(3_600_000, 60), {"zone": "a"})
    assert (record.intended_at, record.accepted_at, record.joined_at) == (1.0, 2.0, 3.0)
    assert (record.lease_until, record.join_by, record.cause, record.by) == (60.0, 90.0, "idle", "controller")
    assert record.cost(now_ms=10**9) == 90_000
    assert record.oddities == ()


def test_the_intent_asks_for_the_cloud_call_and_nothing_before_it_does() -> None:
    record, instructions = step(InstanceRecord(TOKEN), INTENT)
    assert [instruction.action for instruction in instructions] == [Action.CALL_LAUNCH]
    assert not InstanceRecord(TOKEN).phase.charged
    assert record.phase.charged and record.phase.coming


def test_a_refusal_ends_the_token_and_asks_for_the_next_offer() -> None:
    record, instructions = step(
        life(INTENT), entry(2, Event.LAUNCH_REFUSED, offer="o", error="capacity", message="none")
    )
    assert (record.phase, record.cause) == (Phase.ENDED, "capacity")
    assert [instruction.action for instruction in instructions] == [Action.TRY_NEXT_OFFER]


def test_a_launch_given_up_that_made_an_instance_after_all_is_ended() -> None:
    cancelled = life(INTENT, entry(2, Event.LAUNCH_CANCELLED, cause="restart"))
    record, instructions = step(cancelled, entry(3, Event.LAUNCH_ACCEPTED, instance="i-1"))
    assert record.phase is Phase.ENDING
    assert [(one.action, one.instance) for one in instructions] == [(Action.TERMINATE, "i-1")]


def test_a_node_may_join_before_the_reply_to_its_launch_was_read() -> None:
    record = life(INTENT, JOINED, ACCEPTED)
    assert (record.phase, record.instance, record.oddities) == (Phase.RUNNING, "i-1", ())


def test_after_a_spot_notice_the_node_drains_and_a_lost_one_is_ended() -> None:
    notice = entry(5, Event.SPOT_NOTICE, reclaim_at=77.0)
    draining, drain = step(life(INTENT, ACCEPTED, JOINED), notice)
    lost, terminate = step(draining, entry(6, Event.NODE_LOST, ray_node_id="abc"))
    assert (draining.phase, draining.reclaim_at, drain[0].action) == (Phase.DRAINING, 77.0, Action.DRAIN)
    assert (lost.phase, lost.ray_node_id, terminate[0].action) == (Phase.LOST, "abc", Action.TERMINATE)


def test_once_the_provider_gave_an_end_time_nothing_late_brings_the_instance_back() -> None:
    ended = life(INTENT, ACCEPTED, JOINED, ENDED)
    for late in (entry(10, Event.TERMINATE_INTENDED, instance="i-1", cause="x", by="reaper"), ACCEPTED, ENDED):
        record, instructions = step(ended, late)
        assert (record.phase, record.ended_at_ms, instructions) == (Phase.ENDED, 91_000, ())


def test_two_reports_of_one_end_agree_on_the_earlier_time() -> None:
    later = entry(10, Event.INSTANCE_ENDED, instance="i-1", launched_at_ms=1000, ended_at_ms=95_000)
    assert life(INTENT, ACCEPTED, ENDED, later).ended_at_ms == 91_000
    assert life(INTENT, ACCEPTED, later, ENDED).ended_at_ms == 91_000


def test_what_fits_no_edge_is_kept_as_an_oddity_and_changes_no_phase() -> None:
    record = life(INTENT, entry(2, Event.LEASE_RENEWED, until=5.0))
    assert record.phase is Phase.REQUESTED
    assert record.oddities == ("2 lease.renewed in requested",)


def test_entries_about_something_else_are_passed_over() -> None:
    other = Entry(1, 1.0, "controller", Event.CONFIG_LOADED.value, {"token": TOKEN}, GENESIS, GENESIS)
    unknown = Entry(2, 1.0, "x", "from.the.future", {"token": TOKEN}, GENESIS, GENESIS)
    nameless = Entry(3, 1.0, "x", Event.LAUNCH_ACCEPTED.value, {}, GENESIS, GENESIS)
    assert fold_instances([other, unknown, nameless]) == {}


def test_every_phase_can_be_reached_and_left_for_the_end() -> None:
    reached = {phase for phase, _ in EDGES.values()} | {Phase.PLANNED}
    assert reached == set(Phase)
    onward: Mapping[Phase, set[Phase]] = {
        phase: {after for (before, _), (after, _) in EDGES.items() if before is phase} for phase in Phase
    }
    for phase in Phase:
        seen, waiting = {phase}, [phase]
        while waiting:
            new = onward[waiting.pop()] - seen
            seen |= new
            waiting += new
        assert Phase.ENDED in seen


events = st.sampled_from(sorted({event for _, event in EDGES}))
facts = st.fixed_dictionaries(
    {},
    optional={
        "instance": st.sampled_from(["i-1", ""]),
        "site": st.just("sky"),
        "until": st.floats(0, 100),
        "launched_at_ms": st.integers(0, 1000),
        "ended_at_ms": st.one_of(st.none(), st.integers(1000, 9000)),
        "cause": st.just("idle"),
        "per_hour": st.integers(0, 10),
    },
)


@given(st.lists(st.tuples(events, facts), max_size=12))
def test_any_sequence_of_entries_folds_the_same_in_one_go_and_step_by_step(
    told: list[tuple[Event, dict[str, Any]]],
) -> None:
    entries = [entry(seq + 1, kind, **data) for seq, (kind, data) in enumerate(told)]
    once = fold_instances(entries)
    stepwise: dict[str, InstanceRecord] = {}
    for one in entries:
        stepwise = fold_instances([one], stepwise)
    assert once == stepwise
    for record in once.values():
        assert record.cost(now_ms=10_000) >= 0
        if record.ended_at_ms is not None:
            assert record.phase is Phase.ENDED
