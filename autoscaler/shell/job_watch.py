"""Every attempt from its admission to its end: given to Ray once, followed, stopped when asked, judged at the end.

The tick never waits for Ray: each attempt is looked after from worker threads, one thread at a time. What a thread
was about to do when the process died is found out again by the next process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import structlog

from autoscaler.shell.attempt_end import (
    NODES_LAG_S,
    Fate,
    fate_of,
    last_words,
    may_be_a_lost_node,
    phase_after,
    retry_at,
    stopped,
)
from autoscaler.shell.book import Book
from autoscaler.shell.crashpoints import reached
from autoscaler.shell.job_book import JobBook
from autoscaler.shell.job_handover import Handover, Notes, head_replaced
from autoscaler.shell.places import Places
from autoscaler.shell.ray_jobs import RayJob, RayJobs, RayUnreachableError
from autoscaler.shell.submissions import Submissions
from fabric.admission.records import Attempt, JobRecord
from fabric.config.schema import Config
from fabric.journal.base import Draft, JournalUnavailableError
from fabric.model.events import Event
from fabric.model.jobs import AttemptEnd, JobPhase
from fabric.telemetry.emit import Metrics
from fabric.telemetry.names import ATTEMPTS

_EVERY_S = 1.0
_STOP_AGAIN_S = 2.0
_THREADS = 8
# So many attempts are asked after in a second; with more of them, each waits longer for its turn.
_LOOKS_PER_S = 20
# Ray's list may miss a job that it has just been given; only after so many looks is it unknown there.
_LOOKS_UNTIL_UNKNOWN = 3
# Log and nodes of an attempt that is over are asked for until then.
_LAST_LOOK_S = 30.0
# A sentence of an attempt; the job's own last message keeps all of Ray's.
_SENTENCE = 500


class Follower(Protocol):
    """Something that is kept of an attempt while it runs: its log, the nodes it is on."""

    def look(self, record: JobRecord, attempt: Attempt, job: RayJob) -> None:
        """Bring it up to date; for the last time when the job is over."""
        ...


class JobWatch:
    """Looks after attempts until closed.

    Args:
        book: the journal's fold; everything that happens to an attempt is appended through it.
        jobs: the fold of jobs.
        ray: Ray's Jobs API.
        config: the configuration in force.
        submissions: makes what Ray is given.
        places: which machine each Ray node is.
        followers: told of each look at a running attempt, and of the last one.
        last_lines: the end of what an attempt printed.
        clock: Unix seconds.
        metrics: numbers.
        changed: called when an attempt has ended: there may be room.
    """

    def __init__(
        self,
        book: Book,
        jobs: JobBook,
        ray: RayJobs,
        config: Callable[[], Config],
        submissions: Submissions,
        places: Places,
        followers: tuple[Follower, ...],
        last_lines: Callable[[JobRecord, Attempt], str],
        clock: Callable[[], float],
        metrics: Metrics,
        changed: Callable[[], None],
    ) -> None:
        self._book = book
        self._jobs = jobs
        self._ray = ray
        self._config = config
        self._handover = Handover(ray, submissions, self._end, clock)
        self._places = places
        self._followers = followers
        self._last_lines = last_lines
        self._clock = clock
        self._metrics = metrics
        self._changed = changed
        self._lock = threading.Lock()
        self._notes: dict[str, Notes] = {}
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="job")
        self._thread = threading.Thread(target=self._run, name="job-watch", daemon=True)
        self._log = structlog.get_logger()
        self.trouble = ""

    def start(self) -> None:
        """Begin to look after attempts."""
        self._thread.start()

    def admitted(self, ray_id: str) -> None:
        """This process is about to admit an attempt: Ray cannot know it yet."""
        with self._lock:
            self._notes.setdefault(ray_id, Notes()).never_submitted = True

    def wake(self) -> None:
        """Look now."""
        self._wake.set()

    def close(self) -> None:
        """Stop looking; what goes on is found again by the next start."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(5)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            records = self._jobs.open()
            if not records:
                self.trouble = ""
            now, pace = self._clock(), max(_EVERY_S, len(records) / _LOOKS_PER_S)
            with self._lock:
                open_ids = {record.attempt.ray_id for record in records if record.attempt}
                for ray_id in [one for one, notes in self._notes.items() if one not in open_ids and not notes.busy]:
                    if not self._notes[ray_id].never_submitted:
                        del self._notes[ray_id]
                due = [record for record in records if record.attempt and self._is_due(record.attempt, now, pace)]
            for record in due:
                self._pool.submit(self._attend, record.request.job)
            self._wake.wait(_EVERY_S / 4)

    def _is_due(self, attempt: Attempt, now: float, pace: float) -> bool:
        notes = self._notes.setdefault(attempt.ray_id, Notes())
        if notes.busy or now < notes.next_look:
            return False
        notes.busy, notes.next_look = True, now + pace
        return True

    def _attend(self, job: str) -> None:
        record = self._jobs.record(job)
        attempt = record.attempt if record else None
        if record is None or attempt is None:
            return
        notes = self._notes[attempt.ray_id]
        try:
            if attempt.end is None and not self._stopping.is_set():
                self._look_after(record, attempt, notes)
            self.trouble = ""
        except (RayUnreachableError, JournalUnavailableError) as error:
            # Nothing is lost: the same is asked again at the next look.
            if str(error) != self.trouble:
                self.trouble = str(error)
                self._log.warning("jobs cannot be looked after just now", error=self.trouble)
        except Exception:
            self._log.exception("looking after a job failed; it is tried again", job=job)
        finally:
            notes.busy = False

    def _look_after(self, record: JobRecord, attempt: Attempt, notes: Notes) -> None:
        if (
            record.phase is JobPhase.ADMITTED
            and not notes.taken
            and not self._handover.submitted(record, attempt, notes)
        ):
            return
        job = self._ray.info(attempt.ray_id)
        if job is None:
            self._unknown_to_ray(record, attempt, notes)
            return
        notes.unknown = 0
        record, attempt = self._started(record, attempt, job)
        if job.is_over:
            self._over(record, attempt, job, notes)
            return
        if record.stop_asked_by or attempt.preempted_by:
            self._ask_to_stop(attempt, notes)
        if attempt.started_at is not None:
            for follower in self._followers:
                follower.look(record, attempt, job)

    def _unknown_to_ray(self, record: JobRecord, attempt: Attempt, notes: Notes) -> None:
        if self._ray.session() != attempt.session:
            message = "The Ray head was replaced by one that does not know it."
            self._end(record, attempt, head_replaced(message, may_have_run=True))
            return
        notes.unknown += 1
        if notes.unknown >= _LOOKS_UNTIL_UNKNOWN:
            fate = Fate(AttemptEnd.LOST, "unknown_to_ray", "Ray no longer knows it: somebody deleted it there.")
            self._end(record, attempt, stopped(record) if record.stop_asked_by else fate)

    def _started(self, record: JobRecord, attempt: Attempt, job: RayJob) -> tuple[JobRecord, Attempt]:
        """Write that it runs, and the driver's id once Ray has one."""
        runs = job.status != "PENDING" and not (job.is_over and job.exit_code is None and not job.ray_job_id)
        news = attempt.started_at is None or (job.ray_job_id and not attempt.ray_job_id)
        if not runs or not news:
            return record, attempt
        reached("started.before_entry")
        started = {
            "job": record.request.job,
            "attempt": attempt.number,
            "ray_id": attempt.ray_id,
            "ray_job_id": job.ray_job_id,
        }
        self._book.append(Draft(Event.JOB_STARTED, started))
        reached("started.after_entry")
        record = self._jobs.record(record.request.job) or record
        return record, record.attempt or attempt

    def _ask_to_stop(self, attempt: Attempt, notes: Notes) -> None:
        if self._clock() >= notes.stop_at:
            notes.stop_at = self._clock() + _STOP_AGAIN_S
            self._ray.stop(attempt.ray_id)

    def _over(self, record: JobRecord, attempt: Attempt, job: RayJob, notes: Notes) -> None:
        now = self._clock()
        notes.over_since = notes.over_since or now
        if attempt.started_at is not None:
            self._last_look(record, attempt, job, late=now - notes.over_since > _LAST_LOOK_S)
        touched = {*self._jobs.ran_on(record.request.job, attempt.number), job.driver_node} - {""}
        lost = self._places.lost(touched, attempt.admitted_at)
        unsure = not any(node.gone for node in lost) and now - notes.over_since < NODES_LAG_S
        if unsure and may_be_a_lost_node(job, self._last_lines(record, attempt)):
            return
        self._end(record, attempt, fate_of(job, record, attempt, lost))

    def _last_look(self, record: JobRecord, attempt: Attempt, job: RayJob, *, late: bool) -> None:
        """Complete what is kept of an attempt; what still fails after a while must not keep the job from ending."""
        for follower in self._followers:
            try:
                follower.look(record, attempt, job)
            except Exception:
                if not late:
                    raise
                self._log.exception("what is kept of an attempt is not complete", ray_id=attempt.ray_id)

    def _end(self, record: JobRecord, attempt: Attempt, fate: Fate) -> None:
        """Write the end of an attempt and, with it, of the job or when it is tried again."""
        now, job = self._clock(), record.request.job
        again = retry_at(record, attempt, fate, self._config().queue, now)
        ended = {
            "job": job,
            "attempt": attempt.number,
            "end": fate.end,
            "message": fate.message[:_SENTENCE],
            "cause": fate.cause,
            "retry_at": again,
        }
        drafts = [Draft(Event.ATTEMPT_ENDED, ended, once=f"attempt-end:{job}:{attempt.number}")]
        if again is None:
            finished = {"job": job, "phase": phase_after(fate), "message": last_words(fate, record)}
            drafts.append(Draft(Event.JOB_FINISHED, finished, once=f"job-end:{job}"))
        reached("attempt.before_end")
        self._book.append(*drafts)
        reached("attempt.after_end")
        self._metrics.count(ATTEMPTS, end=fate.end)
        self._log.info("attempt ended", job=job, attempt=attempt.number, end=fate.end, cause=fate.cause, again=again)
        self._changed()
