"""Where there is room: nodes, what is free on each for how long, and packing jobs onto them.

Every node has two amounts. *Free* is what nobody holds now. *Spare* is what may also be held for long without being in
the way of the head of the line; the two are the same where nothing is reserved. How many workers of one kind each node
can take is counted once and then kept up to date, so asking again costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from fabric.admission.asks import Ask
from fabric.admission.values import Room
from fabric.model.labels import Selector
from fabric.model.money import MicroUSD
from fabric.model.nodes import Market
from fabric.model.resources import GPU, Resources

Amounts = dict[str, int]
SAFE = (Market.OWNED, Market.ON_DEMAND)


class Where(NamedTuple):
    """Which nodes are meant: by label, and whether those that the cloud can take back count."""

    selector: Selector
    spot: bool


ANYWHERE = Where(Selector(), True)


@dataclass(frozen=True, slots=True)
class Placement:
    """A place for a whole job in one site.

    Attributes:
        site: where.
        nodes: index of a node to the number of workers on it.
        driver: index of the node that holds the driver; None where it needs nothing.
    """

    site: str
    nodes: Mapping[int, int]
    driver: int | None = None


@dataclass(slots=True)
class Fit:
    """How many bundles of one kind each node can take, and the sum over each site."""

    slots: dict[str, dict[int, int]] = field(default_factory=dict[str, dict[int, int]])
    total: dict[str, int] = field(default_factory=dict[str, int])


class Space:
    """The nodes of one decision.

    Args:
        rooms: every node; those being given back take nothing, those on their way nothing yet.
    """

    def __init__(self, rooms: Iterable[Room]) -> None:
        self.rooms = sorted(rooms, key=lambda room: (room.site, room.node))
        self.index = {room.node: index for index, room in enumerate(self.rooms)}
        self.free: list[Amounts] = [_amounts(room) for room in self.rooms]
        # What will be left at the head's start, on nodes of a site where something is reserved for it.
        self.late: dict[int, Amounts] = {}
        self.sites: dict[str, list[int]] = {}
        for index, room in enumerate(self.rooms):
            self.sites.setdefault(room.site, []).append(index)
        self._fits: dict[tuple[bool, Resources, Where], Fit] = {}
        self._by_ask: dict[tuple[bool, Ask, bool], Fit] = {}

    def spare(self, index: int) -> Amounts:
        """What of a node may be held beyond the head's start."""
        free, late = self.free[index], self.late.get(index)
        return free if late is None else {name: min(units, late.get(name, 0)) for name, units in free.items()}

    def suits(self, index: int, where: Where) -> bool:
        """Whether a node is among those that are meant."""
        room = self.rooms[index]
        return (where.spot or room.market in SAFE) and where.selector.matches(room.labels)

    def find(self, site: str, ask: Ask, where: Where, *, for_long: bool) -> Placement | None:
        """A place for the whole of ``ask`` in one site, or None.

        Args:
            site: where.
            ask: what has to be free.
            where: which nodes of it; the driver's own selector comes on top.
            for_long: it may go on beyond the head's start, so it has to keep off what is reserved.
        """
        fit = self._fit(ask, where, for_long=for_long)
        if site not in fit.slots or fit.total[site] < ask.workers:
            return None
        if not ask.driver:
            return Placement(site, self._choose(fit.slots[site], ask.bundle, ask.workers))
        left = {index: dict(self.spare(index) if for_long else self.free[index]) for index in self.sites[site]}
        return self.pack(site, left, fit.slots[site], ask, where)

    def pack(
        self, site: str, left: dict[int, Amounts], known: Mapping[int, int], ask: Ask, where: Where
    ) -> Placement | None:
        """A place for the whole of ``ask`` on nodes of which ``left`` is free.

        Args:
            site: where they are.
            left: by node; changed on the way.
            known: how many workers each of the nodes that are meant can take; together enough.
            ask: what has to be free.
            where: which nodes are meant.
        """
        nodes = self._choose(known, ask.bundle, ask.workers)
        if not ask.driver:
            return Placement(site, nodes)
        meant = [
            index
            for index in left
            if self.suits(index, Where(ask.driver_selector, where.spot)) and self.suits(index, where)
        ]
        _take_all(left, nodes, ask.bundle)
        for index in sorted(meant, key=lambda index: (-nodes.get(index, 0), index)):
            if slots(left[index], ask.driver):
                return Placement(site, nodes, index)
        _take_all(left, nodes, ask.bundle, -1)
        # The workers left no room for the driver: it is put first.
        for driver in meant:
            if slots(left[driver], ask.driver):
                take_away(left[driver], ask.driver, 1)
                around = {index: slots(left[index], ask.bundle) for index in known}
                if sum(around.values()) >= ask.workers:
                    return Placement(site, self._choose(around, ask.bundle, ask.workers), driver)
                give_back(left[driver], ask.driver, 1)
        return None

    def take(self, ask: Ask, placement: Placement, *, for_long: bool) -> None:
        """Give ``placement`` away.

        Args:
            ask: what is put there.
            placement: where.
            for_long: it is still there when the head is to start.
        """
        for index, workers in placement.nodes.items():
            self._hold(index, ask.bundle, workers, for_long=for_long)
        if placement.driver is not None:
            self._hold(placement.driver, ask.driver, 1, for_long=for_long)

    def reserve(self, late: Mapping[int, Amounts]) -> None:
        """From now on, nodes named in ``late`` keep for the head what is not in there."""
        self.late.update(late)
        self._fits = {key: fit for key, fit in self._fits.items() if not key[0]}
        self._by_ask = {key: fit for key, fit in self._by_ask.items() if not key[0]}

    def price(self, ask: Ask, placement: Placement) -> MicroUSD:
        """What a job's share of its machines costs by the hour: of each its dominant share, rounded up."""
        parts = [
            self._part(index, [(name, units * workers) for name, units in ask.bundle.items])
            for index, workers in placement.nodes.items()
        ]
        if placement.driver is not None:
            parts.append(self._part(placement.driver, ask.driver.items))
        return sum(parts)

    def _part(self, index: int, wanted: Iterable[tuple[str, int]]) -> MicroUSD:
        room = self.rooms[index]
        if not room.per_hour:
            return 0
        return max((-(-room.per_hour * units // max(1, room.total.get(name))) for name, units in wanted), default=0)

    def _hold(self, index: int, bundle: Resources, times: int, *, for_long: bool) -> None:
        take_away(self.free[index], bundle, times)
        if for_long and index in self.late:
            take_away(self.late[index], bundle, times)
        site = self.rooms[index].site
        for (long, wanted, _), fit in self._fits.items():
            known = fit.slots.get(site, {})
            if index in known:
                now = slots(self.spare(index) if long else self.free[index], wanted)
                fit.total[site] += now - known[index]
                known[index] = now

    def _fit(self, ask: Ask, where: Where, *, for_long: bool) -> Fit:
        """Counted once for each ask, and shared between asks of equal workers."""
        for_long = for_long and bool(self.late)
        fit = self._by_ask.get((for_long, ask, where.spot))
        if fit is None:
            meant = worker_nodes(ask, where)
            fit = self._by_ask[for_long, ask, where.spot] = self._counted(ask.bundle, meant, for_long=for_long)
        return fit

    def _counted(self, bundle: Resources, where: Where, *, for_long: bool) -> Fit:
        fit = self._fits.get((for_long, bundle, where))
        if fit is None:
            fit = Fit()
            for index, room in enumerate(self.rooms):
                if self.suits(index, where):
                    known = slots(self.spare(index) if for_long else self.free[index], bundle)
                    fit.slots.setdefault(room.site, {})[index] = known
                    fit.total[room.site] = fit.total.get(room.site, 0) + known
            self._fits[for_long, bundle, where] = fit
        return fit

    def _choose(self, known: Mapping[int, int], bundle: Resources, workers: int) -> dict[int, int]:
        """The fewest nodes; among equals those that are fullest, and without GPUs for work without GPUs."""
        if not workers:
            return {}
        spares_gpus = not bundle.get(GPU)
        if workers == 1 or max(known.values()) >= workers:
            usable = (
                (self.rooms[index].total.get(GPU) if spares_gpus else 0, count, index)
                for index, count in known.items()
                if count >= workers
            )
            return {min(usable)[2]: workers}
        chosen: dict[int, int] = {}
        for index in sorted(known, key=lambda index: (-known[index], index)):
            chosen[index] = min(known[index], workers)
            workers -= chosen[index]
            if not workers:
                break
        return chosen


def worker_nodes(ask: Ask, where: Where) -> Where:
    """The nodes for the workers: a driver that is all there is brings its own selector."""
    return where if ask.driver else Where(ask.driver_selector, where.spot)


def slots(amounts: Mapping[str, int], bundle: Resources) -> int:
    """How many of ``bundle`` fit into ``amounts``."""
    return max(0, min((amounts.get(name, 0) // units for name, units in bundle.items), default=1 << 30))


def take_away(amounts: Amounts, bundle: Resources, times: int) -> None:
    """``times`` of ``bundle`` out of ``amounts``."""
    for name, units in bundle.items:
        amounts[name] = amounts.get(name, 0) - units * times


def give_back(amounts: Amounts, bundle: Resources, times: int) -> None:
    """``times`` of ``bundle`` back into ``amounts``."""
    take_away(amounts, bundle, -times)


def _take_all(left: dict[int, Amounts], nodes: Mapping[int, int], bundle: Resources, sign: int = 1) -> None:
    for index, workers in nodes.items():
        take_away(left[index], bundle, sign * workers)


def _amounts(room: Room) -> Amounts:
    return {} if room.closing or room.ready_at is not None else dict(room.total.items)
