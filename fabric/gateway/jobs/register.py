"""Every job as the journal tells it, in memory: what status questions are answered from."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable

import structlog

from fabric.admission.records import JobRecord, step
from fabric.journal.base import Entry, Journal, JournalUnavailableError
from fabric.journal.fold import Tail

EVERY_S = 0.25
_MOST_ENDED = 10_000

log = structlog.get_logger()


class JobRegister:
    """The fold of the jobs, kept up by a thread that reads the journal's tail. Safe to use from several threads.

    Attributes:
        ended: ids of jobs whose attempt came to an end while this process watched, newest last.
    """

    def __init__(self, journal: Journal) -> None:
        self._tail = Tail(journal)
        self._lock = threading.Lock()
        self._jobs: dict[str, JobRecord] = {}
        self._by_driver: dict[str, str] = {}
        self._classes: set[str] = set()
        self._waiting: Counter[str] = Counter()
        self._needed: Counter[str] = Counter()
        self.ended: deque[str] = deque(maxlen=_MOST_ENDED)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="job-register", daemon=True)

    def start(self) -> None:
        """Begin to follow the journal."""
        self._thread.start()

    def stop(self) -> None:
        """Stop; returns when the thread has ended."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def refresh(self, until: int | None = None) -> None:
        """Read what was appended since the last call.

        Args:
            until: position of an entry of one's own; nothing is read where it has been taken in already.

        Raises:
            JournalUnavailableError: the journal cannot be read.
        """
        with self._lock:
            if until is None or self._tail.after < until:
                for entry in self._tail.stream():
                    self._take(entry)

    def find(self, job_or_driver: str) -> JobRecord | None:
        """The job with this submission id, or whose driver has this Ray job id; None for a deleted or unknown one."""
        record = self._jobs.get(job_or_driver) or self._jobs.get(self._by_driver.get(job_or_driver, ""))
        return None if record is None or record.deleted else record

    def known(self, job: str) -> bool:
        """Whether the id has ever been used."""
        return job in self._jobs

    def select(self, wanted: Callable[[str], bool]) -> list[JobRecord]:
        """The jobs of every team for which ``wanted`` says so, oldest first, without deleted ones."""
        # list() of a dict's values is one step of the interpreter: no other thread changes the dict meanwhile.
        return [record for record in list(self._jobs.values()) if not record.deleted and wanted(record.request.team)]

    def waiting(self, team: str | None = None) -> int:
        """Jobs of ``team`` that are not over and not running; of all teams for None."""
        return self._waiting.total() if team is None else self._waiting[team]

    def classes(self) -> frozenset[str]:
        """The data class of every job there has been."""
        return frozenset(self._classes)

    def needs_package(self, uri: str) -> bool:
        """Whether a job that is not over was submitted with this package."""
        return self._needed[uri] > 0

    def _take(self, entry: Entry) -> None:
        job = entry.data.get("job")
        if not isinstance(job, str):
            return
        before = self._jobs.get(job)
        step(self._jobs, entry)
        after = self._jobs.get(job)
        if after is None or after is before:
            return
        self._classes.add(after.request.data_class)
        self._count(before, -1)
        self._count(after, 1)
        attempt = after.attempt
        if attempt is not None and attempt.ray_job_id:
            self._by_driver[attempt.ray_job_id] = job
        over = attempt is not None and attempt.ended_at is not None
        if over and before is not None and before.attempt is not None and before.attempt.ended_at is None:
            self.ended.append(job)

    def _count(self, record: JobRecord | None, by: int) -> None:
        if record is None or record.phase.is_over:
            return
        for uri in record.request.code:
            self._needed[uri] += by
            if not self._needed[uri]:
                del self._needed[uri]
        if record.phase.ray_status == "PENDING":
            self._waiting[record.request.team] += by

    def _follow(self) -> None:
        readable = True
        while not self._stopped.wait(EVERY_S):
            try:
                self.refresh()
            except JournalUnavailableError as error:
                if readable:
                    log.error("the journal cannot be followed", error=str(error))
                readable = False
                continue
            readable = True
