"""The queue in virtual time: jobs that run exactly as long as they are told to, on nodes that only count.

The driver does what the controller does: fold, decide, write ``job.admitted`` and the rest, and look again when
something has changed. Entries are made as the journal would hold them, so a second queue can replay them.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fabric.admission.decide import admit
from fabric.admission.holds import SETTLE_S
from fabric.admission.outcome import Outcome
from fabric.admission.queue import Queue
from fabric.admission.values import Capacity, ClassRules, QueueRules, Room
from fabric.admission.wire import admission_data, needs_data
from fabric.journal.base import Entry
from fabric.model.events import Event
from fabric.model.jobs import JobPhase, Needs
from fabric.model.resources import Resources

HOME = "home"
OPEN = "open"
STAY = "stay"
CLASSES = {OPEN: ClassRules(frozenset({HOME, "sky", "sea"})), STAY: ClassRules(frozenset({HOME}))}
RULES = QueueRules(home=frozenset({HOME}), classes=CLASSES)


def wants(gpus: float = 0, cpus: float = 0, **rest: Any) -> Needs:
    """Needs of workers with so many GPUs and CPUs each."""
    return Needs(declared=True, bundle=Resources.of({"GPU": gpus, "CPU": cpus}), **rest)


def rooms(count: int, gpus: float = 8, cpus: float = 64, site: str = HOME, **rest: Any) -> tuple[Room, ...]:
    """Equal empty nodes."""
    total = Resources.of({"GPU": gpus, "CPU": cpus})
    return tuple(Room(f"{site}-{number:03d}", site, total, total, **rest) for number in range(count))


def entry(kind: Event, data: Mapping[str, Any], at: float, seq: int = 1) -> Entry:
    """An entry as a journal would hand it out."""
    return Entry(seq, at, "test", kind, data, "", "")


def submitted(job: str, at: float, needs: Needs, team: str = "red", data_class: str = OPEN, **body: Any) -> Entry:
    """The entry of a submission."""
    data = {
        "job": job,
        "user": "u",
        "team": team,
        "data_class": data_class,
        "needs": needs_data(needs),
        "submission": {"entrypoint": "python x.py", **body},
        "code": {},
    }
    return entry(Event.JOB_SUBMITTED, data, at)


@dataclass
class World:
    """Nodes, a queue, and the jobs that run.

    Attributes:
        capacity: the nodes, empty; what is free is worked out from what runs.
        rules: the configuration.
        runtime: how long each job really runs, by id; what is not in here runs as declared.
        entries: the journal so far.
        started: when each job began to run, at its latest attempt.
        watch: called with every outcome before it is carried out.
    """

    capacity: Capacity
    rules: QueueRules = RULES
    runtime: dict[str, float] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    started: dict[str, float] = field(default_factory=dict)
    watch: Callable[[World, Outcome], None] | None = None
    now: float = 0.0
    queue: Queue = field(init=False)

    def __post_init__(self) -> None:
        self.queue = Queue(self.rules)
        self._ends: list[tuple[float, str, int]] = []

    def append(self, kind: Event, data: Mapping[str, Any]) -> None:
        """Write an entry and fold it."""
        self.take(entry(kind, data, self.now, len(self.entries) + 1))

    def take(self, new: Entry) -> None:
        """Fold an entry that was made elsewhere."""
        new = replace(new, seq=len(self.entries) + 1)
        self.entries.append(new)
        self.queue.take(new)

    def submit(self, job: str, needs: Needs, team: str = "red", data_class: str = OPEN, **body: Any) -> None:
        """A job comes in now."""
        self.take(submitted(job, self.now, needs, team, data_class, **body))

    def decide(self) -> Outcome:
        """One decision, carried out: what is admitted runs at once, what is to give way stops within a second."""
        outcome = admit(self.queue, self.observed(), self.rules, self.now)
        if self.watch is not None:
            self.watch(self, outcome)
        for preemption in outcome.preemptions:
            facts = {"job": preemption.job, "attempt": preemption.attempt, "by": preemption.for_job}
            self.append(Event.JOB_PREEMPTED, facts)
            heapq.heappush(self._ends, (self.now + 1.0, preemption.job, -preemption.attempt))
        for doomed in outcome.doomed:
            self.append(Event.JOB_FINISHED, {"job": doomed.job, "phase": JobPhase.FAILED.value, "message": "doomed"})
        for admission in outcome.admissions:
            self.append(Event.JOB_ADMITTED, admission_data(admission))
            data = {"job": admission.job, "attempt": admission.attempt, "ray_id": admission.ray_id, "ray_job_id": ""}
            self.append(Event.JOB_STARTED, data)
            self.started[admission.job] = self.now
            heapq.heappush(self._ends, (self.now + self._lasts(admission.job), admission.job, admission.attempt))
        return outcome

    def settle(self) -> Outcome:
        """Decide until nothing more starts or is failed."""
        while True:
            outcome = self.decide()
            if not outcome.admissions and not outcome.doomed:
                return outcome

    def until(self, moment: float) -> None:
        """Let time pass, deciding whenever a job ends."""
        while self._ends and self._ends[0][0] <= moment:
            self.now = max(self.now, self._ends[0][0])
            self._end_due()
            self.settle()
        self.now = max(self.now, moment)

    def drain(self, steps: int = 100_000) -> None:
        """Until nothing runs any more."""
        while self._ends and steps:
            self.until(self._ends[0][0])
            steps -= 1

    def lose(self, job: str, end: str = "lost", retry_at: float | None = None) -> None:
        """The attempt of a running job comes to an end that is not its own."""
        record = self.queue.jobs[job]
        assert record.attempt is not None
        at = self.now if retry_at is None else retry_at
        data = {"job": job, "attempt": record.attempt.number, "end": end, "message": "", "cause": end, "retry_at": at}
        self.append(Event.ATTEMPT_ENDED, data)

    def observed(self) -> Capacity:
        """The nodes as Ray would report them: use shows up ``SETTLE_S`` after a start."""
        used: dict[str, Resources] = {}
        for record, attempt in self.queue.live_attempts():
            if attempt.started_at is None or self.now - attempt.started_at < SETTLE_S:
                continue
            needs = record.request.needs
            for node, workers in attempt.nodes.items():
                for _ in range(workers):
                    used[node] = used.get(node, Resources()).plus(needs.bundle or needs.entrypoint)
            if attempt.driver:
                used[attempt.driver] = used.get(attempt.driver, Resources()).plus(needs.entrypoint)
        seen = tuple(
            replace(room, free=minus(room.free, used[room.node])) if room.node in used else room
            for room in self.capacity.rooms
        )
        return replace(self.capacity, rooms=seen)

    def held_gpus(self, team: str) -> float:
        """GPUs that a team's running jobs declared."""
        return sum(
            record.request.needs.bundle.gpus * record.request.needs.count + record.request.needs.entrypoint.gpus
            for record, _ in self.queue.live_attempts()
            if record.request.team == team
        )

    def _lasts(self, job: str) -> float:
        needs = self.queue.jobs[job].request.needs
        return self.runtime.get(job, needs.runtime_s or 3600.0)

    def _end_due(self) -> None:
        while self._ends and self._ends[0][0] <= self.now:
            _, job, number = heapq.heappop(self._ends)
            record = self.queue.live.get(job)
            if record is None or record.attempt is None or record.attempt.number != abs(number):
                continue
            if number < 0:
                self.lose(job, "preempted")
                continue
            data = {"job": job, "attempt": number, "end": "succeeded", "message": "", "cause": "", "retry_at": None}
            self.append(Event.ATTEMPT_ENDED, data)
            self.append(Event.JOB_FINISHED, {"job": job, "phase": JobPhase.SUCCEEDED.value, "message": ""})


def minus(free: Resources, used: Resources) -> Resources:
    """What is left; never less than nothing."""
    return Resources.from_units((name, max(0, units - used.get(name))) for name, units in free.items)


def replay(entries: Iterable[Entry], rules: QueueRules) -> Queue:
    """A queue made from a journal."""
    queue = Queue(rules)
    for each in entries:
        queue.take(each)
    return queue
