"""Ray's demand lags behind its free resources: what was free a moment ago still counts, and no longer than that."""

from __future__ import annotations

from dataclasses import replace

from autoscaler.core.decide import decide
from autoscaler.core.policies import policy_named
from autoscaler.core.settling import LAG_S, History, settled
from autoscaler.core.snapshot import Snapshot
from fabric.model.demand import Demand, Shape
from fabric.model.nodes import Node, NodePhase, NodeType
from fabric.model.resources import Resources

CPUS = Resources.of({"CPU": 256})
IDLE = Node("n", "home.box", NodePhase.RUNNING, total=CPUS, free=CPUS)
BUSY = replace(IDLE, free=Resources())
TYPES = {
    "home.box": NodeType("home.box", "home", CPUS, maximum=1, launchable=False),
    "sky.c": NodeType("sky.c", "sky", Resources.of({"CPU": 64}), maximum=8),
}
REPORTED = (Demand(Shape(Resources.of({"CPU": 1})), 256),)


def bought(nodes: tuple[Node, ...]) -> int:
    decision = decide(Snapshot(node_types=TYPES, nodes=nodes, demands=REPORTED), policy_named("threshold"), 0.0)
    return sum(launch.count for launch in decision.launches)


def watched(*sightings: tuple[float, Node]) -> tuple[Node, ...]:
    """The node as it counts after it was seen at each of these times."""
    history: History = ()
    nodes: tuple[Node, ...] = ()
    for at, node in sightings:
        nodes, history = settled((node,), history, at)
    return nodes


def test_tasks_that_were_placed_a_moment_ago_and_are_still_reported_as_waiting_buy_nothing() -> None:
    assert bought((BUSY,)) == 4
    assert bought(watched((10.0, IDLE), (10.2, BUSY))) == 0


def test_a_sighting_holds_until_the_next_one() -> None:
    assert bought(watched((10.0, IDLE), (14.0, BUSY))) == 0
    assert bought(watched((10.0, IDLE), (14.0, BUSY), (14.0 + LAG_S - 0.1, BUSY))) == 0


def test_work_that_still_waits_after_the_lag_is_bought_for() -> None:
    assert bought(watched((10.0, IDLE), (10.2, BUSY), (10.2 + LAG_S, BUSY))) == 4


def test_a_node_that_was_busy_all_along_delays_nothing() -> None:
    assert bought(watched((10.0, BUSY), (10.1, BUSY))) == 4


def test_a_node_never_counts_for_more_than_it_has() -> None:
    shrunk = replace(IDLE, total=Resources.of({"CPU": 8}), free=Resources())
    (node,) = watched((10.0, IDLE), (10.1, shrunk))
    assert node.free.cpus == 8


def test_a_clock_that_is_set_back_forgets_what_was_seen() -> None:
    assert bought(watched((10.0, IDLE), (5.0, BUSY))) == 4
