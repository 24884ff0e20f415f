"""The queue: a fold of the journal that keeps every waiting job in its place, so that a decision need not sort.

``Queue.take`` is called with each entry, ``fabric.admission.decide.admit`` with the queue as it stands. What the queue
holds depends on the entries, the rules and the time only: permuting entries that are not about the same job changes
nothing.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field

from fabric.admission.asks import Kind, Kinds
from fabric.admission.records import Attempt, JobRecord, step
from fabric.admission.share import Account, parts_of
from fabric.admission.spend import Spent
from fabric.admission.standing import Held, Key, key_of, next_change, stand
from fabric.admission.values import Doomed, QueueRules
from fabric.journal.base import Entry
from fabric.model.events import Event
from fabric.model.jobs import JobPhase


@dataclass(slots=True)
class TeamLine:
    """The waiting jobs of one team that could run, in order: all of them, and those of each kind."""

    keys: list[Key] = field(default_factory=list[Key])
    kinds: dict[Kind, list[Key]] = field(default_factory=dict[Kind, list[Key]])

    def add(self, kind: Kind, key: Key) -> None:
        """Put a job into its place."""
        insort(self.keys, key)
        insort(self.kinds.setdefault(kind, []), key)

    def sort(self) -> None:
        """Bring jobs that were put in anyhow into order."""
        self.keys.sort()
        for keys in self.kinds.values():
            keys.sort()

    def remove(self, kind: Kind, key: Key) -> None:
        """Take a job out."""
        _remove(self.keys, key)
        same = self.kinds[kind]
        _remove(same, key)
        if not same:
            del self.kinds[kind]


class Queue:
    """Every job the journal knows, and the waiting ones in order.

    Attributes:
        jobs: by submission id, as ``fabric.admission.records`` folds them.
        lines: the jobs that could run, by team.
        live: jobs with an attempt that has been admitted and is not over.
        held: waiting jobs that are not in a line, and why.
        doomed: waiting jobs that can never run, and why.
        accounts: what each team has used.
        kinds: every kind of job there has been.
        spent: what paid attempts that are over have cost each team.
    """

    def __init__(self, rules: QueueRules | None = None) -> None:
        self.rules = rules or QueueRules()
        self.jobs: dict[str, JobRecord] = {}
        self.lines: dict[str, TeamLine] = {}
        self.live: dict[str, JobRecord] = {}
        self.held: dict[str, Held] = {}
        self.doomed: dict[str, Doomed] = {}
        self.accounts: dict[str, Account] = {}
        self.spent: dict[str, Spent] = {}
        self.kinds = Kinds()
        self._called: set[str] = set()
        self._now = 0.0
        self._places: dict[str, tuple[Kind, Key]] = {}
        self._dependents: dict[str, set[str]] = {}
        self._changes: list[tuple[float, str]] = []

    def take(self, entry: Entry) -> None:
        """Take one entry of the journal; entries that are not about jobs change nothing."""
        job = entry.data.get("job")
        if not isinstance(job, str):
            return
        before = self.jobs.get(job)
        step(self.jobs, entry)
        after = self.jobs.get(job)
        if after is None or after is before:
            return
        if before is None:
            for dependency in after.request.needs.after:
                self._dependents.setdefault(dependency, set()).add(job)
        self._account(before, after, entry.at)
        if after.phase is not JobPhase.WAITING:
            self._called.discard(job)
        if entry.kind == Event.JOB_PREEMPTED:
            self._call(entry.data["by"])
        self._settle(job)
        if before is None or before.phase is not after.phase or before.deleted != after.deleted:
            for dependent in sorted(self._dependents.get(job, ())):
                self._settle(dependent)

    def advance(self, rules: QueueRules, now: float) -> None:
        """Let time pass: back-offs end, deadlines come near; and take new rules in."""
        self._now = max(self._now, now)
        if rules is not self.rules and rules != self.rules:
            self._use(rules)
        self.rules = rules
        while self._changes and self._changes[0][0] <= self._now:
            _, job = heapq.heappop(self._changes)
            if job in self._places or job in self.held:
                self._settle(job)

    def place(self, job: str) -> tuple[Kind, Key] | None:
        """Kind and key of a job that is in a line."""
        return self._places.get(job)

    def places(self) -> dict[str, tuple[Kind, Key]]:
        """Kind and key of every job in a line; a copy."""
        return dict(self._places)

    def live_attempts(self) -> Iterator[tuple[JobRecord, Attempt]]:
        """Every attempt that holds something, by job id."""
        for job in sorted(self.live):
            record = self.live[job]
            if record.attempt is not None:
                yield record, record.attempt

    def _settle(self, job: str) -> None:
        """Put one job where it belongs now."""
        self._lift(job)
        record = self.jobs[job]
        if record.phase in (JobPhase.ADMITTED, JobPhase.RUNNING):
            self.live[job] = record
            return
        standing = stand(record, self.jobs, self._dependents, self._now)
        if isinstance(standing, Doomed):
            self.doomed[job] = standing
        elif isinstance(standing, Held):
            self.held[job] = standing
            if standing.until is not None:
                heapq.heappush(self._changes, (standing.until, job))
        elif standing:
            self._line_up(job, record)

    def _call(self, job: str) -> None:
        """Others give way to a job: what they leave is not for anybody else."""
        record = self.jobs.get(job)
        if record is not None and record.phase is JobPhase.WAITING:
            self._called.add(job)
            self._settle(job)

    def _lift(self, job: str) -> None:
        """Take one job from wherever it is."""
        self.live.pop(job, None)
        self.held.pop(job, None)
        self.doomed.pop(job, None)
        place = self._places.pop(job, None)
        if place is not None:
            kind, key = place
            line = self.lines[kind.team]
            line.remove(kind, key)
            if not line.keys:
                del self.lines[kind.team]

    def _line_up(self, job: str, record: JobRecord) -> None:
        kind, key = self._places[job] = self._place_of(job)
        self.lines.setdefault(kind.team, TeamLine()).add(kind, key)
        change = next_change(record.request, self._now)
        if change is not None:
            heapq.heappush(self._changes, (change, job))

    def _place_of(self, job: str) -> tuple[Kind, Key]:
        request = self.jobs[job].request
        team = self.rules.team(request.team)
        return self.kinds.of(request), key_of(request, team, self._now, called=job in self._called)

    def _account(self, before: JobRecord | None, after: JobRecord, at: float) -> None:
        """Charge the team of a job for what an attempt began or ceased to hold."""
        was = before.attempt if before and before.phase in (JobPhase.ADMITTED, JobPhase.RUNNING) else None
        now = after.attempt if after.phase in (JobPhase.ADMITTED, JobPhase.RUNNING) else None
        if (was and was.number) == (now and now.number):
            return
        team = after.request.team
        parts = (parts_of(now.charge) if now else 0) - (parts_of(was.charge) if was else 0)
        if parts:
            self.accounts.setdefault(team, Account(at=at)).change(at, parts, self.rules.half_life_s)
        if was and (was.price_per_hour or was.egress):
            self.spent.setdefault(team, Spent()).add(was.admitted_at, at, was.price_per_hour, was.egress)

    def _use(self, rules: QueueRules) -> None:
        """Another configuration: every place and, with another half-life, every account is made anew."""
        other_half_life = rules.half_life_s != self.rules.half_life_s
        self.rules = rules
        if other_half_life:
            self._account_anew()
        jobs, self._places, self.lines = list(self._places), {}, {}
        for job in jobs:
            kind, key = self._places[job] = self._place_of(job)
            line = self.lines.setdefault(kind.team, TeamLine())
            line.keys.append(key)
            line.kinds.setdefault(kind, []).append(key)
        for line in self.lines.values():
            line.sort()

    def _account_anew(self) -> None:
        changes: list[tuple[float, str, str, int]] = []
        for job, record in self.jobs.items():
            for attempt in record.attempts:
                parts, team = parts_of(attempt.charge), record.request.team
                changes.append((attempt.admitted_at, job, team, parts))
                ended = attempt.ended_at if job in self.live or attempt.ended_at else record.ended_at
                if ended is not None:
                    changes.append((ended, job, team, -parts))
        self.accounts = {}
        for at, _, team, parts in sorted(changes):
            if parts:
                self.accounts.setdefault(team, Account(at=at)).change(at, parts, self.rules.half_life_s)


def _remove(keys: list[Key], key: Key) -> None:
    index = bisect_left(keys, key)
    del keys[index]
