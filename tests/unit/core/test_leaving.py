"""Work that names its sites goes where it says; work that names none is held to the default, beside it in one tick."""

from __future__ import annotations

from dataclasses import replace

from autoscaler.core.leaving import held_to_their_sites
from autoscaler.core.snapshot import Snapshot
from fabric.model.decisions import ReasonCode
from fabric.model.demand import Demand, Gang, Shape
from fabric.model.labels import LABEL_SITE, Constraint, Operator, Selector
from fabric.model.nodes import NodeType
from fabric.model.resources import Resources
from tests.unit.core.worlds import HOME, SEA, SKY, codes, launches, node, only, tick, with_types, work, world

HOME_HERE, SKY_HERE, SEA_HERE = (replace(kind, labels={LABEL_SITE: kind.site}) for kind in (HOME, SKY, SEA))


def labelled(*kinds: NodeType, **more: object) -> Snapshot:
    """Busy home nodes, node types that carry their site, and a default that stays home."""
    nodes = (node("h0", HOME_HERE, busy=True), node("h1", HOME_HERE, busy=True))
    return with_types(world(*kinds, nodes=nodes, may_leave_to=frozenset(), **more), kinds)


def named(count: int, *sites: str) -> Demand:
    return Demand(Shape(Resources.of({"GPU": 1}), (only(LABEL_SITE, *sites),)), count)


BY_NAME = frozenset({"sky", "sea"})


def test_work_that_names_an_allowed_site_is_bought_for_there_although_the_default_stays_home() -> None:
    world = labelled(HOME_HERE, SKY_HERE, SEA_HERE, demands=(named(2, "home", "sea"),), may_leave_by_name=BY_NAME)
    assert launches(tick(world)) == {"sea.one": 2}


def test_work_that_names_no_site_stays_home_beside_work_that_does_and_says_why() -> None:
    demands = (work(3), named(1, "sky"))
    decision = tick(labelled(HOME_HERE, SKY_HERE, demands=demands, may_leave_by_name=BY_NAME))
    assert launches(decision) == {"sky.one": 1}
    assert ReasonCode.STAYS_HOME in codes(decision, "3 x")


def test_a_site_that_no_class_allows_is_not_bought_from_whoever_names_it() -> None:
    world = labelled(HOME_HERE, SKY_HERE, demands=(named(1, "sky"),), may_leave_by_name=frozenset({"sea"}))
    assert not launches(tick(world))


def test_saying_where_work_may_not_go_is_not_naming_its_sites() -> None:
    not_home = Selector((Constraint(LABEL_SITE, Operator.NOT_IN, ("home",)),))
    dodging = Demand(Shape(Resources.of({"GPU": 1}), (not_home,)), 1)
    decision = tick(labelled(HOME_HERE, SKY_HERE, demands=(dodging, named(1, "sky")), may_leave_by_name=BY_NAME))
    assert launches(decision) == {"sky.one": 1}, "for the other"


def test_a_gang_that_names_its_site_is_bought_for_whole() -> None:
    (shape,) = {named(1, "sky").shape}
    world = labelled(HOME_HERE, SKY_HERE, gangs=(Gang("g", (shape, shape)),), may_leave_by_name=BY_NAME)
    assert launches(tick(world)) == {"sky.one": 2}


def test_a_home_node_takes_work_that_names_no_site_first() -> None:
    world = labelled(HOME_HERE, SKY_HERE, demands=(work(1), named(1, "sky")), may_leave_by_name=BY_NAME)
    world = replace(world, nodes=(node("h0", HOME_HERE),))
    assert launches(tick(world)) == {"sky.one": 1}


def test_nothing_changes_where_no_work_names_a_site() -> None:
    world = labelled(HOME_HERE, SKY_HERE, demands=(work(3),), may_leave_by_name=BY_NAME)
    assert held_to_their_sites(world) == (world, {})
