"""Which job starts, where, and what the others are told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fabric.admission.decide import admit
from fabric.admission.outcome import burst_demand
from fabric.admission.values import (
    AdmitReason,
    Capacity,
    ClassRules,
    DatasetRules,
    DoomReason,
    QueueRules,
    Room,
    TeamRules,
    WaitReason,
)
from fabric.model.events import Event
from fabric.model.jobs import JobPhase, Needs
from fabric.model.labels import LABEL_MARKET, LABEL_SITE
from fabric.model.money import USD, Tariff
from fabric.model.nodes import Market, NodeType, Offer
from fabric.model.resources import Resources
from fabric.money.budgets import BudgetAction, BudgetRule
from tests.virtual_queue import HOME, OPEN, RULES, STAY, World, replay, rooms, wants

GB = 1000**3
SKY_BOX = Resources.of({"GPU": 8, "CPU": 64})
PAID: dict[str, Any] = {"site": "sky", "market": Market.ON_DEMAND, "per_hour": 8 * USD}


def world(*more: Room, home: int = 1, rules: QueueRules = RULES, **capacity: Any) -> World:
    """``home`` nodes of 8 GPUs, and whatever else."""
    return World(Capacity((*rooms(home), *more), **capacity), rules)


def selling(*prices: tuple[str, int], maximum: int = 4) -> dict[str, Any]:
    """Sites that sell machines of 8 GPUs, with their prices in dollars an hour."""
    types = {f"{site}.box": NodeType(f"{site}.box", site, SKY_BOX, maximum=maximum) for site, _ in prices}
    offers = tuple(
        Offer(f"{site}.box//spot", f"{site}.box", site, "", Market.SPOT, Tariff(price * USD), 120.0)
        for site, price in prices
    )
    return {"node_types": types, "offers": offers}


def test_home_comes_first_and_a_rented_node_that_stands_free_is_used_next() -> None:
    it = world(*rooms(1, **PAID))
    it.submit("one", wants(8, runtime_s=1800))
    it.submit("two", wants(4, runtime_s=1800))
    outcome = it.decide()
    assert [(a.job, a.sites, a.price_per_hour) for a in outcome.admissions] == [
        ("one", (HOME,), 0),
        ("two", ("sky",), 4 * USD),
    ]
    assert outcome.admissions[1].selector == {LABEL_SITE: "in(sky)"}
    assert outcome.admissions[1].facts["cost_micro_usd"] == 2 * USD


def test_a_class_that_stays_home_and_an_unknown_one_never_leave() -> None:
    it = world(*rooms(3, **PAID), home=0)
    it.submit("stays", wants(1), data_class=STAY)
    it.submit("unknown", wants(1), data_class="no-such-class")
    outcome = it.decide()
    assert not outcome.admissions
    stays, unknown = outcome.waiting("stays"), outcome.waiting("unknown")
    assert stays and stays.reason is WaitReason.NEVER_FITS
    assert unknown and unknown.reason is WaitReason.NO_SITE


def test_a_class_without_spot_keeps_off_spot_machines_also_when_they_stand_free() -> None:
    rules = replace(RULES, classes={OPEN: ClassRules(frozenset({HOME, "sky"}), spot=False)})
    spot = rooms(1, site="sky", market=Market.SPOT, per_hour=USD)
    it = world(*spot, home=0, rules=rules)
    it.submit("one", wants(1))
    assert not it.decide().admissions
    it.capacity = Capacity(tuple(replace(room, market=Market.ON_DEMAND) for room in spot))
    (admission,) = it.decide().admissions
    assert admission.selector == {LABEL_SITE: "in(sky)", LABEL_MARKET: "in(on-demand,owned)"}


def test_a_job_runs_where_its_data_is_when_fetching_it_costs_more_than_the_machine() -> None:
    big = DatasetRules("sky", 1000 * GB, USD // 10)
    small = DatasetRules("sky", 10 * GB, USD // 10)
    it = world(*rooms(2, **PAID), home=2, rules=replace(RULES, datasets={"big": big, "small": small}))
    it.submit("big", wants(8, runtime_s=3600, datasets=("big",)))
    it.submit("small", wants(8, runtime_s=3600, datasets=("small",)))
    by_job = {admission.job: admission for admission in it.decide().admissions}
    assert by_job["big"].sites == ("sky",) and by_job["big"].egress == 0
    assert by_job["small"].sites == (HOME,) and by_job["small"].egress == 1 * USD


def test_a_job_is_not_placed_where_it_would_cost_more_than_it_may() -> None:
    it = world(*rooms(1, **PAID), home=0)
    it.submit("dear", wants(8, runtime_s=7200, max_cost=10 * USD))
    it.submit("fine", wants(8, runtime_s=3600, max_cost=10 * USD))
    outcome = it.decide()
    assert [admission.job for admission in outcome.admissions] == ["fine"]
    dear = outcome.waiting("dear")
    assert dear and dear.reason is WaitReason.MAX_COST
    assert dear.facts == {"max_cost_micro_usd": 10 * USD, "cost_micro_usd": 16 * USD}


def test_what_earlier_attempts_have_cost_counts_against_the_most_a_job_may_cost() -> None:
    it = world(*rooms(1, **PAID), home=0)
    it.submit("one", wants(8, runtime_s=3600, max_cost=10 * USD))
    it.decide()
    it.now = 1800.0
    it.lose("one")
    outcome = it.decide()
    assert not outcome.admissions
    waiting = outcome.waiting("one")
    assert waiting and waiting.facts["cost_micro_usd"] == 12 * USD


def test_a_team_budget_is_reserved_for_the_whole_run_and_its_own_early_stop_is_kept() -> None:
    budget = BudgetRule("team/red", "day", 20 * USD, ((90.0, BudgetAction.NO_NEW_LAUNCHES),))
    it = world(*rooms(3, **PAID), home=0, rules=replace(RULES, teams={"red": TeamRules(budgets=(budget,))}))
    for name in "abc":
        it.submit(name, wants(8, runtime_s=3600))
    outcome = it.decide()
    assert [admission.job for admission in outcome.admissions] == ["a", "b"]
    waiting = outcome.waiting("c")
    assert waiting and waiting.reason is WaitReason.TEAM_BUDGET
    assert waiting.facts == {"per": "day", "cost_micro_usd": 8 * USD, "left_micro_usd": 2 * USD}


def test_a_job_waits_for_those_it_names_and_is_failed_with_them() -> None:
    it = world()
    it.submit("first", wants(8, runtime_s=10))
    it.submit("then", wants(1, runtime_s=10, after=("first",)))
    it.submit("lost", wants(1, after=("nobody",)))
    it.submit("itself", wants(1, after=("itself",)))
    outcome = it.decide()
    waiting = outcome.waiting("then")
    assert waiting and waiting.reason is WaitReason.DEPENDENCY and waiting.position is None
    reasons = {doomed.job: doomed.reason for doomed in outcome.doomed}
    assert reasons == {"itself": DoomReason.DEPENDENCY_CYCLE, "lost": DoomReason.DEPENDENCY_UNKNOWN}
    it.drain()
    assert it.started["then"] == 10.0


def test_jobs_that_wait_for_each_other_are_failed_whichever_comes_first() -> None:
    it = world()
    it.submit("a", wants(1, after=("b",)))
    it.submit("b", wants(1, after=("a",)))
    assert {doomed.reason for doomed in it.decide().doomed} == {DoomReason.DEPENDENCY_CYCLE}
    assert {it.queue.jobs[job].phase for job in "ab"} == {JobPhase.FAILED}


def test_a_failed_dependency_fails_what_comes_after_and_so_on() -> None:
    it = world()
    it.submit("a", wants(1))
    it.submit("b", wants(1, after=("a",)))
    it.submit("c", wants(1, after=("b",)))
    it.append(Event.JOB_FINISHED, {"job": "a", "phase": "stopped", "message": ""})
    first, second = it.decide(), it.decide()
    assert [(doomed.job, doomed.reason) for doomed in first.doomed] == [("b", DoomReason.DEPENDENCY_FAILED)]
    assert [doomed.job for doomed in second.doomed] == ["c"]


def test_a_lost_attempt_is_tried_again_under_the_next_number_and_not_before_its_pause_is_over() -> None:
    it = world()
    it.submit("one", wants(1))
    it.decide()
    it.now = 50.0
    it.lose("one", retry_at=60.0)
    waiting = it.decide().waiting("one")
    assert waiting and waiting.reason is WaitReason.BACK_OFF and waiting.facts["until"] == 60.0
    it.now = 60.0
    (admission,) = it.decide().admissions
    assert (admission.attempt, admission.ray_id) == (2, "one.2")


def test_a_job_whose_attempt_is_over_for_good_is_never_admitted_again() -> None:
    it = world()
    it.submit("one", wants(1))
    it.decide()
    data = {"job": "one", "attempt": 1, "end": "failed", "message": "", "cause": "", "retry_at": None}
    it.append(Event.ATTEMPT_ENDED, data)
    outcome = it.decide()
    waiting = outcome.waiting("one")
    assert not outcome.admissions
    assert waiting and waiting.reason is WaitReason.ENDING


def test_a_job_near_its_latest_start_goes_before_equal_priority_and_not_before_higher() -> None:
    it = world()
    it.submit("high", wants(8, priority=5, runtime_s=600))
    it.submit("old", wants(8, runtime_s=600))
    it.submit("urgent", wants(8, runtime_s=600, deadline=2000.0))
    assert [admission.job for admission in it.settle().admissions] == []
    assert [waiting.job for waiting in it.decide().everyone()] == ["old", "urgent"]
    it.until(600.0)
    assert it.started == {"high": 0.0, "urgent": 600.0}


def test_a_deadline_that_cannot_be_met_is_said_and_the_job_still_runs() -> None:
    it = world()
    it.submit("first", wants(8, runtime_s=600))
    it.decide()
    it.submit("late", wants(8, runtime_s=600, deadline=1000.0))
    it.now = 500.0
    waiting = it.decide().waiting("late")
    assert waiting and waiting.late
    it.drain()
    assert it.queue.jobs["late"].phase is JobPhase.SUCCEEDED


def test_a_job_that_waited_for_a_week_goes_before_higher_priority_that_came_later() -> None:
    it = world()
    it.submit("patient", wants(8))
    it.now = 7 * 86400.0
    it.submit("important", wants(8, priority=100))
    assert [admission.job for admission in it.decide().admissions] == ["patient"]


def test_jobs_that_declare_nothing_start_at_once_up_to_their_cap_also_past_a_head() -> None:
    it = world(rules=replace(RULES, default_team=TeamRules(undeclared=2)))
    it.submit("big", wants(8, count=1))
    it.submit("head", wants(8))
    for number in range(3):
        it.submit(f"plain{number}", Needs())
    outcome = it.decide()
    assert [admission.job for admission in outcome.admissions] == ["big", "plain0", "plain1"]
    assert outcome.admissions[1].reason is AdmitReason.PLAIN_RAY
    assert outcome.admissions[1].sites == (HOME, "sea", "sky")
    waiting = outcome.waiting("plain2")
    assert waiting and waiting.reason is WaitReason.UNDECLARED_CAP


def test_only_what_ends_in_time_or_leaves_the_heads_nodes_alone_goes_out_of_turn() -> None:
    it = world(home=2)
    it.submit("long", wants(6, runtime_s=1000))
    it.decide()
    it.now = 1.0
    it.submit("head", wants(8, count=2, runtime_s=100), team="blue")
    it.submit("short", wants(2, runtime_s=900))
    it.submit("silent", wants(2))
    it.submit("too-long", wants(2, runtime_s=2000))
    outcome = it.decide()
    assert outcome.head == "head"
    assert [(a.job, a.reason) for a in outcome.admissions] == [("short", AdmitReason.BACKFILL)]
    for job in ("silent", "too-long"):
        waiting = outcome.waiting(job)
        assert waiting and waiting.reason is WaitReason.WOULD_DELAY_HEAD
    head = outcome.waiting("head")
    assert head and head.start_at == 1000.0 and head.position == 1


def test_the_first_job_that_waits_for_the_teams_quota_is_not_overtaken_for_ever() -> None:
    it = world(home=2, rules=replace(RULES, teams={"red": TeamRules(gpus=8)}))
    it.submit("a", wants(4, runtime_s=1000))
    it.submit("b-whole", wants(8, runtime_s=100))
    it.submit("c-short", wants(2, runtime_s=900))
    it.submit("d-long", wants(2, runtime_s=2000))
    outcome = it.decide()
    assert [admission.job for admission in outcome.admissions] == ["a", "c-short"]
    it.drain()
    assert it.started["b-whole"] == 1000.0


def test_what_is_larger_than_its_teams_quota_or_than_every_node_is_said_to_never_fit_and_blocks_nobody() -> None:
    it = world(home=2, rules=replace(RULES, teams={"red": TeamRules(gpus=8)}))
    it.submit("quota", wants(8, count=2))
    it.submit("huge", wants(9), team="blue")
    it.submit("fine", wants(8), team="blue")
    outcome = it.decide()
    assert [admission.job for admission in outcome.admissions] == ["fine"]
    quota, huge = outcome.waiting("quota"), outcome.waiting("huge")
    assert quota and quota.reason is WaitReason.OVER_QUOTA and quota.position is None
    assert huge and huge.reason is WaitReason.NEVER_FITS


def test_use_that_no_job_declared_takes_room_and_a_job_that_ray_put_elsewhere_is_counted_once() -> None:
    it = world(home=2)
    it.submit("one", wants(8, runtime_s=1000))
    it.decide()
    it.now = 100.0
    full, half = Resources.of({"CPU": 64}), Resources.of({"GPU": 4, "CPU": 64})
    first, second = it.capacity.rooms
    it.submit("two", wants(6, runtime_s=1000))
    # Ray runs it on the other node: the node where it was counted is free for the next job.
    moved = Capacity((first, replace(second, free=full)))
    (admission,) = admit(it.queue, moved, RULES, it.now).admissions
    assert dict(admission.nodes) == {first.node: 1}
    # Somebody's session holds four GPUs there.
    taken = Capacity((replace(first, free=half), replace(second, free=full)))
    assert not admit(it.queue, taken, RULES, it.now).admissions


def test_a_node_that_is_given_back_takes_nothing_and_one_on_its_way_is_waited_for() -> None:
    closing, coming = rooms(2, 8, 64)
    it = World(Capacity((replace(closing, closing=True), replace(coming, ready_at=300.0))), RULES)
    it.submit("one", wants(8, runtime_s=10))
    outcome = it.decide()
    assert not outcome.admissions
    waiting = outcome.waiting("one")
    assert waiting and waiting.start_at == 300.0


def test_a_driver_is_counted_beside_its_workers_and_where_its_selector_says() -> None:
    left, right = rooms(2, 8, 64)
    it = World(Capacity((left, replace(right, labels={"disk": "fast"}))), RULES)
    driver = Resources.of({"CPU": 4})
    it.submit("one", wants(8, 64, entrypoint=driver), entrypoint_label_selector={"disk": "fast"})
    (admission,) = it.decide().admissions
    assert admission.driver == right.node and dict(admission.nodes) == {left.node: 1}
    assert replay(it.entries, RULES).jobs["one"].attempts[0].driver == right.node


def test_the_least_work_is_lost_and_equal_priority_never_gives_way() -> None:
    it = world(home=3)
    it.submit("old", wants(8, runtime_s=9000, restartable=True))
    it.decide()
    it.now = 500.0
    it.submit("young", wants(8, runtime_s=9000, restartable=True))
    it.submit("firm", wants(8, runtime_s=9000))
    it.decide()
    it.now = 600.0
    it.submit("equal", wants(8))
    assert not it.decide().preemptions
    it.submit("higher", wants(8, priority=1, runtime_s=100))
    outcome = it.decide()
    assert [(each.job, each.for_job) for each in outcome.preemptions] == [("young", "higher")]
    assert not it.decide().preemptions
    waiting = it.decide().waiting("higher")
    assert waiting and waiting.reason is WaitReason.GIVING_WAY
    it.until(601.0)
    assert it.started["higher"] == 601.0


def test_nobody_gives_way_in_vain_or_where_the_configuration_forbids_it() -> None:
    it = world()
    it.submit("small", wants(1, runtime_s=9000, restartable=True))
    it.submit("firm", wants(1, runtime_s=9000))
    it.decide()
    it.submit("higher", wants(8, priority=1))
    assert not it.decide().preemptions
    it.rules = replace(RULES, preemption=False)
    it.submit("fits", wants(7, priority=2))
    assert not it.decide().preemptions


def test_another_team_gives_way_only_where_it_has_had_more_of_its_share() -> None:
    for used_before, gives_way in ((0.0, True), (1e7, False)):
        it = world()
        it.submit("theirs", wants(8, runtime_s=9000, restartable=True), team="blue")
        it.decide()
        it.queue.accounts.setdefault("red", type(it.queue.accounts["blue"])()).used = used_before
        it.submit("mine", wants(8, priority=1))
        assert bool(it.decide().preemptions) is gives_way


def test_work_that_may_leave_is_told_to_the_burst_engine_gangs_with_one_site_each() -> None:
    it = world(**selling(("sky", 9), ("sea", 5)))
    it.submit("runs", wants(8, runtime_s=3600))
    it.submit("single1", wants(2, runtime_s=3600))
    it.submit("single2", wants(2, runtime_s=3600))
    it.submit("gang", wants(8, count=2, runtime_s=3600))
    it.submit("stays", wants(8), data_class=STAY)
    outcome = it.decide()
    demand = burst_demand(outcome)
    ((single),) = demand.demands
    assert single.count == 2
    assert [selector.constraints[0].values for selector in single.shape.selectors] == [("sea",), ("sky",)]
    (gang,) = demand.gangs
    assert gang.gang_id == "gang" and len(gang.bundles) == 2
    assert {bundle.selectors[0].constraints[0].values for bundle in gang.bundles} == {("sea",)}
    waiting = outcome.waiting("gang")
    assert waiting and waiting.away
    assert (waiting.away.site, waiting.away.nodes, waiting.away.per_hour) == ("sea", 2, 10 * USD)


def test_nothing_is_bought_beyond_a_quota_or_for_work_that_quota_or_money_hold_back() -> None:
    budget = BudgetRule("team/blue", "day", 11 * USD)
    rules = replace(RULES, teams={"red": TeamRules(gpus=12), "blue": TeamRules(budgets=(budget,))})
    it = world(**selling(("sea", 4)), rules=rules)
    it.submit("runs", wants(8, runtime_s=3600))
    it.decide()
    for number in range(5):
        it.submit(f"r{number}", wants(2, runtime_s=3600))
        it.submit(f"b{number}", wants(8, runtime_s=3600), team="blue")
    demand = burst_demand(it.decide())
    assert {each.shape.resources.gpus: each.count for each in demand.demands} == {2.0: 2, 8.0: 2}


def test_a_decision_is_bounded_and_what_is_left_over_is_taken_up_by_the_next() -> None:
    it = World(Capacity(rooms(1, gpus=0, cpus=2000)), RULES)
    for number in range(600):
        it.submit(f"j{number:03d}", wants(0, 1))
    first, second = it.decide(), it.decide()
    assert (len(first.admissions), len(second.admissions)) == (500, 100)


def test_other_rules_take_effect_at_once_and_use_is_counted_anew_with_another_half_life() -> None:
    it = world()
    it.submit("a", wants(8, runtime_s=1000, priority=9))
    it.decide()
    it.until(1000.0)
    long_ago = 1000.0 + 3600.0
    before = it.queue.accounts["red"].used_at(long_ago, it.rules.half_life_s)
    it.rules = replace(RULES, half_life_s=3600.0, teams={"red": TeamRules(max_priority=0)})
    it.now = long_ago
    it.submit("b", wants(8))
    it.submit("c", wants(8, priority=50))
    assert [admission.job for admission in it.decide().admissions] == ["b"]
    after = it.queue.accounts["red"].used_at(long_ago, 3600.0)
    assert before == pytest.approx(8000, rel=0.01)
    assert after == pytest.approx(8000 / 2, rel=0.1)


def test_cpu_work_is_charged_its_dominant_share_of_the_cluster() -> None:
    it = world(home=2)
    it.submit("cpus", wants(0, 32))
    (admission,) = it.decide().admissions
    assert admission.charge == 16 * 32 / 128


def test_the_example_of_the_how_to_goes_as_it_says() -> None:
    weights = {"vision": 2.0, "speech": 1.0, "guests": 0.2}
    it = world(rules=replace(RULES, teams={name: TeamRules(weight=weight) for name, weight in weights.items()}))
    it.submit("A", wants(4, runtime_s=7200), team="vision")
    it.submit("B", wants(4, runtime_s=7200), team="vision")
    it.submit("C", wants(4, runtime_s=3600), team="speech")
    it.submit("D", wants(8, runtime_s=3600), team="speech")
    it.submit("E", wants(1, runtime_s=1800), team="guests")
    it.submit("F", wants(1), team="guests")
    outcome = it.decide()
    assert [admission.job for admission in outcome.admissions] == ["A", "C"]
    assert outcome.head == "E"
    promised = it.decide().waiting("E")
    assert promised and promised.start_at == 3600.0
    it.until(3600.0)
    assert set(it.started) == {"A", "C", "E", "F"}
    outcome = it.decide()
    promised = outcome.waiting("D")
    assert outcome.head == "D" and promised and promised.start_at == 7200.0
    it.submit("G", wants(2, runtime_s=1800), team="vision")
    assert [admission.job for admission in it.decide().admissions] == ["G"]
