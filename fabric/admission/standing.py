"""Where one waiting job stands: in the line and how far to the front, aside for a while, or never to run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from fabric.admission.asks import expected_runtime
from fabric.admission.records import JobRecord
from fabric.admission.values import Doomed, DoomReason, TeamRules, WaitReason
from fabric.model.decisions import Fact
from fabric.model.jobs import JobPhase, JobRequest

# A job that has waited this long goes before everything in its team that was submitted later.
PATIENCE_S = 7 * 86400.0
# A deadline makes a job urgent this long, and at least its own runtime, before its latest start.
URGENT_S = 900.0

# Others have given way to it: it goes before everything, or the room would go to them again.
CALLED = -1_000_000

# Order inside a team: priority, urgency, the time that counts, submission time, id; and, never compared, the runtime.
Key = tuple[int, int, float, float, str, float]


@dataclass(frozen=True, slots=True)
class Held:
    """A waiting job that is not in the line: why, and until when at the longest (None: until something happens)."""

    reason: WaitReason
    facts: Mapping[str, Fact] = field(default_factory=dict[str, Fact])
    until: float | None = None


def stand(
    record: JobRecord, jobs: Mapping[str, JobRecord], dependents: Mapping[str, set[str]], now: float
) -> Held | Doomed | Literal[True] | None:
    """True for a job that belongs in the line; None for one that is over."""
    if record.phase is not JobPhase.WAITING:
        return None
    if record.stop_asked_by:
        return Held(WaitReason.STOP_ASKED, {"by": record.stop_asked_by})
    if math.isinf(record.not_before):
        return Held(WaitReason.ENDING)
    if record.request.needs.after:
        blocked = _after(record.request, jobs, dependents)
        if blocked is not None:
            return blocked
    if record.not_before > now:
        tried = len(record.attempts)
        return Held(WaitReason.BACK_OFF, {"until": record.not_before, "attempts": tried}, record.not_before)
    return True


def key_of(request: JobRequest, team: TeamRules, now: float, *, called: bool = False) -> Key:
    """The place of a job among those of its team; smaller is earlier.

    Args:
        request: the job.
        team: the rules of its team.
        now: Unix seconds.
        called: running jobs have been told to give way to it.
    """
    priority = min(request.needs.priority, team.max_priority)
    runtime = expected_runtime(request)
    if called:
        return (CALLED, 0, request.at, request.at, request.job, runtime)
    if now - request.at >= PATIENCE_S:
        return (-team.max_priority, 0, request.at - PATIENCE_S, request.at, request.job, runtime)
    start = latest_start(request)
    if start is not None and urgent_from(request, start) <= now <= start:
        return (-priority, 0, start, request.at, request.job, runtime)
    return (-priority, 1, request.at, request.at, request.job, runtime)


def next_change(request: JobRequest, now: float) -> float | None:
    """When the place of a job changes next by the mere passing of time."""
    moments = [request.at + PATIENCE_S]
    start = latest_start(request)
    if start is not None:
        moments += [urgent_from(request, start), math.nextafter(start, math.inf)]
    return min((moment for moment in moments if moment > now), default=None)


def latest_start(request: JobRequest) -> float | None:
    """When a job with a deadline has to have started; None without a deadline."""
    deadline = request.needs.deadline
    return None if deadline is None else deadline - expected_runtime(request)


def urgent_from(request: JobRequest, start: float) -> float:
    """From when on a job counts as urgent whose latest start is ``start``."""
    return start - max(URGENT_S, expected_runtime(request))


def is_late(request: JobRequest, now: float) -> bool:
    """Whether the deadline cannot be met any more: by the declared runtime where there is one."""
    needs = request.needs
    return needs.deadline is not None and now + (needs.runtime_s or 0.0) > needs.deadline


def _after(
    request: JobRequest, jobs: Mapping[str, JobRecord], dependents: Mapping[str, set[str]]
) -> Held | Doomed | None:
    open_ones: list[str] = []
    for job in request.needs.after:
        record = jobs.get(job)
        if record is None:
            return Doomed(request.job, DoomReason.DEPENDENCY_UNKNOWN, {"dependency": job})
        if record.phase is JobPhase.SUCCEEDED:
            continue
        if record.phase.is_over:
            facts: dict[str, Fact] = {"dependency": job, "phase": record.phase.value}
            return Doomed(request.job, DoomReason.DEPENDENCY_FAILED, facts)
        if record.deleted:
            return Doomed(request.job, DoomReason.DEPENDENCY_DELETED, {"dependency": job})
        open_ones.append(job)
    if not open_ones:
        return None
    if request.job in dependents and _reaches(request.job, jobs):
        return Doomed(request.job, DoomReason.DEPENDENCY_CYCLE, {"dependency": open_ones[0]})
    return Held(WaitReason.DEPENDENCY, {"waiting_for": tuple(open_ones)})


def _reaches(job: str, jobs: Mapping[str, JobRecord]) -> bool:
    """Whether a job waits, by way of others, for itself."""
    seen: set[str] = set()
    todo = list(jobs[job].request.needs.after)
    while todo:
        name = todo.pop()
        if name == job:
            return True
        record = jobs.get(name)
        if name not in seen and record is not None and not record.phase.is_over:
            seen.add(name)
            todo.extend(record.request.needs.after)
    return False
