"""Requests and nodes as whole-number vectors over one list of resource names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fabric.model.demand import Demand, Shape
from fabric.model.labels import Selector
from fabric.model.nodes import NodeType
from fabric.model.resources import GPU, UNITS, Resources

# Ray lets a task ask for such a resource without any node declaring it: every node has one of each
# (IMPLICIT_RESOURCE_PREFIX in ray/_raylet.pyx, used for "one per node" tricks in Ray Serve).
IMPLICIT_PREFIX = "node:__internal_implicit_resource_"

Vector = list[int]


@dataclass(frozen=True, slots=True)
class Item:
    """One shape, compiled.

    Attributes:
        shape: what it was compiled from.
        count: how many requests of it there are.
        source: position in the caller's list.
        asks: ``(column, units)`` of every resource it wants.
        columns: the same columns as a bit mask.
        wants_gpu: whether it asks for a GPU.
        marks: anti-affinity marks it sets and must not meet.
        late_selectors: a selector looks at a label that a mark may set while packing, so that whether it
            matches is known only then.
    """

    shape: Shape
    count: int
    source: int
    asks: tuple[tuple[int, int], ...]
    columns: int
    wants_gpu: bool
    marks: tuple[tuple[str, str], ...]
    late_selectors: bool


class Space:
    """The resource names that anything in one decision speaks of, each with a column."""

    def __init__(self, bags: Iterable[Resources]) -> None:
        names = sorted({name for bag in bags for name, _ in bag.items})
        self.column = {name: position for position, name in enumerate(names)}
        self.width = len(names)
        self.implicit = tuple(position for name, position in self.column.items() if name.startswith(IMPLICIT_PREFIX))

    def total(self, resources: Resources) -> Vector:
        """``resources`` as a vector."""
        vector = [0] * self.width
        for name, value in resources.items:
            vector[self.column[name]] = value
        return vector

    def free(self, resources: Resources) -> Vector:
        """``resources`` as free capacity: an implicit resource that is not named is there once."""
        vector = self.total(resources)
        for position in self.implicit:
            if not vector[position]:
                vector[position] = UNITS
        return vector

    def items(self, demands: Sequence[Demand]) -> list[Item]:
        """``demands`` compiled, in the order in which Ray packs: the hardest to place first."""
        marked = {mark.name for demand in demands for mark in demand.shape.anti_affinity}
        order = sorted(range(len(demands)), key=lambda i: _hardness(demands[i].shape), reverse=True)
        return [self._item(demands[source], source, marked) for source in order]

    def _item(self, demand: Demand, source: int, marked: set[str]) -> Item:
        shape = demand.shape
        asks = tuple((self.column[name], value) for name, value in shape.resources.items)
        return Item(
            shape=shape,
            count=demand.count,
            source=source,
            asks=asks,
            columns=sum(1 << column for column, _ in asks),
            wants_gpu=shape.resources.get(GPU) > 0,
            marks=tuple((mark.name, mark.value) for mark in shape.anti_affinity),
            late_selectors=any(
                constraint.key in marked for selector in shape.selectors for constraint in selector.constraints
            ),
        )


def could_hold(kind: NodeType, load: Iterable[tuple[Shape, int]]) -> bool:
    """Whether one empty node of ``kind`` could take the whole ``load`` of shapes with counts."""
    needs: dict[str, int] = {}
    for shape, count in load:
        if shape.selectors and not selector_rank(shape.selectors, kind.labels):
            return False
        for name, quantity in shape.resources.items:
            needs[name] = needs.get(name, 0) + quantity * count
    has = dict(kind.resources.items)
    return all(need <= has.get(name, UNITS if name.startswith(IMPLICIT_PREFIX) else 0) for name, need in needs.items())


def selector_rank(selectors: Sequence[Selector], labels: Mapping[str, str]) -> int:
    """How well ``labels`` meet a list of alternatives: its length for the first, 1 for the last, 0 for none."""
    for position, selector in enumerate(selectors):
        if selector.matches(labels):
            return len(selectors) - position
    return 0


def _hardness(shape: Shape) -> tuple[int, int, int, float, list[tuple[str, int]]]:
    """Key of Ray's ``_sort_resource_request``: constraints, labels, kinds of resource, amounts, names."""
    quantities = shape.resources.items
    first_selector = len(shape.selectors[0].constraints) if shape.selectors else 0
    return (
        len(shape.anti_affinity),
        first_selector,
        len(quantities),
        sum(value for _, value in quantities) / UNITS,
        list(quantities),
    )
