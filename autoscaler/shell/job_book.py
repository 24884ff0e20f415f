"""What the journal says of every job: the queue's fold, and the few jobs that need work at hand."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from fabric.admission.queue import Queue
from fabric.admission.records import JobRecord
from fabric.journal.base import Entry
from fabric.model.events import Event
from fabric.model.jobs import JobPhase

_OPEN = (JobPhase.ADMITTED, JobPhase.RUNNING)


class JobBook:
    """The fold of the journal's job entries. Safe to use from several threads; records are never changed in place."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._queue = Queue()
        self._waiting: dict[str, JobRecord] = {}
        self._open: dict[str, JobRecord] = {}
        self._ran_on: dict[tuple[str, int], dict[str, float]] = {}

    def take(self, entry: Entry) -> None:
        """Take one entry of the journal into account, in order."""
        with self._lock:
            self._queue.take(entry)
            job = entry.data.get("job")
            record = self._queue.jobs.get(job) if isinstance(job, str) else None
            if record is None:
                return
            job = record.request.job
            for index, belongs in (
                (self._waiting, record.phase is JobPhase.WAITING),
                (self._open, record.phase in _OPEN),
            ):
                if belongs:
                    index[job] = record
                else:
                    index.pop(job, None)
            if entry.kind == Event.JOB_RAN_ON:
                seen = self._ran_on.setdefault((job, int(entry.data["attempt"])), {})
                seen[str(entry.data["ray_node_id"])] = float(entry.data["last_s"])

    @contextmanager
    def standing_still(self) -> Iterator[Queue]:
        """The queue, for a decision: no entry is taken before the end of the block."""
        with self._lock:
            yield self._queue

    def record(self, job: str) -> JobRecord | None:
        """One job, by the id its user knows."""
        with self._lock:
            return self._queue.jobs.get(job)

    def waiting(self) -> list[JobRecord]:
        """Jobs in the queue, and those between two attempts."""
        with self._lock:
            return list(self._waiting.values())

    def counts(self) -> tuple[int, int]:
        """How many jobs wait, and how many have an attempt that goes on."""
        with self._lock:
            return len(self._waiting), len(self._open)

    def open(self) -> list[JobRecord]:
        """Jobs with an attempt that has not ended."""
        with self._lock:
            return list(self._open.values())

    def ran_on(self, job: str, attempt: int) -> Mapping[str, float]:
        """Ray node ids that an attempt is known to have touched, to the last time (Unix seconds) that was written."""
        with self._lock:
            return dict(self._ran_on.get((job, attempt), {}))
