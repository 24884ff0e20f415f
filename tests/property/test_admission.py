"""What the queue promises whatever is submitted: nobody starves, no quota is exceeded, the head is not delayed."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabric.admission.asks import expected_end, expected_runtime
from fabric.admission.decide import admit
from fabric.admission.outcome import Outcome
from fabric.admission.queue import Queue
from fabric.admission.spend import run_cost
from fabric.admission.values import Capacity, QueueRules, TeamRules, WaitReason
from fabric.model.jobs import JobPhase
from fabric.model.money import USD
from fabric.model.nodes import Market
from fabric.model.resources import Resources
from fabric.money.budgets import BudgetRule, Per, window
from tests.job_strategies import TEAMS, Submission, queue_rules, submissions
from tests.virtual_queue import RULES, World, replay, rooms, submitted, wants

CLUSTER = Capacity(rooms(3, gpus=4, cpus=8))
SETTINGS = settings(max_examples=50, deadline=None)


def play(world: World, jobs: list[Submission]) -> None:
    """Submit everything at its time and let it all run out."""
    for each in jobs:
        world.until(each.at)
        world.submit(each.job, each.needs, each.team, each.data_class)
        world.settle()
    world.drain()


def holds(world: World) -> dict[str, Resources]:
    """What running jobs hold on each node, as they were admitted."""
    held: dict[str, Resources] = defaultdict(Resources)
    for record, attempt in world.queue.live_attempts():
        needs = record.request.needs
        worker = needs.bundle or needs.entrypoint
        for node, count in attempt.nodes.items():
            for _ in range(count):
                held[node] = held[node].plus(worker)
        if attempt.driver:
            held[attempt.driver] = held[attempt.driver].plus(needs.entrypoint)
    return held


@SETTINGS
@given(submissions(), queue_rules())
def test_every_job_that_could_run_does_and_the_others_are_told_why_they_never_will(
    jobs: list[Submission], rules: QueueRules
) -> None:
    world = World(CLUSTER, rules)
    play(world, jobs)
    outcome = world.decide()
    for each in jobs:
        record = world.queue.jobs[each.job]
        waiting = outcome.waiting(each.job)
        if record.phase is JobPhase.WAITING:
            assert waiting is not None
            never = {WaitReason.NEVER_FITS, WaitReason.OVER_QUOTA, WaitReason.UNDECLARED_CAP}
            assert waiting.reason in never, waiting
        else:
            assert record.phase is JobPhase.SUCCEEDED
            assert waiting is None


@SETTINGS
@given(submissions(), queue_rules())
def test_no_quota_and_no_node_is_ever_exceeded_and_gangs_are_whole_and_in_one_site(
    jobs: list[Submission], rules: QueueRules
) -> None:
    def watch(world: World, outcome: Outcome) -> None:
        for admission in outcome.admissions:
            needs = world.queue.jobs[admission.job].request.needs
            if needs.declared:
                assert sum(admission.nodes.values()) == (needs.count if needs.bundle else 1)
                assert {node.rpartition("-")[0] for node in admission.nodes} == set(admission.sites)
                assert bool(admission.driver) == bool(needs.bundle and needs.entrypoint)
        check(world)

    def check(world: World) -> None:
        for node, held in holds(world).items():
            room = next(room for room in world.capacity.rooms if room.node == node)
            assert held.fits_in(room.total), (node, held)
        for name in TEAMS:
            team = world.rules.team(name)
            live = [record for record, _ in world.queue.live_attempts() if record.request.team == name]
            assert team.gpus is None or world.held_gpus(name) <= team.gpus
            assert team.running is None or len(live) <= team.running
            assert sum(not record.request.needs.declared for record in live) <= team.undeclared

    capacity = replace(CLUSTER, rooms=(*CLUSTER.rooms, *rooms(2, 4, 8, "sky", market=Market.SPOT)))
    play(World(capacity, rules, watch=watch), jobs)


@SETTINGS
@given(submissions(teams=("red",), priorities=False, most=10))
def test_the_head_starts_no_later_than_it_would_if_nobody_went_before_it(jobs: list[Submission]) -> None:
    """With exact runtimes and one team, so that nothing but backfill could come between."""
    promised: dict[str, float] = {}

    def watch(world: World, outcome: Outcome) -> None:
        if outcome.head and outcome.head not in promised:
            promised[outcome.head] = without_backfill(world, outcome)

    world = World(CLUSTER, replace(RULES, preemption=False), watch=watch)
    play(world, jobs)
    for job, at in promised.items():
        assert world.started[job] <= at, (job, world.started[job], at)


def without_backfill(world: World, outcome: Outcome) -> float:
    """When the head starts if only what ran, and what was admitted before it, goes on; worked out naively."""
    ends: list[tuple[float, dict[str, Resources]]] = []
    for record, attempt in world.queue.live_attempts():
        if record.request.needs.declared:
            end = expected_end(attempt.admitted_at, expected_runtime(record.request), world.now)
            ends.append((end, parts(world, record.request.job, attempt.nodes, attempt.driver)))
    for admission in outcome.admissions:
        if admission.reason.value == "first_in_line":
            request = world.queue.jobs[admission.job].request
            place = parts(world, admission.job, admission.nodes, admission.driver)
            ends.append((world.now + expected_runtime(request), place))
    needs = world.queue.jobs[outcome.head].request.needs
    for at in sorted(end for end, _ in ends):
        free = {room.node: room.total for room in world.capacity.rooms}
        for end, place in ends:
            for node, held in place.items() if end > at else ():
                free[node] = Resources.from_units((n, u - held.get(n)) for n, u in free[node].items)
        if naive_fit([dict(each.items) for each in free.values()], needs.bundle, needs.count, needs.entrypoint):
            return at
    raise AssertionError("the head never fits")


def parts(world: World, job: str, nodes: Mapping[str, int], driver: str) -> dict[str, Resources]:
    needs = world.queue.jobs[job].request.needs
    held: dict[str, Resources] = defaultdict(Resources)
    for node, count in nodes.items():
        for _ in range(count):
            held[node] = held[node].plus(needs.bundle or needs.entrypoint)
    if driver:
        held[driver] = held[driver].plus(needs.entrypoint)
    return held


def naive_fit(free: list[dict[str, int]], bundle: Resources, count: int, driver: Resources) -> bool:
    if not bundle:
        bundle, count, driver = driver, 1, Resources()

    def fits() -> bool:
        slots = sum(min(node.get(name, 0) // units for name, units in bundle.items) for node in free)
        return slots >= count

    if not driver:
        return fits()
    for node in free:
        if all(node.get(name, 0) >= units for name, units in driver.items):
            for name, units in driver.items:
                node[name] -= units
            if fits():
                return True
            for name, units in driver.items:
                node[name] += units
    return False


@SETTINGS
@given(submissions(), queue_rules(), st.randoms(use_true_random=False))
def test_the_order_of_nodes_and_of_submissions_changes_nothing(
    jobs: list[Submission], rules: QueueRules, shuffler: random.Random
) -> None:
    now = 500.0
    entries = [submitted(each.job, each.at, each.needs, each.team, each.data_class) for each in jobs]
    one, other = Queue(rules), Queue(rules)
    for each in entries:
        one.take(each)
    for each in shuffler.sample(entries, len(entries)):
        other.take(each)
    mixed = replace(CLUSTER, rooms=tuple(shuffler.sample(CLUSTER.rooms, len(CLUSTER.rooms))))
    first, second = admit(one, CLUSTER, rules, now), admit(other, mixed, rules, now)
    assert first == second
    assert list(first.everyone()) == list(second.everyone())


@SETTINGS
@given(submissions(), queue_rules())
def test_replaying_the_journal_gives_the_same_decision_in_the_same_order(
    jobs: list[Submission], rules: QueueRules
) -> None:
    world = World(CLUSTER, rules)
    for each in jobs:
        world.until(each.at)
        world.submit(each.job, each.needs, each.team, each.data_class)
        world.settle()
        again = replay(world.entries, rules)
        first = admit(world.queue, world.observed(), rules, world.now)
        second = admit(again, world.observed(), rules, world.now)
        assert first == second
        assert list(first.everyone()) == list(second.everyone())


@SETTINGS
@given(submissions(undeclared=False), queue_rules(preemption=True))
def test_only_restartable_jobs_of_strictly_lower_priority_give_way_and_who_asked_for_it_starts(
    jobs: list[Submission], rules: QueueRules
) -> None:
    made_room: dict[str, float] = {}
    gave_way: Counter[str] = Counter()

    def watch(world: World, outcome: Outcome) -> None:
        def priority(job: str) -> int:
            request = world.queue.jobs[job].request
            return min(request.needs.priority, world.rules.team(request.team).max_priority)

        for each in outcome.preemptions:
            assert world.queue.jobs[each.job].request.needs.restartable
            assert priority(each.job) < priority(each.for_job)
            made_room[each.for_job] = world.now
            gave_way[each.job] += 1

    world = World(CLUSTER, rules, watch=watch)
    play(world, jobs)
    for job in made_room:
        assert world.queue.jobs[job].phase is JobPhase.SUCCEEDED
    assert all(times < len(jobs) for times in gave_way.values())


@SETTINGS
@given(submissions(), queue_rules(), st.data())
def test_whatever_becomes_of_the_nodes_a_decision_is_made_and_everybody_is_accounted_for(
    jobs: list[Submission], rules: QueueRules, data: st.DataObject
) -> None:
    world = World(CLUSTER, rules)
    for each in jobs:
        world.until(each.at)
        world.submit(each.job, each.needs, each.team, each.data_class)
        world.settle()
    found = []
    for room in (*world.observed().rooms, *rooms(1, 4, 8, "sky")):
        match data.draw(st.sampled_from(("here", "here", "gone", "closing", "coming", "full"))):
            case "here":
                found.append(room)
            case "closing":
                found.append(replace(room, closing=True))
            case "coming":
                found.append(replace(room, free=room.total, ready_at=world.now + 60.0))
            case "full":
                found.append(replace(room, free=Resources()))
            case _:
                pass
    outcome = admit(world.queue, Capacity(tuple(found)), rules, world.now)
    usable = {room.node for room in found if not room.closing and room.ready_at is None}
    assert all(set(admission.nodes) <= usable for admission in outcome.admissions)
    told = {waiting.job for waiting in outcome.everyone()}
    started = {admission.job for admission in outcome.admissions}
    doomed = {each.job for each in outcome.doomed}
    waiting = {job for job, record in world.queue.jobs.items() if record.phase is JobPhase.WAITING}
    assert told | started | doomed == waiting
    assert not told & started


@settings(max_examples=30, deadline=None)
@given(submissions(most=14, undeclared=False), st.integers(1, 8), st.sampled_from(("hour", "day", "total")))
def test_what_is_admitted_never_overruns_a_budget_of_its_team(jobs: list[Submission], dollars: int, per: Per) -> None:
    budget = BudgetRule("team/red", per, dollars * USD)
    rules = replace(RULES, teams={"red": TeamRules(budgets=(budget,))}, preemption=False)
    capacity = Capacity((*rooms(1, 4, 8), *rooms(3, 4, 8, "sky", market=Market.ON_DEMAND, per_hour=4 * USD)))
    world = World(capacity, rules)
    play(world, jobs)
    spent: dict[tuple[int, int], int] = defaultdict(int)
    for record in world.queue.jobs.values():
        for attempt in record.attempts if record.request.team == "red" else ():
            assert attempt.ended_at is not None
            begin = attempt.admitted_at
            whole = run_cost(attempt.price_per_hour, attempt.ended_at - begin)
            last = window(per, round(attempt.ended_at * 1000))
            first = window(per, round(begin * 1000))
            if first == last:
                spent[first] += whole
            else:
                until = first[1] / 1000
                part = run_cost(attempt.price_per_hour, until - begin)
                spent[first] += part
                spent[last] += whole - part
    assert all(amount <= dollars * USD for amount in spent.values()), spent


@pytest.mark.parametrize("weight", [1.0, 2.0, 4.0])
def test_over_time_teams_get_their_weights_shares(weight: float) -> None:
    rules = replace(RULES, teams={"red": TeamRules(weight=weight), "blue": TeamRules()}, half_life_s=86400.0)
    world = World(Capacity(rooms(2, gpus=4)), rules)
    for number in range(400):
        world.submit(f"r{number:03d}", wants(1, runtime_s=600 + number % 7 * 60))
        world.submit(f"b{number:03d}", wants(2, runtime_s=900 + number % 5 * 60), team="blue")
    world.settle()
    world.until(10 * 3600.0)
    used = {team: world.queue.accounts[team].used_at(world.now, 1e12) for team in ("red", "blue")}
    assert used["red"] / used["blue"] == pytest.approx(weight, rel=0.1)
