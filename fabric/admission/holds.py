"""What running jobs hold, on which nodes and until when.

A job holds what it declared from its admission to its end, whether it uses it or not. Ray's own numbers are laid over
that: use that no job explains (jobs that declared nothing, sessions at a prompt) takes room as well. Ray need not have
put a job where it was counted; then its claim is moved to where the use is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fabric.admission.asks import ASSUMED_RUNTIME_S, Ask, ask_of, declares, expected_end, expected_runtime
from fabric.admission.records import Attempt, JobRecord
from fabric.admission.space import ANYWHERE, Amounts, Placement, Space, slots, take_away
from fabric.model.resources import Resources

# From a job's start until Ray's numbers are sure to show what it uses.
SETTLE_S = 10.0
# From the request to stop until what the job held is free.
STOPS_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Hold:
    """What one running attempt holds.

    Attributes:
        record, attempt: whose.
        ask: what it declared.
        placement: where it is counted; None where its nodes are not there (any more).
        end: when it is expected to end, Unix seconds.
    """

    record: JobRecord
    attempt: Attempt
    ask: Ask
    placement: Placement | None
    end: float


@dataclass(frozen=True, slots=True)
class Release:
    """Room that comes free at one moment on some nodes of one site: index, bundle, times; and by which job's end."""

    at: float
    site: str
    parts: tuple[tuple[int, Resources, int], ...]
    job: str = ""


def hold_all(space: Space, live: Iterable[tuple[JobRecord, Attempt]], now: float) -> tuple[list[Hold], list[Release]]:
    """Take everything that is held or used out of ``space``.

    Returns:
        What each declared job holds, and everything that is going to come free, in order of time.
    """
    used = {index: _used(space, index) for index in range(len(space.rooms)) if is_open(space, index)}
    holds: list[Hold] = []
    for record, attempt in live:
        if not declares(record.request):
            continue
        ask = ask_of(record.request)
        placement = _placement(space, attempt, ask)
        if placement is not None and attempt.started_at is not None and now - attempt.started_at >= SETTLE_S:
            placement = _explain(space, used, ask, placement)
        if placement is not None:
            space.take(ask, _only_open(space, placement), for_long=False)
        holds.append(Hold(record, attempt, ask, placement, _end(record, attempt, now)))
    others = [(index, Resources.from_units((n, u) for n, u in left.items() if u > 0)) for index, left in used.items()]
    for index, unexplained in others:
        take_away(space.free[index], unexplained, 1)
    return holds, _releases(space, holds, others, now)


def by_time(release: Release) -> tuple[float, int, str]:
    """The order of releases."""
    return release.at, release.parts[0][0], release.job


def parts_held(ask: Ask, placement: Placement) -> list[tuple[int, Resources, int]]:
    """What a placement takes of each node."""
    parts = [(index, ask.bundle, workers) for index, workers in placement.nodes.items()]
    if placement.driver is not None:
        parts.append((placement.driver, ask.driver, 1))
    return parts


def _releases(
    space: Space, holds: Iterable[Hold], others: Iterable[tuple[int, Resources]], now: float
) -> list[Release]:
    releases = [
        Release(hold.end, hold.placement.site, tuple(parts), hold.record.request.job)
        for hold in holds
        if hold.placement and (parts := [p for p in parts_held(hold.ask, hold.placement) if is_open(space, p[0])])
    ]
    releases += [
        Release(now + ASSUMED_RUNTIME_S, space.rooms[index].site, ((index, unexplained, 1),))
        for index, unexplained in others
        if unexplained
    ]
    releases += [
        Release(max(now, room.ready_at), room.site, ((index, room.total, 1),))
        for index, room in enumerate(space.rooms)
        if room.ready_at is not None and not room.closing
    ]
    return sorted(releases, key=by_time)


def _end(record: JobRecord, attempt: Attempt, now: float) -> float:
    if record.stop_asked_by or attempt.preempted_by:
        return now + STOPS_WITHIN_S
    started = attempt.admitted_at if attempt.started_at is None else attempt.started_at
    return expected_end(started, expected_runtime(record.request), now)


def _placement(space: Space, attempt: Attempt, ask: Ask) -> Placement | None:
    """Where the attempt was counted; for one that says nothing of it, the first place in its sites that fits."""
    if attempt.nodes or attempt.driver:
        nodes = {space.index[node]: count for node, count in attempt.nodes.items() if node in space.index}
        driver = space.index.get(attempt.driver)
        some = next(iter(nodes), driver)
        return None if some is None else Placement(space.rooms[some].site, nodes, driver)
    for site in attempt.sites:
        found = space.find(site, ask, ANYWHERE, for_long=False)
        if found is not None:
            return found
    return None


def _explain(space: Space, used: dict[int, Amounts], ask: Ask, placement: Placement) -> Placement:
    """Let a job account for use that Ray reports: where it was counted, else elsewhere in its site."""
    nodes: dict[int, int] = {}
    unseen: dict[int, int] = {}
    for index, workers in placement.nodes.items():
        seen = min(workers, slots(used[index], ask.bundle)) if index in used else workers
        _explained(used, index, ask.bundle, seen)
        nodes[index] = seen
        unseen[index] = workers - seen
    for index, workers in unseen.items():
        left = workers
        for other in space.sites[placement.site] if left else ():
            moved = min(left, slots(used[other], ask.bundle)) if other in used else 0
            if moved:
                _explained(used, other, ask.bundle, moved)
                nodes[other] = nodes.get(other, 0) + moved
                left -= moved
        nodes[index] += left
    if placement.driver is not None and slots(used.get(placement.driver, {}), ask.driver):
        _explained(used, placement.driver, ask.driver, 1)
    return Placement(placement.site, {index: count for index, count in nodes.items() if count}, placement.driver)


def _explained(used: dict[int, Amounts], index: int, bundle: Resources, times: int) -> None:
    if index in used and times:
        take_away(used[index], bundle, times)


def _used(space: Space, index: int) -> Amounts:
    room = space.rooms[index]
    return {name: max(0, units - room.free.get(name)) for name, units in room.total.items}


def is_open(space: Space, index: int) -> bool:
    """Whether a node is here to stay: not on its way, and not being given back."""
    room = space.rooms[index]
    return not room.closing and room.ready_at is None


def _only_open(space: Space, placement: Placement) -> Placement:
    nodes: Mapping[int, int] = {index: n for index, n in placement.nodes.items() if is_open(space, index)}
    driver = placement.driver if placement.driver is not None and is_open(space, placement.driver) else None
    return Placement(placement.site, nodes, driver)
