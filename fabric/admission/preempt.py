"""Who gives way: running jobs that may be restarted and have a strictly lower priority, at the least work lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fabric.admission.holds import STOPS_WITHIN_S, Hold, Release, by_time, is_open, parts_held
from fabric.admission.records import JobRecord
from fabric.admission.reserve import earliest

if TYPE_CHECKING:
    from fabric.admission.asks import Ask
    from fabric.admission.reach import Reach
    from fabric.admission.space import Space
    from fabric.admission.team import Team
    from fabric.admission.values import QueueRules


@dataclass(frozen=True, slots=True)
class Victims:
    """Attempts that give way.

    Attributes:
        jobs: what each of them holds, by job id.
        lost_s: how long each has run; that work is lost unless the job kept checkpoints.
        releases: everything that comes free, with these first; empty where nobody gives way.
    """

    jobs: tuple[Hold, ...] = ()
    lost_s: tuple[float, ...] = ()
    releases: tuple[Release, ...] = ()


@dataclass(frozen=True, slots=True)
class Scene:
    """What there is to choose from.

    Attributes:
        space: the nodes.
        holds: what every running job holds.
        releases: what comes free without anybody giving way.
        teams: by name, with what each has used.
        rules: the configuration.
        now: Unix seconds.
    """

    space: Space
    holds: Sequence[Hold]
    releases: Sequence[Release]
    teams: Mapping[str, Team]
    rules: QueueRules
    now: float


def victims_for(record: JobRecord, ask: Ask, reach: Reach, scene: Scene) -> Victims:
    """The attempts whose end lets ``record`` start, in the one site where that loses least; none where none do.

    Jobs of its own team give way to higher priority. Those of another team do only where that team has had more of its
    share: otherwise a team could take the cluster by asking for priority.
    """
    already = [hold for hold in scene.holds if hold.attempt.preempted_by]
    if already and any(_starts(site, already, ask, reach, scene) for site in reach.sites):
        return _victims(already, scene)
    may = [hold for hold in scene.holds if _may_give_way(hold, record, scene)]
    best: list[Hold] | None = None
    for site in reach.sites:
        there = [hold for hold in may if hold.placement and hold.placement.site == site]
        chosen = _least(site, already, sorted(there, key=lambda hold: _worth(hold, scene)), ask, reach, scene)
        if chosen is not None and (best is None or _lost(chosen, scene) < _lost(best, scene)):
            best = chosen
    return Victims() if best is None else _victims([*already, *best], scene)


def _may_give_way(hold: Hold, record: JobRecord, scene: Scene) -> bool:
    victim, wanting = hold.record.request, record.request
    if not victim.needs.restartable or hold.record.stop_asked_by or hold.attempt.preempted_by:
        return False
    mine = min(wanting.needs.priority, scene.rules.team(wanting.team).max_priority)
    theirs = min(victim.needs.priority, scene.rules.team(victim.team).max_priority)
    if theirs >= mine:
        return False
    if victim.team == wanting.team:
        return True
    return scene.teams[wanting.team].tag(scene.now) < scene.teams[victim.team].tag(scene.now)


def _least(
    site: str, already: list[Hold], order: list[Hold], ask: Ask, reach: Reach, scene: Scene
) -> list[Hold] | None:
    """The first of ``order`` that suffice, less those that turn out not to be needed, dearest first."""
    chosen: list[Hold] = []
    for hold in order:
        chosen.append(hold)
        if _starts(site, [*already, *chosen], ask, reach, scene):
            break
    else:
        return None
    for hold in reversed(list(chosen)):
        without = [other for other in chosen if other is not hold]
        if _starts(site, [*already, *without], ask, reach, scene):
            chosen = without
    return chosen


def _starts(site: str, gone: Iterable[Hold], ask: Ask, reach: Reach, scene: Scene) -> bool:
    parts = tuple(
        part for hold in gone if hold.placement for part in parts_held(ask=hold.ask, placement=hold.placement)
    )
    space = scene.space
    mine = tuple(part for part in parts if space.rooms[part[0]].site == site and is_open(space, part[0]))
    if not mine:
        return False
    return earliest(space, (Release(scene.now, site, mine),), site, ask, reach.where) is not None


def _victims(holds: list[Hold], scene: Scene) -> Victims:
    jobs = sorted(holds, key=lambda hold: hold.record.request.job)
    names = {hold.record.request.job for hold in jobs}
    sooner = [replace(hold, end=scene.now + STOPS_WITHIN_S) for hold in jobs]
    return Victims(tuple(sooner), tuple(_lived(hold, scene) for hold in jobs), _earlier(scene, names))


def _earlier(scene: Scene, names: set[str]) -> tuple[Release, ...]:
    at = scene.now + STOPS_WITHIN_S
    moved = [
        replace(release, at=min(release.at, at)) if release.job in names else release for release in scene.releases
    ]
    return tuple(sorted(moved, key=by_time))


def _lived(hold: Hold, scene: Scene) -> float:
    return 0.0 if hold.attempt.started_at is None else max(0.0, scene.now - hold.attempt.started_at)


def _worth(hold: Hold, scene: Scene) -> tuple[float, int, str]:
    """What is lost with a job, in seconds of what its team was charged for."""
    return (
        _lived(hold, scene) * max(hold.attempt.charge, 0.01),
        hold.record.request.needs.priority,
        hold.record.request.job,
    )


def _lost(holds: Iterable[Hold], scene: Scene) -> float:
    return sum(_worth(hold, scene)[0] for hold in holds)
