"""The queue's turn in a tick: which waiting jobs may start, written down before anybody acts on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from autoscaler.shell.book import Book
from autoscaler.shell.crashpoints import reached
from autoscaler.shell.job_book import JobBook
from fabric.admission.decide import admit
from fabric.admission.outcome import Outcome
from fabric.admission.rules import queue_rules
from fabric.admission.tell import admission_sentence, doomed_sentence, preemption_sentence
from fabric.admission.values import Admission, Capacity, Doomed, Preemption, QueueRules
from fabric.admission.wire import admission_data
from fabric.config.schema import Config
from fabric.journal.base import Draft
from fabric.model.events import Event
from fabric.model.jobs import JobPhase
from fabric.telemetry.emit import Metrics
from fabric.telemetry.names import ADMISSIONS, ADMIT_SECONDS, JOBS


class Dispatch:
    """Admits jobs. Called by the tick only.

    Args:
        book: the journal's fold.
        jobs: the fold of jobs.
        config: the configuration in force.
        session: the Ray cluster's, to which attempts are admitted.
        about_to: told the Ray id of each attempt before it is admitted.
        admitted: called when there is something to submit or to stop.
        clock: Unix seconds.
        metrics: numbers.
    """

    def __init__(
        self,
        book: Book,
        jobs: JobBook,
        config: Callable[[], Config],
        session: Callable[[], str],
        about_to: Callable[[str], None],
        admitted: Callable[[], None],
        clock: Callable[[], float],
        metrics: Metrics,
    ) -> None:
        self._book = book
        self._jobs = jobs
        self._config = config
        self._session = session
        self._about_to = about_to
        self._admitted = admitted
        self._clock = clock
        self._metrics = metrics
        self._rules_of: Config | None = None
        self._rules = QueueRules()
        self._log = structlog.get_logger()
        self.outcome = Outcome(at=0.0)

    def look(self) -> None:
        """Do what needs no answer of Ray: end waiting jobs that somebody has stopped.

        Raises:
            JournalUnavailableError: the journal cannot be read or written.
        """
        self._book.refresh()
        self._stop_the_waiting()
        self._measure()

    def take_turn(self, capacity: Callable[[float], Capacity]) -> Outcome:
        """Decide once, and write what was decided.

        Args:
            capacity: what there is and what could be bought, at a time (Unix seconds).

        Raises:
            JournalUnavailableError: the journal cannot be read or written; nobody starts.
        """
        self._book.refresh()
        if not self._jobs.counts()[0]:
            self.outcome = Outcome(at=self._clock())
            return self.outcome
        outcome = self._decide(capacity)
        self._fail(outcome.doomed)
        self._preempt(outcome.preemptions)
        self._admit(outcome.admissions)
        self.outcome = outcome
        return outcome

    def _decide(self, capacity: Callable[[float], Capacity]) -> Outcome:
        config, now = self._config(), self._clock()
        if config is not self._rules_of:
            self._rules, self._rules_of = queue_rules(config), config
        room = capacity(now)
        with self._jobs.standing_still() as queue, self._metrics.timed(ADMIT_SECONDS):
            return admit(queue, room, self._rules, now)

    def _stop_the_waiting(self) -> None:
        for record in self._jobs.waiting():
            if record.stop_asked_by:
                message = f"Job was intentionally stopped by {record.stop_asked_by} before it started."
                if record.attempts:
                    message = f"Job was intentionally stopped by {record.stop_asked_by} between two attempts."
                self._finish(record.request.job, JobPhase.STOPPED, message)

    def _fail(self, doomed: Sequence[Doomed]) -> None:
        for one in doomed:
            self._finish(one.job, JobPhase.FAILED, doomed_sentence(one))

    def _finish(self, job: str, phase: JobPhase, message: str) -> None:
        self._book.append(
            Draft(Event.JOB_FINISHED, {"job": job, "phase": phase, "message": message}, once=f"job-end:{job}")
        )
        self._log.info("a waiting job is over", job=job, phase=phase, why=message)

    def _preempt(self, preemptions: Sequence[Preemption]) -> None:
        for one in preemptions:
            facts = {"job": one.job, "attempt": one.attempt, "by": one.for_job}
            self._book.append(Draft(Event.JOB_PREEMPTED, facts, once=f"preempt:{one.job}:{one.attempt}"))
            self._log.info("preempted", sentence=preemption_sentence(one))
        if preemptions:
            self._admitted()

    def _admit(self, admissions: Sequence[Admission]) -> None:
        if not admissions:
            return
        session = self._session()
        drafts = [_admission(one, session) for one in admissions]
        for one in admissions:
            self._about_to(one.ray_id)
        reached("admit.before_entry")
        # All in one step; where another controller was faster with one of them, each by itself.
        if not self._book.append(*drafts):
            for draft in drafts:
                self._book.append(draft)
        reached("admit.after_entry")
        for one in admissions:
            self._metrics.count(ADMISSIONS)
            self._log.info("admitted", job=one.job, attempt=one.attempt, sentence=admission_sentence(one))
        self._admitted()

    def _measure(self) -> None:
        waiting, running = self._jobs.counts()
        self._metrics.set(JOBS, waiting, phase="waiting")
        self._metrics.set(JOBS, running, phase="running")


def _admission(one: Admission, session: str) -> Draft:
    facts = {**admission_data(one), "session": session}
    return Draft(Event.JOB_ADMITTED, facts, once=f"attempt:{one.job}:{one.attempt}")
