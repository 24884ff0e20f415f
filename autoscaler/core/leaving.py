"""Where work may leave home to: what names its sites by label goes there, what names none is held to the default.

Ray names no job on its demand. Work of the fabric's queue carries a selector for the sites that its data class allows;
everything else is held to the default data class, by the selector that is put on it here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from autoscaler.core.snapshot import Snapshot
from fabric.model.demand import Demand, Gang, Shape
from fabric.model.labels import LABEL_SITE, Constraint, Operator, Selector

AsAsked = Mapping[Shape, Shape]


def held_to_their_sites(snapshot: Snapshot) -> tuple[Snapshot, AsAsked]:
    """The snapshot with a selector on all work that names no site, and each shape so changed to what it was.

    ``may_leave_to`` then is every site that some work may leave for. Where no work names a site, or none may go
    further than the default allows, nothing changes.
    """
    default, named = snapshot.may_leave_to, snapshot.may_leave_by_name
    if default is None or named <= default or not any(_names_its_sites(shape) for shape in _shapes(snapshot)):
        return snapshot, {}
    away = {kind.site for kind in snapshot.node_types.values() if kind.launchable}
    hold = Constraint(LABEL_SITE, Operator.NOT_IN, tuple(sorted(away - default)))
    changed = {shape: _with(shape, hold) for shape in _shapes(snapshot) if not _names_its_sites(shape)}
    narrowed = replace(
        snapshot,
        may_leave_to=default | named,
        demands=tuple(_demand(demand, changed) for demand in snapshot.demands),
        constraints=tuple(_demand(demand, changed) for demand in snapshot.constraints),
        gangs=tuple(_gang(gang, changed) for gang in snapshot.gangs),
    )
    return narrowed, {new: old for old, new in changed.items()}


def _shapes(snapshot: Snapshot) -> set[Shape]:
    alone = {demand.shape for demand in (*snapshot.demands, *snapshot.constraints)}
    return alone | {shape for gang in snapshot.gangs for shape in gang.bundles}


def _names_its_sites(shape: Shape) -> bool:
    """Whether every alternative says at which sites the work may be; saying where it may not be is not enough."""
    return bool(shape.selectors) and all(
        any(one.key == LABEL_SITE and one.operator is Operator.IN for one in selector.constraints)
        for selector in shape.selectors
    )


def _with(shape: Shape, hold: Constraint) -> Shape:
    selectors = shape.selectors or (Selector(),)
    return replace(shape, selectors=tuple(Selector((*selector.constraints, hold)) for selector in selectors))


def _demand(demand: Demand, changed: AsAsked) -> Demand:
    return replace(demand, shape=changed.get(demand.shape, demand.shape))


def _gang(gang: Gang, changed: AsAsked) -> Gang:
    return replace(gang, bundles=tuple(changed.get(shape, shape) for shape in gang.bundles))
