"""What is bought, what is not, and the reasons that come with it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autoscaler.core.snapshot import BurstRules, RefusedOffer, Threshold
from fabric.model.decisions import BaselineState, QueueDepth, ReasonCode
from fabric.model.demand import AntiAffinity, Demand, Gang, Shape, Strategy
from fabric.model.money import USD, BudgetRoom
from fabric.model.nodes import Market, NodePhase, NodeType
from fabric.model.resources import Resources
from tests.unit.core.worlds import (
    HOME,
    NOW,
    SEA,
    SKY,
    SKY_EIGHT,
    codes,
    launches,
    node,
    offer,
    only,
    tick,
    with_types,
    work,
    world,
)

FOUR_FOR_FIVE_MINUTES = BurstRules(baseline=(Threshold(for_s=300, gpus=4),))


def test_256_one_cpu_tasks_on_an_idle_256_cpu_cluster_buy_nothing() -> None:
    big = NodeType("home.big", "home", Resources.of({"CPU": 64}), maximum=4, launchable=False)
    cloud = NodeType("sky.big", "sky", Resources.of({"CPU": 64}), maximum=9)
    nodes = tuple(node(f"h{n}", big) for n in range(4))
    decision = tick(world(big, cloud, nodes=nodes, demands=(work(256, CPU=1),)))
    assert decision.launches == ()
    assert decision.depth == QueueDepth()
    assert codes(decision) == {ReasonCode.FITS_AT_HOME}


def test_home_is_filled_before_what_was_bought_so_that_it_can_go() -> None:
    rules = BurstRules(idle_s=10)
    nodes = (node("s0", SKY, idle_s=60), node("h0", HOME))
    decision = tick(world(HOME, SKY, nodes=nodes, demands=(work(1),), rules=rules))
    assert [drain.node_id for drain in decision.drains] == ["s0"]


def test_the_queue_is_what_home_and_coming_nodes_cannot_hold() -> None:
    nodes = (node("h0", HOME, busy=True), node("h1", HOME), node("s0", SKY, NodePhase.REQUESTED))
    decision = tick(world(nodes=nodes, demands=(work(7, GPU=1, CPU=2),)))
    assert decision.depth == QueueDepth(gpus=5, cpus=10, requests=5)
    assert launches(decision) == {"sky.one": 5}


def test_below_the_baseline_nothing_is_bought_and_the_reason_says_so() -> None:
    decision = tick(world(demands=(work(8),), rules=FOUR_FOR_FIVE_MINUTES))
    assert decision.launches == ()
    assert decision.depth.gpus == 8
    assert codes(decision, "queue") == {ReasonCode.BELOW_BASELINE}
    assert decision.infeasible_demands == ()


def test_above_the_baseline_for_its_time_the_launch_names_depth_and_threshold() -> None:
    waited = BaselineState(above_since=(NOW - 300,))
    decision = tick(world(demands=(work(8),), rules=FOUR_FOR_FIVE_MINUTES, baseline=waited))
    (launch,) = decision.launches
    (reason,) = launch.reasons
    assert (launch.count, reason.code) == (8, ReasonCode.BASELINE_EXCEEDED)
    assert reason.facts["gpus"] == 8
    assert (reason.facts["threshold_gpus"], reason.facts["threshold_for_s"]) == (4, 300)


def test_work_that_fits_nowhere_opens_no_burst_but_is_reported() -> None:
    rules = BurstRules(baseline=(Threshold(for_s=0, gpus=1),))
    decision = tick(world(demands=(work(3, GPU=16),), rules=rules))
    assert decision.depth == QueueDepth()
    assert decision.baseline.open_since is None
    assert decision.infeasible_demands == ((0, 3),)
    assert codes(decision, "3 x {GPU: 16}") == {ReasonCode.INFEASIBLE}


def test_work_that_only_a_busy_home_can_hold_waits_and_is_not_infeasible() -> None:
    ours = NodeType("home.odd", "home", Resources.of({"FPGA": 1}), maximum=1, launchable=False)
    decision = tick(world(ours, SKY, nodes=(node("h0", ours, busy=True),), demands=(work(1, FPGA=1),)))
    assert decision.infeasible_demands == ()
    assert codes(decision) == {ReasonCode.FITS_AT_HOME}


def test_work_that_may_not_leave_home_buys_nothing_and_counts_for_nothing() -> None:
    decision = tick(world(demands=(work(9),), may_leave_to=frozenset()))
    assert (decision.launches, decision.depth) == ((), QueueDepth())
    assert codes(decision) == {ReasonCode.STAYS_HOME}
    assert decision.infeasible_demands == ()


def test_work_is_not_counted_upon_to_run_on_a_node_where_it_may_not_go() -> None:
    nodes = (node("h0", HOME, busy=True), node("s0", SKY))
    decision = tick(world(HOME, SKY, SEA, nodes=nodes, demands=(work(1),), may_leave_to=frozenset({"sea"})))
    assert launches(decision) == {"sea.one": 1}


def test_minimum_nodes_need_no_open_baseline() -> None:
    decision = tick(with_types(world(rules=FOUR_FOR_FIVE_MINUTES), [replace(SKY, minimum=2)]))
    assert launches(decision) == {"sky.one": 2}
    assert decision.launches[0].reasons[0].code is ReasonCode.MINIMUM_NODES


def test_request_resources_waits_for_the_baseline_too() -> None:
    wanted = world(constraints=(work(6),), rules=FOUR_FOR_FIVE_MINUTES)
    closed = tick(wanted)
    assert (closed.launches, closed.depth.gpus) == ((), 4)
    opened = tick(replace(wanted, baseline=closed.baseline), NOW + 300)
    assert launches(opened) == {"sky.one": 4}
    assert opened.launches[0].reasons[0].code is ReasonCode.RESOURCES_REQUESTED


def test_what_request_resources_lacks_and_the_queue_are_not_counted_twice() -> None:
    assert tick(world(constraints=(work(6),), demands=(work(4),))).depth.gpus == 4


def test_of_two_equal_machines_the_cheaper_is_bought_and_the_other_comes_next() -> None:
    offers = (offer(SKY, 2.0), offer(SEA, 1.5), offer(SEA, 0.5, Market.SPOT))
    decision = tick(world(HOME, SKY, SEA, demands=(work(3),), offers=offers))
    (launch,) = decision.launches
    assert (launch.node_type, launch.count) == ("sea.one", 3)
    assert launch.offers == ("sea.one/a/spot", "sea.one/a/on-demand", "sky.one/a/on-demand")
    cheapest = next(reason for reason in launch.reasons if reason.code is ReasonCode.CHEAPEST_OFFER)
    assert cheapest.facts == {"offer": "sea.one/a/spot", "per_hour_micro_usd": USD // 2}
    assert decision.spend_per_hour == 3 * USD // 2


@pytest.mark.parametrize(
    ("gpus", "bought"),
    [(1, {"sky.one": 1}), (3, {"sky.one": 3}), (6, {"sky.eight": 1}), (9, {"sky.one": 1, "sky.eight": 1})],
)
def test_the_whole_need_decides_between_many_small_and_few_large(gpus: int, bought: dict[str, int]) -> None:
    offers = (offer(SKY, 1.0), offer(SKY_EIGHT, 5.0))
    assert launches(tick(world(HOME, SKY, SKY_EIGHT, demands=(work(gpus),), offers=offers))) == bought


def test_a_gpu_node_is_not_bought_for_cpu_work_that_a_cheaper_one_can_do() -> None:
    cpus = NodeType("sky.cpu", "sky", Resources.of({"CPU": 8}), maximum=9)
    offers = (offer(SKY, 2.0), offer(cpus, 0.3))
    assert launches(tick(world(SKY, cpus, demands=(work(16, CPU=1),), offers=offers))) == {"sky.cpu": 2}


def test_an_offer_that_refused_lately_is_passed_over_and_the_launch_says_so() -> None:
    offers = (offer(SKY, 1.0, Market.SPOT), offer(SKY, 3.0))
    refused = (RefusedOffer("sky.one/a/spot", until=NOW + 60, refusals=1),)
    (launch,) = tick(world(demands=(work(1),), offers=offers, refused=refused)).launches
    assert launch.offers == ("sky.one/a/on-demand",)
    assert ReasonCode.FAILED_OVER in {reason.code for reason in launch.reasons}


def test_when_every_offer_refused_lately_the_work_waits_and_is_not_infeasible() -> None:
    refused = (RefusedOffer("sky.one/a/on-demand", until=NOW + 60, refusals=3),)
    decision = tick(world(demands=(work(1),), offers=(offer(SKY, 1.0),), refused=refused))
    assert (decision.launches, decision.infeasible_demands) == ((), ())
    assert codes(decision) == {ReasonCode.OFFER_REFUSED_LATELY}
    later = tick(world(demands=(work(1),), offers=(offer(SKY, 1.0),), refused=refused), NOW + 61)
    assert launches(later) == {"sky.one": 1}


def test_a_type_that_nobody_sells_now_is_not_bought() -> None:
    assert codes(tick(world(demands=(work(1),), priced=True))) == {ReasonCode.NO_OFFER}


def test_a_budget_is_not_overrun_by_launching() -> None:
    rules = BurstRules(hold_s=3540)
    budgets = (BudgetRoom("fabric", left=5 * USD // 2),)
    decision = tick(world(demands=(work(9),), offers=(offer(SKY, 1.0),), budgets=budgets, rules=rules))
    assert launches(decision) == {"sky.one": 2}
    assert codes(decision) == {ReasonCode.BUDGET}
    assert decision.infeasible_demands == ()


def test_a_budget_of_one_site_sends_the_work_to_another() -> None:
    offers = (offer(SKY, 1.0), offer(SEA, 2.0))
    budgets = (BudgetRoom("site/sky", left=0), BudgetRoom("fabric", left=100 * USD))
    decision = tick(world(HOME, SKY, SEA, demands=(work(2),), offers=offers, budgets=budgets))
    assert launches(decision) == {"sea.one": 2}
    assert decision.launches[0].offers == ("sea.one/a/on-demand",)


def test_no_more_are_bought_than_a_type_and_the_whole_may_have() -> None:
    decision = tick(world(demands=(work(50),)))
    assert launches(decision) == {"sky.one": 10}
    assert codes(decision) == {ReasonCode.MAXIMUM_NODES}
    assert decision.infeasible_demands == ()  # home could hold each of them, once it is free
    assert launches(tick(world(demands=(work(50),), rules=BurstRules(maximum_nodes=5)))) == {"sky.one": 3}


def test_a_gang_is_bought_for_whole_or_not_at_all() -> None:
    apart = Shape(Resources.of({"GPU": 1}), anti_affinity=(AntiAffinity("pg", "1"),))
    gang = Gang("pg", (apart,) * 4, Strategy.STRICT_SPREAD)
    assert launches(tick(world(SKY, SKY_EIGHT, nodes=(), gangs=(gang,)))) == {"sky.one": 4}
    few = tick(world(replace(SKY, maximum=3), gangs=(gang,)))
    assert (few.launches, few.infeasible_gangs) == ((), ("pg",))


def test_a_gang_that_an_empty_home_could_hold_is_not_infeasible() -> None:
    gang = Gang("pg", (Shape(Resources.of({"GPU": 1})),) * 2, Strategy.PACK)
    decision = tick(world(HOME, replace(SKY, maximum=0), gangs=(gang,)))
    assert decision.infeasible_gangs == ()
    too_large = tick(world(HOME, replace(SKY, maximum=0), gangs=(replace(gang, bundles=gang.bundles * 2),)))
    assert too_large.infeasible_gangs == ("pg",)


def test_selectors_choose_the_type_and_alternatives_are_kept_in_order() -> None:
    north, south = (replace(SKY, name=f"sky.{z}", labels={"zone": z}) for z in ("north", "south"))
    offers = (offer(north, 9.0), offer(south, 1.0))
    picky = Demand(Shape(GPU_ONE, selectors=(only("zone", "north"), only("zone", "south"))), 1)
    assert launches(tick(world(north, south, demands=(picky,), offers=offers))) == {"sky.north": 1}
    full = with_types(world(north, south, demands=(picky,), offers=offers), [replace(north, maximum=0)])
    assert launches(tick(full)) == {"sky.south": 1}


GPU_ONE = Resources.of({"GPU": 1})


def test_a_launch_that_is_pending_counts_as_capacity() -> None:
    nodes = (node("h0", HOME, busy=True), *(node(f"s{n}", SKY, NodePhase.REQUESTED) for n in range(3)))
    assert tick(world(nodes=nodes, demands=(work(3),))).launches == ()


def test_a_node_on_its_way_out_is_no_capacity_but_counts_toward_the_maximum() -> None:
    nodes = (node("s0", SKY, NodePhase.DRAINING), node("s1", SKY, NodePhase.ENDING))
    decision = tick(world(replace(SKY, maximum=3), nodes=nodes, demands=(work(3),)))
    assert launches(decision) == {"sky.one": 1}


def test_a_dead_home_node_is_told_and_buys_nothing() -> None:
    decision = tick(world(nodes=(node("h0", HOME, NodePhase.DEAD), node("h1", HOME))))
    assert decision.launches == ()
    assert codes(decision, "h0") == {ReasonCode.ONPREM_NODE_DEAD}


def test_a_small_gang_and_single_requests_do_not_make_the_next_tick_buy_again() -> None:
    half = Gang("a", (Shape(Resources.of({"CPU": 4})),))
    snapshot = world(
        SKY,
        SKY_EIGHT,
        nodes=(),
        gangs=(half, replace(half, gang_id="b")),
        demands=(work(3, GPU=1, CPU=1),),
        offers=(offer(SKY, 1.0), offer(SKY_EIGHT, 3.5)),
    )
    first = tick(snapshot)
    coming = tuple(
        node(f"{launch.node_type}-{n}", snapshot.node_types[launch.node_type], NodePhase.REQUESTED)
        for launch in reversed(first.launches)
        for n in range(launch.count)
    )
    assert tick(replace(snapshot, nodes=coming)).launches == ()


def test_while_the_fabric_stops_nothing_is_bought() -> None:
    decision = tick(with_types(world(demands=(work(5),), stopping=True), [replace(SKY, minimum=3)]))
    assert decision.launches == ()
    assert codes(decision) == {ReasonCode.DRAINING_FABRIC}
