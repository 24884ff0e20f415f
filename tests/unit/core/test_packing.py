"""The packer against the plainest possible one, and the ways in which it takes many steps at once."""

from __future__ import annotations

import random

import pytest

from autoscaler.core.offers import Allowance
from autoscaler.core.planner import pack
from autoscaler.core.planner.plan import Plan, Task, make_plan
from autoscaler.core.planner.space import could_hold
from fabric.model.demand import Demand, Shape
from fabric.model.nodes import Node, NodePhase, NodeType
from fabric.model.resources import Resources
from tests.unit.core.worlds import only, work

BOX = NodeType("sky.box", "sky", Resources.of({"CPU": 4}), maximum=10_000)


def plan(task: Task, rooms: int = 10_000) -> Plan:
    """Plan with so many nodes of each type to buy."""
    return make_plan(task, Allowance(dict.fromkeys(task.buyable, rooms), None, None, ()))


def test_a_million_equal_requests_are_one_step() -> None:
    made = plan(Task({BOX.name: BOX}, (), (BOX.name,), demands=(work(1_000_000, CPU=1),)), rooms=250_000)
    assert [purchase.count for purchase in made.purchases] == [250_000]
    assert made.nothing_left


def test_no_node_is_given_more_than_it_has() -> None:
    rng = random.Random(7)
    kinds = {
        f"k{n}": NodeType(
            f"k{n}", "s", Resources.of({"CPU": rng.choice([4, 8]), "GPU": n}), labels={"n": str(n % 2)}, maximum=99
        )
        for n in range(4)
    }
    demands = tuple(
        Demand(
            Shape(
                Resources.of({"CPU": rng.choice([0.5, 1, 3]), "GPU": rng.choice([0, 0.5, 1])}),
                (only("n", rng.choice("01")),) if rng.random() < 0.4 else (),
            ),
            rng.randint(1, 30),
        )
        for _ in range(12)
    )
    made = plan(Task(kinds, (), tuple(kinds), demands=demands))
    placed = dict.fromkeys(range(len(demands)), 0)
    for purchase in made.purchases:
        assert could_hold(kinds[purchase.node_type], [(item.shape, count) for item, count in purchase.load])
        for item, count in purchase.load:
            placed[item.source] += count * purchase.count
    assert all(placed[i] + made.left.get(i, 0) == demand.count for i, demand in enumerate(demands))


def test_many_standing_groups_are_filled_as_well_as_few(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(3)
    nodes = [
        Node(
            f"n{n}",
            BOX.name,
            NodePhase.RUNNING,
            BOX.resources,
            Resources.of({"CPU": rng.randint(0, 40) / 10, "memory": n + 1}),
        )
        for n in range(120)
    ]
    demands = tuple(work(rng.randint(1, 15), CPU=rng.randint(1, 30) / 10) for _ in range(9))
    task = Task({BOX.name: BOX}, nodes, (BOX.name,), demands=demands)
    exact = plan(task)
    monkeypatch.setattr(pack, "EAGER_GROUPS", 0)
    lazy = plan(task)
    assert exact.nothing_left and lazy.nothing_left
    assert abs(lazy.cost()[2] - exact.cost()[2]) <= 1


def test_credited_nodes_are_had_before_any_is_bought() -> None:
    task = Task({BOX.name: BOX}, (), (BOX.name,), demands=(work(20, CPU=1),))
    made = make_plan(task, Allowance({BOX.name: 10}, None, None, ()).crediting({BOX.name: 3}))
    assert [(purchase.count, purchase.credited) for purchase in made.purchases] == [(5, 3)]
    assert made.cost()[2] == 2


def test_without_buying_only_credited_nodes_are_had() -> None:
    task = Task({BOX.name: BOX}, (), (BOX.name,), paying=False, demands=(work(20, CPU=1),))
    made = make_plan(task, Allowance({BOX.name: 10}, None, None, ()).crediting({BOX.name: 3}))
    assert made.left == {0: 8}
