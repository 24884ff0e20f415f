"""How an attempt came to its end, and whether the job is tried again. Pure.

Ray's own words decide (``JobErrorType``, exit code), together with what is known of the nodes the attempt was on: a
driver that fails because a machine was taken from under it exits like one that fails by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autoscaler.shell.ray_jobs import RayJob
from fabric.admission.records import Attempt, JobRecord
from fabric.config.schema import QueueBlock
from fabric.model.jobs import AttemptEnd, JobPhase

# Ray's words for: the process that looks after the driver could not start, or died. The driver dies with it.
_NOT_THE_JOBS_DOING = frozenset(
    {
        "JOB_SUPERVISOR_ACTOR_DIED",
        "JOB_SUPERVISOR_ACTOR_START_FAILURE",
        "JOB_SUPERVISOR_ACTOR_START_TIMEOUT",
        "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE",
        "JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE",
    }
)
# Errors with which Ray tells user code that a node or a worker was lost. They prove nothing, but Ray's list of nodes
# lags behind them, so a verdict waits for it.
_SOUNDS_LIKE_A_LOST_NODE = (
    "ActorDiedError",
    "ActorUnavailableError",
    "LocalRayletDiedError",
    "NodeDiedError",
    "ObjectLostError",
    "OwnerDiedError",
    "WorkerCrashedError",
)
NODES_LAG_S = 20.0
# Ray's raylets outlive a head that was replaced by this much (gcs_rpc_server_reconnect_timeout_s, and its check).
ORPHANS_LIVE_S = 70.0
_TRIED_AGAIN = frozenset({AttemptEnd.LOST, AttemptEnd.RECLAIMED, AttemptEnd.PREEMPTED})
_COUNTED = frozenset({AttemptEnd.LOST, AttemptEnd.RECLAIMED})
RESTARTABLE = "fabric.restartable"
# Attempts in a row that are lost before any of the user's code ran, the last one with its machines there: what keeps it
# from starting, such as files of the job that hide a module of ours, is there the next time as well.
MOST_FALSE_STARTS = 5


@dataclass(frozen=True, slots=True)
class LostNode:
    """A node that an attempt was on.

    Attributes:
        name: of the machine.
        gone: it left the cluster while the attempt ran.
        reclaimed: the cloud took it back, or has announced to.
    """

    name: str
    gone: bool
    reclaimed: bool


@dataclass(frozen=True, slots=True)
class Fate:
    """How an attempt ended.

    Attributes:
        end: in one word.
        cause: a code: what exactly happened.
        message: a sentence for the user; Ray's own where it has one.
        wait_s: least time before the next attempt, whatever the back-off: processes of this one may still live.
        may_have_run: it may have begun without anybody having seen it.
    """

    end: AttemptEnd
    cause: str
    message: str
    wait_s: float = 0.0
    may_have_run: bool = False


def fate_of(job: RayJob, record: JobRecord, attempt: Attempt, lost: Sequence[LostNode]) -> Fate:
    """The end of an attempt that Ray says is over.

    Args:
        job: Ray's account.
        record: the job's, of the journal.
        attempt: which.
        lost: nodes it was on that were lost under it, or are about to be.
    """
    gone = [node for node in lost if node.gone]
    not_its_doing = job.error_type in _NOT_THE_JOBS_DOING
    if job.status == "SUCCEEDED":
        return Fate(AttemptEnd.SUCCEEDED, "done", job.message or "Job finished successfully.")
    if record.stop_asked_by and (job.status == "STOPPED" or not_its_doing or gone):
        return stopped(record)
    if job.status == "STOPPED":
        if attempt.preempted_by:
            return Fate(AttemptEnd.PREEMPTED, "preempted", f"It gave way to {attempt.preempted_by}.")
        return Fate(AttemptEnd.STOPPED, "stopped_at_ray", job.message or "Job was intentionally stopped.")
    to_blame = list(lost) if not_its_doing else gone
    if to_blame:
        names = ", ".join(node.name for node in to_blame)
        if any(node.reclaimed for node in to_blame):
            return Fate(AttemptEnd.RECLAIMED, "spot_reclaim", f"The cloud took back {names}, on which it ran.")
        return Fate(AttemptEnd.LOST, "node_lost", f"The node {names}, on which it ran, was lost.")
    if not_its_doing:
        return Fate(AttemptEnd.LOST, job.error_type.lower(), job.message)
    cause = "runtime_env" if job.error_type == "RUNTIME_ENV_SETUP_FAILURE" else "exit_code"
    return Fate(AttemptEnd.FAILED, cause, job.message)


def stopped(record: JobRecord) -> Fate:
    """The end of an attempt that somebody asked to stop."""
    return Fate(AttemptEnd.STOPPED, "stop_asked", f"Job was intentionally stopped by {record.stop_asked_by}.")


def may_be_a_lost_node(job: RayJob, printed: str = "") -> bool:
    """Whether a failure may turn out to be a lost node once Ray's list of nodes has caught up with it.

    Args:
        job: Ray's account; its message has the driver's last ten lines, which may be the lost node's own.
        printed: the end of what the driver printed.
    """
    return job.status == "FAILED" and any(word in job.message or word in printed for word in _SOUNDS_LIKE_A_LOST_NODE)


def retry_at(record: JobRecord, attempt: Attempt, fate: Fate, queue: QueueBlock, now: float) -> float | None:
    """When the job is tried again (Unix seconds); None when it is not.

    Losing a machine is tried again for every job that does not say ``fabric.restartable: false``, because with Ray
    as it is the user would do just that. What gave way, and what never started, does not count against
    ``queue.retries``; what never started ``MOST_FALSE_STARTS`` times in a row, with its
    machines there, is given up.
    """
    if fate.end not in _TRIED_AGAIN or record.stop_asked_by:
        return None
    ran = attempt.started_at is not None or fate.may_have_run
    if ran and not may_restart(record) and fate.end is not AttemptEnd.PREEMPTED:
        return None
    if fate.end is AttemptEnd.PREEMPTED:
        return now + fate.wait_s
    if _cannot_start(record, attempt, fate):
        return None
    earlier = [one for one in record.attempts if one.end in _COUNTED]
    if ran and sum(one.started_at is not None for one in earlier) >= queue.retries:
        return None
    pause = min(queue.backoff * 2.0 ** min(len(earlier), 30), queue.backoff_max)
    return now + max(pause, fate.wait_s)


def _cannot_start(record: JobRecord, attempt: Attempt, fate: Fate) -> bool:
    """Whether this is the last of several attempts in a row that never started, and its machines are there."""
    if attempt.started_at is not None or not _false_start(fate):
        return False
    row = 1
    for one in reversed(record.attempts):
        if one.number >= attempt.number or one.end is AttemptEnd.PREEMPTED:
            continue
        if one.started_at is not None or one.end is not AttemptEnd.LOST:
            break
        row += 1
    return row >= MOST_FALSE_STARTS


def _false_start(fate: Fate) -> bool:
    return fate.end is AttemptEnd.LOST and fate.cause.upper() in _NOT_THE_JOBS_DOING


def may_restart(record: JobRecord) -> bool:
    """Whether the job may be started again once its code has run: unless its metadata says otherwise."""
    metadata = record.request.submission.get("metadata")
    told = metadata.get(RESTARTABLE) if isinstance(metadata, dict) else None
    return str(told).strip().lower() not in ("false", "no", "0")


def phase_after(fate: Fate) -> JobPhase:
    """Where a job stands that is not tried again."""
    if fate.end is AttemptEnd.SUCCEEDED:
        return JobPhase.SUCCEEDED
    return JobPhase.STOPPED if fate.end is AttemptEnd.STOPPED else JobPhase.FAILED


def last_words(fate: Fate, record: JobRecord) -> str:
    """The message that stays with a job that is not tried again."""
    if fate.end not in _COUNTED or record.stop_asked_by:
        return fate.message
    attempt = record.attempt
    if attempt is not None and _cannot_start(record, attempt, fate):
        return (
            f"{fate.message} It is not tried again: Ray could not start it {MOST_FALSE_STARTS} times in a row. "
            "Look for what its files or its runtime_env change in the processes that Ray starts."
        )
    if not may_restart(record):
        return f"{fate.message} It is not tried again: its metadata says {RESTARTABLE}: false."
    tries = sum(one.end in _COUNTED for one in record.attempts) + 1
    return f"{fate.message} It is not tried again after {tries} attempts that lost their machine (queue.retries)."
