"""The controller's side of the queue, wired: who may start, who is at Ray, where it ran, what it printed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from autoscaler.boot.trust import cluster_token_file
from autoscaler.core.snapshot import Snapshot
from autoscaler.ray.autoscaler import RayNode
from autoscaler.shell.book import Book
from autoscaler.shell.dispatch import Dispatch
from autoscaler.shell.job_book import JobBook
from autoscaler.shell.job_logs import JobLogs
from autoscaler.shell.job_watch import JobWatch
from autoscaler.shell.places import Places
from autoscaler.shell.queue_page import queue_page
from autoscaler.shell.ran_on import RanOn
from autoscaler.shell.ray_jobs import RayJobs
from autoscaler.shell.rooms import capacity, with_queue
from autoscaler.shell.serve import Page
from autoscaler.shell.submissions import Submissions
from fabric.admission.outcome import burst_demand
from fabric.config.schema import Config
from fabric.model.resources import Resources
from fabric.telemetry.emit import Metrics

# A node to which a job was admitted is not idle for this long, also while the job has not put anything there yet.
_PLACED_WITHIN_S = 120.0


class Jobs:
    """Everything about jobs in the controller.

    Args:
        config: the configuration in force.
        book: the journal's fold.
        jobs: the fold of jobs; the book tells it of every entry.
        session: of the Ray cluster that the last tick worked on.
        clock: Unix seconds.
        metrics: numbers.
        wake: makes the controller tick.
    """

    def __init__(
        self,
        config: Callable[[], Config],
        book: Book,
        jobs: JobBook,
        session: Callable[[], str],
        clock: Callable[[], float],
        metrics: Metrics,
        wake: Callable[[], None],
    ) -> None:
        self._book = book
        self._jobs = jobs
        self._clock = clock
        state = Path(config().fabric.state)
        token = cluster_token_file(state)

        def dashboard() -> str:
            return config().ray.dashboard

        ray = RayJobs(dashboard, token)
        self._places = Places(config, book.record, clock)
        self._logs = JobLogs(ray, dashboard, token, lambda: state)
        self._watch = JobWatch(
            book,
            jobs,
            ray,
            config,
            Submissions(config, ray),
            self._places,
            (RanOn(ray, book, jobs, self._places, clock), self._logs),
            self._logs.last_lines,
            clock,
            metrics,
            wake,
        )
        self._dispatch = Dispatch(book, jobs, config, session, self._watch.admitted, self._watch.wake, clock, metrics)

    def start(self) -> None:
        """Begin to look after attempts."""
        self._logs.start()
        self._watch.start()

    def close(self) -> None:
        """Stop; the next start goes on."""
        self._watch.close()
        self._logs.close()

    def look(self) -> None:
        """The part of a tick that needs no Ray.

        Raises:
            JournalUnavailableError: the journal cannot be read or written.
        """
        self._dispatch.look()

    def observe(self, nodes: Iterable[RayNode]) -> None:
        """Take in Ray's node table."""
        self._places.observe(nodes)

    def turn(self, snapshot: Snapshot, free: Mapping[str, Resources]) -> Snapshot:
        """The queue's turn in a tick: admit, then put into the snapshot what the queue would buy for.

        Args:
            snapshot: the tick's.
            free: what Ray says is not in use, by node id of the snapshot.

        Raises:
            JournalUnavailableError: the journal cannot be read or written.
        """
        live = self._book.live()
        outcome = self._dispatch.take_turn(lambda now: capacity(snapshot, free, live, now))
        return with_queue(snapshot, burst_demand(outcome), self._kept())

    def page(self, query: Mapping[str, str]) -> Page:
        """What ``GET /queue`` answers."""
        return queue_page(self._jobs, self._dispatch.outcome, self._watch.trouble, self._clock(), query.get("job"))

    def _kept(self) -> set[str]:
        lately = self._clock() - _PLACED_WITHIN_S
        return {
            node
            for record in self._jobs.open()
            if record.attempt is not None and record.attempt.admitted_at > lately
            for node in record.attempt.nodes
        }
