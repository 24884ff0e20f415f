"""Where the work of a job was, read back from Ray and written into the journal.

Two of Ray's tables name a node: tasks (the driver's own task among them) and actors. Ray keeps the newest 100,000
tasks of a cluster and gives 10,000 at a time, so a job with more is asked about node by node: whether it had any task
there is then still a sure yes, and only the times are those of the looks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from time import perf_counter
from typing import Any

from autoscaler.shell.book import Book
from autoscaler.shell.job_book import JobBook
from autoscaler.shell.places import Places
from autoscaler.shell.ray_jobs import STATE_ROWS, RayJob, RayJobs
from fabric.admission.records import Attempt, JobRecord
from fabric.journal.base import Draft
from fabric.model.events import Event

_EVERY_S = 2.0
# Reading the tables of a large job takes Ray a while: never more than a twentieth of the time.
_SHARE = 20
# A node that is still in use is written again only after this long, and at the end.
_WRITE_AGAIN_S = 300.0
_NEW_S = 0.001

Span = tuple[float, float]


class RanOn:
    """``Follower`` that writes ``job.ran_on``: an entry for each new node, and one with the last time at the end.

    Args:
        ray: Ray's state API.
        book: appended to.
        jobs: which nodes have been written.
        places: which machine each node is.
        clock: Unix seconds.
    """

    def __init__(self, ray: RayJobs, book: Book, jobs: JobBook, places: Places, clock: Callable[[], float]) -> None:
        self._ray = ray
        self._book = book
        self._jobs = jobs
        self._places = places
        self._clock = clock
        self._next: dict[str, float] = {}

    def look(self, record: JobRecord, attempt: Attempt, job: RayJob) -> None:
        """See ``Follower``."""
        now = self._clock()
        if not job.is_over and now < self._next.get(attempt.ray_id, 0.0):
            return
        begun = perf_counter()
        until = min(now, job.ended_at or now)
        spans = self._spans(attempt.ray_job_id, until) if attempt.ray_job_id else {}
        self._next[attempt.ray_id] = now + max(_EVERY_S, _SHARE * (perf_counter() - begun))
        if job.driver_node and attempt.started_at is not None:
            _widen(spans, job.driver_node, (attempt.started_at, max(attempt.started_at, until)))
        if job.is_over:
            self._next.pop(attempt.ray_id, None)
        written = self._jobs.ran_on(record.request.job, attempt.number)
        drafts = [
            self._draft(record.request.job, attempt, node, span)
            for node, span in spans.items()
            if node not in written or span[1] - written[node] >= (_NEW_S if job.is_over else _WRITE_AGAIN_S)
        ]
        if drafts:
            self._book.append(*drafts)

    def _spans(self, ray_job: str, now: float) -> dict[str, Span]:
        """First and last time of work on each node."""
        spans: dict[str, Span] = {}
        tasks = self._ray.rows("tasks", ray_job)
        for node, span in _of_tasks(tasks, now):
            _widen(spans, node, span)
        for row in self._ray.rows("actors", ray_job):
            if row.get("node_id"):
                _widen(spans, row["node_id"], (now, now))
        if len(tasks) >= STATE_ROWS:
            for node in self._places.known():
                if node not in spans and self._ray.rows("tasks", ray_job, ("node_id", node)):
                    _widen(spans, node, (now, now))
        return spans

    def _draft(self, job: str, attempt: Attempt, node: str, span: Span) -> Draft:
        place = self._places.place(node)
        facts = {
            "job": job,
            "attempt": attempt.number,
            "ray_node_id": node,
            "instance": place.instance if place else "",
            "site": place.site if place else "",
            "node_type": place.node_type if place else "",
            "market": place.market if place else "",
            "first_s": span[0],
            "last_s": span[1],
        }
        return Draft(Event.JOB_RAN_ON, facts)


def _of_tasks(rows: Iterable[Mapping[str, Any]], now: float) -> Iterable[tuple[str, Span]]:
    for row in rows:
        if row.get("node_id"):
            begun = row.get("start_time_ms") or row.get("creation_time_ms")
            ended = row.get("end_time_ms")
            yield row["node_id"], (begun / 1000 if begun else now, ended / 1000 if ended else now)


def _widen(spans: dict[str, Span], node: str, span: Span) -> None:
    known = spans.get(node, span)
    spans[node] = (min(known[0], span[0]), max(known[1], span[1]))
