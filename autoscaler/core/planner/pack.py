"""Greedy packing, best group first, in steps of as many equal nodes at once as stay equal.

The order is Ray's own: of all nodes, the one whose fill scores best is filled and set aside, again and again.
Ray looks at every node and every single request in each step; here nodes in the same state are one group,
requests of one shape are one count, and a step that would be repeated is taken once, many times over.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from autoscaler.core.planner.bins import Bin, Fill, Score, fill
from autoscaler.core.planner.space import Item

Appraise = Callable[[Bin, Fill], Score]
MayTake = Callable[[Bin, int], int]

# Negated score, turn among equals, group: the smallest is the best.
_Entry = tuple[Score, int, int]

# Up to so many groups, every fill that a step made stale is done again before the next step, as Ray does.
# Beyond, a stale fill is done again when it comes up: less work left makes a node score lower, save for corner
# cases in which the order of two standing nodes differs from Ray's.
EAGER_GROUPS = 256

# Equals take turns one node at a time; where a great many are to be had, in turns of up to this part of them.
TURNS = 128


@dataclass(frozen=True, slots=True)
class Step:
    """``nodes`` nodes of the group ``row`` are filled alike."""

    row: int
    nodes: int
    filled: Fill


def pack(
    bins: Sequence[Bin],
    items: Sequence[Item],
    remaining: list[int],
    candidates: Mapping[int, list[int]],
    appraise: Appraise,
    may_take: MayTake | None = None,
) -> list[Step]:
    """Fill groups, best first, until nothing more fits; counts in ``remaining`` down, changes nothing else.

    Args:
        bins: the groups; each node of one is filled at most once.
        items: shapes, hardest first.
        remaining: requests left of each item.
        candidates: per group worth looking at, the items that may fit on it.
        appraise: how good a filled node is; higher is better.
        may_take: for groups that are bought: how many of the wanted nodes may be had; it is told once per step
            and keeps count. A group of which none may be had is out.
    """
    search = _Search(bins, items, remaining, candidates, appraise)
    steps: list[Step] = []
    while (best := search.best()) is not None:
        row, filled, nodes = best
        if may_take is not None:
            nodes = may_take(bins[row], nodes)
        if nodes <= 0:
            search.drop(row)
            continue
        steps.append(Step(row, nodes, filled))
        search.take(row, filled, nodes)
    return steps


class _Search:
    """Groups ordered by score, kept true while requests are used up.

    Between equal scores Ray takes the node that comes first in its list, and puts a node type that it has just
    bought from at the list's end; so does this, because the order of equals decides what the next ones find.
    """

    def __init__(
        self,
        bins: Sequence[Bin],
        items: Sequence[Item],
        remaining: list[int],
        candidates: Mapping[int, list[int]],
        appraise: Appraise,
    ) -> None:
        self._bins, self._items, self._remaining = bins, items, remaining
        self._candidates, self._appraise = candidates, appraise
        self._room = {row: bins[row].room for row in candidates}
        self._fills: dict[int, Fill] = {}
        self._heap: list[_Entry] = []
        self._current: dict[int, _Entry] = {}
        self._bought_last = len(bins)
        self._turn = {row: bins[row].members[0] if bins[row].members else row for row in candidates}
        self._eager = len(candidates) <= EAGER_GROUPS
        for row in candidates:
            self._appraise_again(row)

    def best(self) -> tuple[int, Fill, int] | None:
        """The best group, its fill, and how many of its nodes the next steps would fill just so."""
        while (entry := self._top()) is not None:
            row = entry[2]
            filled = self._fills[row]
            if not self._stale(filled):
                return row, filled, self._repeats(row, filled)
            heapq.heappop(self._heap)
            self._appraise_again(row)
        return None

    def take(self, row: int, filled: Fill, nodes: int) -> None:
        """Use up what ``nodes`` nodes of the group take."""
        for position, count in filled.takes:
            self._remaining[position] -= count * nodes
        self._room[row] -= nodes
        if self._room[row] <= 0:
            self.drop(row)
        else:
            self._to_its_turn(row)
        if self._eager:
            for other in [other for other, fill_ in self._fills.items() if self._stale(fill_)]:
                self._appraise_again(other)

    def drop(self, row: int) -> None:
        """Look at this group no more."""
        self._current.pop(row, None)
        self._fills.pop(row, None)

    def _top(self) -> _Entry | None:
        """The first entry that still counts."""
        while self._heap:
            entry = self._heap[0]
            if self._current.get(entry[2]) is entry:
                return entry
            heapq.heappop(self._heap)
        return None

    def _to_its_turn(self, row: int) -> None:
        members = self._bins[row].members
        if members:
            self._turn[row] = members[len(members) - self._room[row]]
        else:
            self._bought_last += 1
            self._turn[row] = self._bought_last
        self._push(self._current[row][0], row)

    def _push(self, score: Score, row: int) -> None:
        self._current[row] = entry = (score, self._turn[row], row)
        heapq.heappush(self._heap, entry)

    def _stale(self, filled: Fill) -> bool:
        remaining = self._remaining
        return any(count > remaining[position] for position, count in filled.takes)

    def _appraise_again(self, row: int) -> None:
        bin_ = self._bins[row]
        filled = fill(bin_, self._items, self._remaining, self._candidates[row])
        if not filled.takes:
            self.drop(row)
            return
        self._fills[row] = filled
        self._push((-bin_.tier, *(-part for part in self._appraise(bin_, filled))), row)

    def _repeats(self, row: int, filled: Fill) -> int:
        room = self._room[row]
        if room == 1:
            return 1
        needs = dict(filled.takes)
        most = dict(needs)
        if self._eager:
            for other in self._fills.values():
                for position, count in other.takes:
                    if count > most.get(position, count):
                        most[position] = count
        repeats = min(
            room,
            *((self._remaining[position] - most[position]) // count + 1 for position, count in needs.items()),
        )
        if repeats > 1 and self._has_equal(row):
            return max(1, repeats // TURNS)
        return repeats

    def _has_equal(self, row: int) -> bool:
        """Whether another group scores as well as the best, so that they take turns."""
        entry = heapq.heappop(self._heap)
        following = self._top()
        heapq.heappush(self._heap, entry)
        return following is not None and following[0] == self._current[row][0]
