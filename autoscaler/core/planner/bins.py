"""Capacity to pack into: groups of interchangeable nodes, standing or buyable, and how one is filled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from autoscaler.core.planner.space import Item, Space, Vector, selector_rank
from fabric.model.nodes import NO_LABELS
from fabric.model.resources import GPU, UNITS

Marks = frozenset[tuple[str, str]]
NO_MARKS: Marks = frozenset()

Score = tuple[float, ...]


@dataclass(slots=True)
class Bin:
    """A group of nodes in one and the same state.

    Attributes:
        node_type: their type.
        free: what is free on each.
        total: what each has.
        members: positions of the nodes in the caller's list; empty for a node type that can be bought.
        room: how many of them there are, or may be bought.
        tier: groups of a higher tier are filled before any of a lower one.
        tail: availability that recovers, priority, availability: Ray's last tie-breaks.
        labels, marks: labels, and anti-affinity marks set on them.
        columns, any_gpu, rank: of the requests planned on each so far: their resource columns, whether one
            wants a GPU, and how well the first that has selectors was met. Ray scores all of a node's requests.
    """

    node_type: str
    free: Vector
    total: Vector
    members: list[int]
    room: int
    tier: float = 0.0
    tail: tuple[float, float, float] = (1.0, 0.0, 1.0)
    labels: Mapping[str, str] = field(default_factory=lambda: NO_LABELS)
    marks: Marks = NO_MARKS
    columns: int = 0
    any_gpu: bool = False
    rank: int = 0
    has: int = 0
    gauges: tuple[tuple[int, int, float], ...] = ()

    def __post_init__(self) -> None:
        self.has = sum(1 << column for column, value in enumerate(self.total) if value)
        self.gauges = tuple((column, value, value / UNITS) for column, value in enumerate(self.total) if value)


@dataclass(frozen=True, slots=True)
class Fill:
    """What one node of a bin takes of the remaining requests, and how it stands afterwards.

    Attributes:
        takes: ``(position in the item list, requests)``.
        free, marks, columns, any_gpu, rank: the bin's fields after it.
    """

    takes: tuple[tuple[int, int], ...]
    free: Vector
    marks: Marks
    columns: int
    any_gpu: bool
    rank: int


def fill(bin_: Bin, items: Sequence[Item], remaining: Sequence[int], candidates: Sequence[int]) -> Fill:
    """First-fit of the remaining requests, hardest first, on one node of ``bin_``.

    Args:
        bin_: the group.
        items: all shapes, hardest first.
        remaining: requests left of each.
        candidates: positions of the shapes that may fit at all.
    """
    free = bin_.free.copy()
    takes: list[tuple[int, int]] = []
    marks, columns, any_gpu, rank = bin_.marks, bin_.columns, bin_.any_gpu, bin_.rank
    for position in candidates:
        count = remaining[position]
        if count <= 0:
            continue
        item = items[position]
        for column, quantity in item.asks:
            fitting = free[column] // quantity
            if fitting < count:
                count = fitting
                if not count:
                    break
        if not count:
            continue
        if item.marks:
            if _meets(item.marks, marks, bin_.labels):
                continue
            count = 1
        if item.shape.selectors:
            met = selector_rank(item.shape.selectors, _with_marks(bin_.labels, marks))
            if not met:
                continue
            rank = rank or met
        if item.marks:
            marks = marks | frozenset(item.marks)
        for column, quantity in item.asks:
            free[column] -= count * quantity
        takes.append((position, count))
        columns |= item.columns
        any_gpu = any_gpu or item.wants_gpu
    return Fill(tuple(takes), free, marks, columns, any_gpu, rank)


def ray_score(bin_: Bin, filled: Fill, gpu_column: int | None) -> Score:
    """Ray's order of preference for a filled node, higher is better.

    ``SchedulingNode._compute_score`` and ``_sched_best_node`` of Ray 2.60: label alternatives met, GPU nodes
    kept for GPU work, kinds of resource used, least utilisation, mean utilisation, then availability and priority.

    Args:
        bin_: the group.
        filled: what one of its nodes would take.
        gpu_column: the column of GPUs; None when GPU nodes need not be kept for GPU work.
    """
    used = [amount * ((total - filled.free[column]) / total) ** 3 for column, total, amount in bin_.gauges]
    wasted_gpu = gpu_column is not None and bin_.total[gpu_column] > 0 and not filled.any_gpu
    return (
        filled.rank,
        0.0 if wasted_gpu else 1.0,
        (filled.columns & bin_.has).bit_count(),
        min(used) if used else 0.0,
        sum(used) / len(used) if used else 0.0,
        *bin_.tail,
    )


class Pool:
    """Standing capacity that is filled step by step; a step is computed first and kept only if it is wanted."""

    def __init__(self, space: Space, bins: Sequence[Bin]) -> None:
        self.space = space
        self.bins: list[Bin] = []
        self._free: npt.NDArray[np.int64] = np.zeros((max(len(bins), 8), space.width), dtype=np.int64)
        for bin_ in bins:
            self.add(bin_)

    def add(self, bin_: Bin) -> None:
        """Put one more group into the pool."""
        row = len(self.bins)
        if row == len(self._free):
            self._free = np.concatenate([self._free, np.zeros_like(self._free)])
        self._free[row] = bin_.free
        self.bins.append(bin_)

    def fitting(self, items: Sequence[Item]) -> dict[int, list[int]]:
        """Per group with room, the items of which one could fit on it by resources and labels."""
        rows = len(self.bins)
        if not rows or not items:
            return {}
        free = self._free[:rows]
        able = np.ones((len(items), rows), dtype=np.bool_)
        for position, item in enumerate(items):
            for column, quantity in item.asks:
                np.logical_and(able[position], free[:, column] >= quantity, out=able[position])
        self._match_labels(items, able)
        able &= np.fromiter((bin_.room > 0 for bin_ in self.bins), dtype=np.bool_, count=rows)
        by_row = able.T
        return {int(row): np.flatnonzero(by_row[row]).tolist() for row in np.flatnonzero(able.any(axis=0))}

    def use(self, row: int, nodes: int, filled: Fill) -> list[int]:
        """Fill ``nodes`` nodes of a group; returns the members that were filled."""
        bin_ = self.bins[row]
        taken = bin_.members[:nodes]
        full = Bin(
            node_type=bin_.node_type,
            free=filled.free,
            total=bin_.total,
            members=taken,
            room=nodes,
            tier=bin_.tier,
            tail=bin_.tail,
            labels=bin_.labels,
            marks=filled.marks,
            columns=filled.columns,
            any_gpu=filled.any_gpu,
            rank=filled.rank,
        )
        if nodes == bin_.room:
            self.bins[row] = full
            self._free[row] = filled.free
        else:
            bin_.members = bin_.members[nodes:]
            bin_.room -= nodes
            self.add(full)
        return taken

    def _match_labels(self, items: Sequence[Item], able: npt.NDArray[np.bool_]) -> None:
        picky = [
            (position, item) for position, item in enumerate(items) if item.shape.selectors and not item.late_selectors
        ]
        if not picky:
            return
        keys = sorted({c.key for _, item in picky for selector in item.shape.selectors for c in selector.constraints})
        classes: dict[tuple[str | None, ...], list[int]] = {}
        for row, bin_ in enumerate(self.bins):
            labels = _with_marks(bin_.labels, bin_.marks)
            classes.setdefault(tuple(labels.get(key) for key in keys), []).append(row)
        for rows in classes.values():
            labels = _with_marks(self.bins[rows[0]].labels, self.bins[rows[0]].marks)
            for position, item in picky:
                if not selector_rank(item.shape.selectors, labels):
                    able[position, rows] = False


def gpu_column(space: Space, conserve: bool) -> int | None:
    """The column of GPUs if GPU nodes are to be kept for GPU work and anything speaks of GPUs."""
    return space.column.get(GPU) if conserve else None


def _meets(wanted: Sequence[tuple[str, str]], marks: Marks, labels: Mapping[str, str]) -> bool:
    return any(mark in marks or labels.get(mark[0]) == mark[1] for mark in wanted)


def _with_marks(labels: Mapping[str, str], marks: Marks) -> Mapping[str, str]:
    """Labels as Ray sees them while packing: it keeps anti-affinity marks among the labels."""
    return {**labels, **dict(marks)} if marks else labels
