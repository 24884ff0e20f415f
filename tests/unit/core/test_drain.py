"""What is given back, when, and in which order."""

from __future__ import annotations

from dataclasses import replace

from autoscaler.core.snapshot import BurstRules
from fabric.model.decisions import DrainMethod, ReasonCode
from fabric.model.money import USD, BudgetRoom
from fabric.model.nodes import NodePhase
from tests.unit.core.worlds import HOME, NOW, SEA, SKY, ends, launches, node, offer, tick, with_types, work, world

PATIENT = BurstRules(idle_s=120, pending_idle_s=30, join_deadline_s=480, hold_s=600)


def test_an_idle_node_goes_after_its_hold_and_idle_times() -> None:
    young = node("s0", SKY, idle_s=500, joined_at=NOW - 599)
    old = node("s1", SKY, idle_s=500, joined_at=NOW - 601)
    fresh = node("s2", SKY, idle_s=120, joined_at=NOW - 5000)
    decision = tick(world(SKY, nodes=(young, old, fresh), rules=PATIENT))
    assert ends(decision) == {"s1": DrainMethod.IDLE}
    (reason,) = decision.drains[0].reasons
    assert reason.facts == {"idle_s": 500, "timeout_s": 120, "hold_s": 600}


def test_a_launch_nobody_needs_is_cancelled_after_its_time_which_is_handed_from_tick_to_tick() -> None:
    snapshot = world(SKY, nodes=(node("s0", SKY, NodePhase.BOOTING),), rules=PATIENT)
    first = tick(snapshot)
    assert (ends(first), first.unneeded_since) == ({}, {"s0": NOW})
    snapshot = replace(snapshot, unneeded_since=first.unneeded_since)
    assert ends(tick(snapshot, NOW + 30)) == {}
    assert ends(tick(snapshot, NOW + 31)) == {"s0": DrainMethod.CANCEL}


def test_a_launch_that_is_needed_again_starts_its_time_anew() -> None:
    snapshot = world(SKY, nodes=(node("s0", SKY, NodePhase.BOOTING),), rules=PATIENT, unneeded_since={"s0": NOW - 29})
    assert tick(replace(snapshot, demands=(work(1),))).unneeded_since == {}


def test_which_of_equal_launches_is_unneeded_does_not_matter_for_the_time() -> None:
    nodes = (node("s0", SKY, NodePhase.BOOTING), node("s1", SKY, NodePhase.PLANNED))
    snapshot = world(SKY, nodes=nodes, demands=(work(1),), rules=PATIENT, unneeded_since={"s0": NOW - 31})
    assert ends(tick(snapshot)) == {"s1": DrainMethod.CANCEL}


def test_a_launch_call_that_is_under_way_is_not_cancelled() -> None:
    nodes = (node("s0", SKY, NodePhase.REQUESTED),)
    assert ends(tick(world(SKY, nodes=nodes, rules=PATIENT, unneeded_since={"s0": 0.0}))) == {}


def test_a_machine_past_its_join_deadline_is_ended_and_replaced_in_the_same_tick() -> None:
    late = node("s0", SKY, NodePhase.BOOTING, launched_at=NOW - 481, since=NOW - 10)
    decision = tick(world(SKY, nodes=(late,), demands=(work(1),), rules=PATIENT))
    assert ends(decision) == {"s0": DrainMethod.JOIN_DEADLINE}
    assert launches(decision) == {"sky.one": 1}


def test_over_a_maximum_what_disturbs_least_goes() -> None:
    nodes = (node("s0", SKY, busy=True), node("s1", SKY, NodePhase.BOOTING), node("s2", SKY, idle_s=5))
    snapshot = world(SKY, nodes=nodes)
    assert ends(tick(with_types(snapshot, [replace(SKY, maximum=2)]))) == {"s1": DrainMethod.OVER_MAXIMUM}
    both = tick(replace(snapshot, rules=BurstRules(maximum_nodes=1)))
    assert ends(both) == {"s1": DrainMethod.OVER_MAXIMUM, "s2": DrainMethod.OVER_MAXIMUM}


def test_home_counts_toward_the_total_but_is_never_ended_for_it() -> None:
    nodes = (node("h0", HOME), node("h1", HOME), node("s0", SKY, busy=True))
    assert ends(tick(world(HOME, SKY, nodes=nodes, rules=BurstRules(maximum_nodes=1)))) == {
        "s0": DrainMethod.OVER_MAXIMUM
    }


def test_an_outdated_node_goes_only_if_the_rules_say_so() -> None:
    nodes = (node("s0", replace(SKY, config_hash="old"), config_hash="old"), node("s1", SKY, config_hash="new"))
    snapshot = with_types(world(SKY, nodes=nodes), [replace(SKY, config_hash="new")])
    assert ends(tick(snapshot)) == {}
    assert ends(tick(replace(snapshot, rules=BurstRules(terminate_outdated=True)))) == {"s0": DrainMethod.OUTDATED}


def test_a_budget_that_says_drain_gives_back_what_it_pays_for_and_buys_nothing() -> None:
    nodes = (node("s0", SKY, busy=True), node("x0", SEA, busy=True), node("s1", SKY, joined_at=NOW - 10))
    budgets = (BudgetRoom("site/sky", left=5 * USD, drain=True),)
    decision = tick(
        world(SKY, SEA, nodes=nodes, budgets=budgets, demands=(work(3),), offers=(offer(SKY, 1.0),), rules=PATIENT)
    )
    assert ends(decision) == {"s0": DrainMethod.OVER_BUDGET}
    assert decision.launches == ()


def test_a_lost_burst_node_is_ended() -> None:
    assert ends(tick(world(SKY, nodes=(node("s0", SKY, NodePhase.DEAD),)))) == {"s0": DrainMethod.LOST}


def test_when_the_fabric_stops_everything_but_home_and_the_head_goes() -> None:
    nodes = (
        node("head", SKY, is_head=True),
        node("h0", HOME),
        node("s0", SKY, busy=True, joined_at=NOW),
        node("s1", SKY, NodePhase.BOOTING),
    )
    decision = tick(world(HOME, SKY, nodes=nodes, stopping=True, rules=PATIENT))
    assert ends(decision) == {"s1": DrainMethod.CANCEL, "s0": DrainMethod.IDLE}
    assert {reason.code for drain in decision.drains for reason in drain.reasons} == {ReasonCode.DRAINING_FABRIC}


def test_what_is_given_back_comes_least_disruptive_first() -> None:
    nodes = (
        node("lost", SKY, NodePhase.DEAD),
        node("idle", SKY, idle_s=900),
        node("late", SKY, NodePhase.BOOTING, launched_at=NOW - 900),
        node("unneeded", SKY, NodePhase.PLANNED),
    )
    decision = tick(world(SKY, nodes=nodes, rules=PATIENT, unneeded_since={"unneeded": NOW - 60}))
    assert list(ends(decision)) == ["unneeded", "late", "idle", "lost"]
