"""What the journal says of every job: a fold that the gateway, the controller and the command line share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fabric.admission.wire import needs_of
from fabric.journal.base import Entry
from fabric.model.events import Event
from fabric.model.jobs import AttemptEnd, JobPhase, JobRequest
from fabric.model.jobs import ray_id_of as ray_id_of


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of a job.

    Attributes:
        number: from 1.
        ray_id: the submission id Ray knows this attempt by; one attempt, one id, one submission.
        admitted_at: Unix seconds.
        sites: where it may run.
        nodes: node to the number of its workers that were counted there when it was admitted.
        driver: node on which its driver was counted; ``""`` where it needs nothing.
        price_per_hour: micro-USD an hour that its paid capacity was expected to cost; 0 at home.
        egress: micro-USD for fetching its data, once.
        charge: GPUs' worth of the cluster that its team is charged with while it runs.
        ray_job_id: hex id of its driver's Ray job; ``""`` while unknown.
        started_at: when Ray had it running; None before.
        ended_at, end, message: how it came to its end; None and ``""`` while it goes on.
        session: the Ray cluster it was admitted to; it is submitted to no other.
        preempted_by: the job it was told to give way to; ``""`` for none.
    """

    number: int
    ray_id: str
    admitted_at: float
    sites: tuple[str, ...] = ()
    nodes: Mapping[str, int] = field(default_factory=dict[str, int])
    driver: str = ""
    price_per_hour: int = 0
    egress: int = 0
    charge: float = 0.0
    ray_job_id: str = ""
    started_at: float | None = None
    ended_at: float | None = None
    end: AttemptEnd | None = None
    message: str = ""
    session: str = ""
    preempted_by: str = ""


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One job.

    Attributes:
        request: the submission.
        phase: where it stands.
        attempts: in order; the last may still run.
        not_before: Unix seconds before which a retry is not made; 0 for none, infinite where none is made.
        stop_asked_by: who asked it to stop; ``""`` for nobody.
        message: the last word on it: of Ray, or of the queue.
        ended_at: Unix seconds; None while it is not over.
        deleted: hidden from lists; its history stays in the journal.
    """

    request: JobRequest
    phase: JobPhase = JobPhase.WAITING
    attempts: tuple[Attempt, ...] = ()
    not_before: float = 0.0
    stop_asked_by: str = ""
    message: str = ""
    ended_at: float | None = None
    deleted: bool = False

    @property
    def attempt(self) -> Attempt | None:
        """The present or last attempt."""
        return self.attempts[-1] if self.attempts else None


def step(jobs: dict[str, JobRecord], entry: Entry) -> None:
    """Take one entry into ``jobs``; entries about anything else, or about unknown jobs, change nothing."""
    data = entry.data
    job = data.get("job")
    if not isinstance(job, str):
        return
    if entry.kind == Event.JOB_SUBMITTED:
        jobs.setdefault(job, JobRecord(request_of(entry)))
        return
    record = jobs.get(job)
    if record is not None:
        jobs[job] = _after(record, entry.kind, data, entry.at)


def request_of(entry: Entry) -> JobRequest:
    """The submission that a ``job.submitted`` entry keeps."""
    data = entry.data
    return JobRequest(
        job=data["job"],
        user=data["user"],
        team=data["team"],
        data_class=data["data_class"],
        at=entry.at,
        needs=needs_of(data["needs"]),
        submission=data["submission"],
        code=data["code"],
    )


def _after(record: JobRecord, kind: str, data: Mapping[str, Any], at: float) -> JobRecord:
    match kind:
        case Event.JOB_ADMITTED:
            attempt = Attempt(
                number=data["attempt"],
                ray_id=data["ray_id"],
                admitted_at=at,
                sites=tuple(data["sites"]),
                nodes=data.get("nodes", {}),
                driver=data.get("driver", ""),
                price_per_hour=data["price_per_hour"],
                egress=data.get("egress", 0),
                charge=data.get("charge", 0.0),
                session=data.get("session", ""),
            )
            return replace(record, phase=JobPhase.ADMITTED, attempts=(*record.attempts, attempt), message="")
        case Event.JOB_STARTED:
            return _running(record, data, at)
        case Event.JOB_STOP_ASKED:
            return replace(record, stop_asked_by=data["by"])
        case Event.JOB_PREEMPTED:
            return _preempted(record, data)
        case Event.ATTEMPT_ENDED:
            return _attempt_over(record, data, at)
        case Event.JOB_FINISHED:
            return replace(record, phase=JobPhase(data["phase"]), message=data["message"], ended_at=at)
        case Event.JOB_DELETED:
            return replace(record, deleted=True)
        case _:
            return record


def _running(record: JobRecord, data: Mapping[str, Any], at: float) -> JobRecord:
    """A second entry for the same attempt adds the driver's id, which Ray knows later than that it runs."""
    attempt = record.attempt
    if attempt is None or attempt.number != data["attempt"]:
        return record
    started = replace(attempt, started_at=attempt.started_at or at, ray_job_id=data["ray_job_id"] or attempt.ray_job_id)
    return replace(record, phase=JobPhase.RUNNING, attempts=(*record.attempts[:-1], started))


def _preempted(record: JobRecord, data: Mapping[str, Any]) -> JobRecord:
    attempt = record.attempt
    if attempt is None or attempt.number != data["attempt"]:
        return record
    return replace(record, attempts=(*record.attempts[:-1], replace(attempt, preempted_by=data["by"])))


def _attempt_over(record: JobRecord, data: Mapping[str, Any], at: float) -> JobRecord:
    attempt = record.attempt
    if attempt is None or attempt.number != data["attempt"]:
        return record
    over = replace(attempt, ended_at=at, end=AttemptEnd(data["end"]), message=data["message"])
    return replace(
        record,
        phase=JobPhase.WAITING,
        attempts=(*record.attempts[:-1], over),
        not_before=math.inf if data["retry_at"] is None else data["retry_at"],
        message=data["message"],
    )
