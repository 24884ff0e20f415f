"""An attempt is handed to Ray, once, whatever is lost on the way.

Whatever a process was about to do when it died, the next one finds out from Ray and the journal:

* an admitted attempt of which this process does not know that it was never submitted is first asked after at Ray;
* Ray refuses an id it has; so asking twice never starts two, as long as it is the same cluster;
* a cluster with another session has never heard of it, and is never given it: the attempt is lost, and the next
  attempt, under another id, is the one that runs there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from autoscaler.shell.attempt_end import ORPHANS_LIVE_S, Fate, stopped
from autoscaler.shell.crashpoints import reached
from autoscaler.shell.ray_jobs import OtherClusterError, RayJobs, RayRefusedError
from autoscaler.shell.submissions import Submissions
from fabric.admission.records import Attempt, JobRecord
from fabric.model.jobs import AttemptEnd
from fabric.sovereignty.dress import NowhereToRunError

# An attempt whose submission never settles is given up after this, as Ray gives up a driver that does not start
# (RAY_JOB_START_TIMEOUT_SECONDS).
_SUBMIT_FOR_S = 900.0


@dataclass(slots=True)
class Notes:
    """What this process remembers of one attempt.

    Attributes:
        busy: a thread looks after it.
        next_look: when it is its turn again, by the clock.
        never_submitted: this process admitted it and has not submitted it: Ray cannot know it.
        taken: Ray is known to have it.
        unknown: looks in a row at which Ray did not know it.
        over_since: since when Ray has said that it is over.
        stop_at: when to ask Ray again to stop it.
    """

    busy: bool = False
    next_look: float = 0.0
    never_submitted: bool = False
    taken: bool = False
    unknown: int = 0
    over_since: float | None = None
    stop_at: float = 0.0


class Handover:
    """Gives attempts to Ray.

    Args:
        ray: Ray's Jobs API.
        submissions: makes what Ray is given.
        end: writes the end of an attempt that does not get there.
        clock: Unix seconds.
    """

    def __init__(
        self,
        ray: RayJobs,
        submissions: Submissions,
        end: Callable[[JobRecord, Attempt, Fate], None],
        clock: Callable[[], float],
    ) -> None:
        self._ray = ray
        self._submissions = submissions
        self._end = end
        self._clock = clock
        self._log = structlog.get_logger()

    def submitted(self, record: JobRecord, attempt: Attempt, notes: Notes) -> bool:
        """Whether Ray has the attempt now; if not, it is to be tried again, or has been ended."""
        if not notes.never_submitted and self._is_ours(record, attempt, notes):
            return notes.taken
        if record.stop_asked_by or attempt.preempted_by:
            fate = stopped(record) if record.stop_asked_by else _gave_way(attempt)
            self._end(record, attempt, fate)
            return False
        if self._clock() - attempt.admitted_at > _SUBMIT_FOR_S:
            sentence = "Ray could not be asked to start it."
            unsure = not notes.never_submitted
            self._end(record, attempt, Fate(AttemptEnd.LOST, "not_submitted", sentence, may_have_run=unsure))
            return False
        return self._submit(record, attempt, notes)

    def _submit(self, record: JobRecord, attempt: Attempt, notes: Notes) -> bool:
        asked_before = not notes.never_submitted
        try:
            body = self._submissions.body(record, attempt)
            self._submissions.bring_code(body)
            reached("submit.before_call")
            notes.never_submitted = False
            self._ray.submit(body, attempt.session)
        except OtherClusterError as error:
            self._end(record, attempt, head_replaced(str(error), may_have_run=asked_before))
            return False
        except NowhereToRunError as error:
            # The configuration has changed since it was admitted; the queue decides again.
            self._end(record, attempt, Fate(AttemptEnd.LOST, "no_longer_allowed", str(error)))
            return False
        except (RayRefusedError, ValueError) as error:
            if not self._is_ours(record, attempt, notes):
                self._end(record, attempt, Fate(AttemptEnd.REFUSED, "refused", str(error)))
            return notes.taken
        reached("submit.after_call")
        notes.taken = True
        self._log.info("submitted", job=record.request.job, attempt=attempt.number, ray_id=attempt.ray_id)
        return True

    def _is_ours(self, record: JobRecord, attempt: Attempt, notes: Notes) -> bool:
        """Whether Ray has a job of this id. If it is somebody else's, the attempt is over: another id is free."""
        found = self._ray.info(attempt.ray_id)
        if found is None:
            return False
        if found.badge != self._submissions.badge(record.request.job, attempt.number):
            message = f"Ray already has a job {attempt.ray_id} that did not come through the gateway."
            self._end(record, attempt, Fate(AttemptEnd.LOST, "id_taken", message))
            return True
        notes.taken = True
        return True


def _gave_way(attempt: Attempt) -> Fate:
    return Fate(AttemptEnd.PREEMPTED, "preempted", f"It gave way to {attempt.preempted_by} before it started.")


def head_replaced(sentence: str, *, may_have_run: bool) -> Fate:
    """The end of an attempt whose cluster is no more."""
    return Fate(AttemptEnd.LOST, "head_replaced", sentence, ORPHANS_LIVE_S if may_have_run else 0.0, may_have_run)
