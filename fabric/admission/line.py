"""The line as it stood when a decision was made: every waiting job's place, reason, and forecast, worked out on demand.

A decision over a hundred thousand jobs takes copies of the lists it needs and nothing more; who asks about one job pays
for that job.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from fabric.admission.asks import Kind
from fabric.admission.away import FOR_ROOM, affordable
from fabric.admission.forecast import Forecast
from fabric.admission.reach import Reaches
from fabric.admission.records import JobRecord
from fabric.admission.share import charge_of
from fabric.admission.standing import CALLED, Held, Key, is_late, latest_start
from fabric.admission.team import Team
from fabric.admission.values import NEVER, Away, Waiting, WaitReason
from fabric.model.decisions import Fact
from fabric.model.resources import Resources

Verdict = tuple[WaitReason, Mapping[str, Fact]]


@dataclass(frozen=True, slots=True)
class Decided:
    """What the decision found out about the jobs it did not admit.

    Attributes:
        kinds: by kind; it holds for every job of the kind.
        alone: by job, where it holds for that one only.
        stopped: by team, where nothing more of the team may start.
        head: the first job without room; ``""`` for none.
        admitted: jobs that have left the line.
    """

    kinds: Mapping[Kind, Verdict]
    alone: Mapping[str, Verdict]
    stopped: Mapping[str, Verdict]
    head: str
    admitted: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Place:
    tags: list[float]
    work: list[float]
    keys: list[Key]


class Line:
    """Everybody who waits, in order.

    Args:
        keys: the line of each team.
        places: kind of each job in a line.
        held: jobs that are not in a line.
        jobs: every record; records do not change.
        decided: what the decision found out.
        teams, tags: each team, and its tag before anything was admitted.
        reaches, forecast, cluster, now: of the decision.
    """

    def __init__(
        self,
        keys: Mapping[str, Sequence[Key]],
        places: Mapping[str, tuple[Kind, Key]],
        held: Mapping[str, Held],
        jobs: Mapping[str, JobRecord],
        decided: Decided,
        teams: Mapping[str, Team],
        tags: Mapping[str, int],
        reaches: Reaches,
        forecast: Forecast,
        cluster: Resources,
        now: float,
    ) -> None:
        self._keys, self._places, self._held, self._jobs = keys, places, held, jobs
        self._decided, self._teams, self._tags = decided, teams, tags
        self._reaches, self._forecast, self._cluster, self._now = reaches, forecast, cluster, now
        self._charges: dict[Kind, float] = {}
        self._order: dict[str, _Place] | None = None

    def waiting(self, job: str) -> Waiting | None:
        """Why a job waits; None where it does not."""
        held = self._held.get(job)
        if held is not None:
            return Waiting(job, None, self.length, held.reason, held.facts, late=self._late(job))
        place = self._places.get(job)
        if place is None or job in self._decided.admitted:
            return None
        kind, key = place
        reason, facts = self._verdict(kind, job)
        if reason in NEVER:
            return Waiting(job, None, self.length, reason, facts, late=self._late(job))
        position, ahead = self._position(kind, key)
        reach = self._reaches.of(kind)
        aways = affordable(kind, reach, self._teams[kind.team].purse, key[-1], self._now) if reason in FOR_ROOM else []
        away: Away | None = aways[0] if aways else None
        start_at = self._forecast.start(kind, reach, ahead) if kind.declared else None
        return Waiting(
            job, position, self.length, reason, self._with_deadline(job, facts), start_at, away, self._late(job)
        )

    def everyone(self) -> Iterator[Waiting]:
        """Everybody: the line in order, then who is aside, by id."""
        order = self._sorted()
        for _, name, index in heapq.merge(*(_turns(name, order[name]) for name in sorted(order))):
            waiting = self.waiting(order[name].keys[index][4])
            if waiting is not None:
                yield waiting
        never = {kind for kind, verdict in self._decided.kinds.items() if verdict[0] in NEVER}
        skipped = [job for job, (kind, _) in self._places.items() if kind in never] if never else []
        for job in sorted((*self._held, *skipped)):
            waiting = self.waiting(job)
            if waiting is not None:
                yield waiting

    @property
    def length(self) -> int:
        """Jobs in the line."""
        return sum(len(place.keys) for place in self._sorted().values())

    def _verdict(self, kind: Kind, job: str) -> Verdict:
        decided = self._decided
        return (
            decided.alone.get(job)
            or decided.kinds.get(kind)
            or decided.stopped.get(kind.team)
            or (WaitReason.BEHIND_OTHERS, {"resources": kind.ask.words()})
        )

    def _position(self, kind: Kind, key: Key) -> tuple[int, float]:
        """Place in the whole line, from 1, and the GPU-seconds expected of everything before it."""
        order = self._sorted()
        mine = order[kind.team]
        index = bisect_left(mine.keys, key)
        tag, position, ahead = mine.tags[index], 1 + index, mine.work[index]
        for name, place in order.items():
            if name != kind.team:
                before = bisect_left(place.tags, tag) if name > kind.team else _right(place.tags, tag)
                position += before
                ahead += place.work[before]
        return position, ahead

    def _sorted(self) -> dict[str, _Place]:
        """Each team's line with the tag at which each job's turn comes, as if those before it had been admitted."""
        if self._order is None:
            self._order = {name: self._place(name, keys) for name, keys in sorted(self._keys.items())}
        return self._order

    def _place(self, name: str, all_keys: Sequence[Key]) -> _Place:
        decided, places = self._decided, self._places
        never = {kind for kind, verdict in decided.kinds.items() if verdict[0] in NEVER}
        gone = decided.admitted
        keys = [key for key in all_keys if key[4] not in gone and (not never or places[key[4]][0] not in never)]
        work = [0.0, *accumulate(self._charge(places[key[4]][0]) * key[-1] for key in keys)]
        weight, start = self._teams[name].rules.weight, self._tags[name]
        tags = [start + done / weight for done in work[:-1]]
        for index in range(bisect_left(keys, (CALLED + 1,))):
            tags[index] = CALLED
        return _Place(tags, work, keys)

    def _charge(self, kind: Kind) -> float:
        charge = self._charges.get(kind)
        if charge is None:
            charge = self._charges[kind] = charge_of(kind.ask.total, self._cluster) if kind.declared else 0.0
        return charge

    def _late(self, job: str) -> bool:
        record = self._jobs.get(job)
        return record is not None and is_late(record.request, self._now)

    def _with_deadline(self, job: str, facts: Mapping[str, Fact]) -> Mapping[str, Fact]:
        start = latest_start(self._jobs[job].request)
        return facts if start is None else {**facts, "latest_start": start}


def _turns(name: str, place: _Place) -> Iterator[tuple[float, str, int]]:
    return ((tag, name, index) for index, tag in enumerate(place.tags))


def _right(tags: Sequence[float], tag: float) -> int:
    """How many are at or before ``tag``."""
    index = bisect_left(tags, tag)
    while index < len(tags) and tags[index] == tag:
        index += 1
    return index
