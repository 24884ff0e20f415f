"""One job for ``fabric why``: its life as lines of text, one per journal entry, and where it stands now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from fabric.admission.records import JobRecord, step
from fabric.cli.receipts import at
from fabric.journal.base import Entry
from fabric.model.events import Event
from fabric.model.jobs import JobPhase
from fabric.model.money import format_usd

Data = Mapping[str, Any]


def job_story(entries: Iterable[Entry], job: str) -> list[tuple[Entry, str]]:
    """Entries about ``job`` with a sentence each; what it ran on is told once for each node and attempt."""
    told: list[tuple[Entry, str]] = []
    nodes: set[tuple[Any, Any]] = set()
    for entry in entries:
        if entry.data.get("job") != job:
            continue
        if entry.kind == Event.JOB_RAN_ON:
            node = (entry.data.get("attempt"), entry.data.get("ray_node_id"))
            if node in nodes:
                continue
            nodes.add(node)
        tell = _TOLD.get(entry.kind)
        told.append((entry, tell(entry.data) if tell else entry.kind))
    return told


def job_stands(record: JobRecord, queue: Mapping[str, Any] | None) -> list[str]:
    """Where a job stands.

    Args:
        record: what the journal says.
        queue: the controller's answer about it; None when it does not answer.
    """
    if record.phase.is_over:
        return [f"It is over: {record.phase.value}."]
    if record.phase is not JobPhase.WAITING:
        attempt = record.attempt
        number = attempt.number if attempt else 1
        return [f"Attempt {number} is with Ray." if record.phase is JobPhase.RUNNING else f"Attempt {number} starts."]
    if queue is None:
        return [f"The controller does not answer, so why it waits now is not known. {_before(record)}"]
    told = queue.get("job") or {}
    return [str(told.get("sentence") or "The queue has not looked at it yet.")]


def _before(record: JobRecord) -> str:
    if record.attempts:
        return f"It waits between two attempts; it may start again from {at(record.not_before)} on."
    return "It has never been admitted."


def _submitted(data: Data) -> str:
    team = f" of team {data['team']}" if data.get("team") else ""
    return f"{data['user']}{team} submitted it; its data is of class {data['data_class']}."


def _admitted(data: Data) -> str:
    reasons = " ".join(data.get("reasons") or ())
    price = int(data.get("price_per_hour") or 0)
    cost = f" Its paid machines were expected to cost {format_usd(price)} an hour." if price else ""
    where = ", ".join(data.get("sites") or ()) or "nowhere"
    return f"Attempt {data['attempt']} was admitted to {where}. {reasons}{cost}".strip()


def _started(data: Data) -> str:
    driver = f"; its driver is Ray's job {data['ray_job_id']}" if data.get("ray_job_id") else ""
    return f"Attempt {data['attempt']} runs at Ray as {data['ray_id']}{driver}."


def _ran_on(data: Data) -> str:
    name = data.get("instance") or data.get("ray_node_id")
    return f"Attempt {data.get('attempt')} had work on {name} of site {data.get('site') or 'unknown'}."


def _ended(data: Data) -> str:
    again = data.get("retry_at")
    then = f" It is tried again from {at(again)} on." if again else ""
    first = str(data.get("message") or "").split("\n", 1)[0]
    return f"Attempt {data['attempt']} ended: {data['end']} ({data['cause']}). {first}{then}".strip()


def _finished(data: Data) -> str:
    first = str(data.get("message") or "").split("\n", 1)[0]
    return f"The job is over: {data['phase']}. {first}".strip()


_TOLD: Mapping[str, Callable[[Data], str]] = {
    Event.JOB_SUBMITTED: _submitted,
    Event.JOB_REJECTED: lambda data: f"It was refused: {data['sentence']}",
    Event.JOB_ADMITTED: _admitted,
    Event.JOB_STARTED: _started,
    Event.JOB_RAN_ON: _ran_on,
    Event.JOB_DENIED: lambda data: f"A worker of it was refused at {data['site']}: {data['sentence']}",
    Event.JOB_STOP_ASKED: lambda data: f"{data['by']} asked it to stop.",
    Event.JOB_PREEMPTED: lambda data: f"Attempt {data['attempt']} was told to give way to {data['by']}.",
    Event.ATTEMPT_ENDED: _ended,
    Event.JOB_FINISHED: _finished,
    Event.JOB_DELETED: lambda data: f"{data['by']} deleted it from the lists.",
}


def queued_as(entries: Sequence[Entry], name: str) -> str | None:
    """The job of the queue that ``name`` means: its own id, the id of an attempt at Ray, or its driver's."""
    for entry in entries:
        if entry.kind in (Event.JOB_SUBMITTED, Event.JOB_REJECTED) and entry.data.get("job") == name:
            return name
    for entry in entries:
        attempt = entry.kind in (Event.JOB_ADMITTED, Event.JOB_STARTED)
        if attempt and name in (entry.data.get("ray_id"), entry.data.get("ray_job_id")):
            return str(entry.data["job"])
    return None


def job_told(entries: Sequence[Entry], job: str, queue: Mapping[str, Any] | None, now: float) -> dict[str, Any]:
    """A job of the queue as ``fabric why`` shows it, without the decisions of its time.

    Args:
        entries: the journal.
        job: its id.
        queue: the controller's answer about it; None when it does not answer.
        now: Unix seconds.
    """
    jobs: dict[str, JobRecord] = {}
    for entry in entries:
        step(jobs, entry)
    record = jobs.get(job)
    lines = [{"seq": entry.seq, "at": entry.at, "sentence": text} for entry, text in job_story(entries, job)]
    if record is None:
        return {"subject": job, "story": lines, "now": ["It was refused, and is not in the queue."], "span": None}
    stands = job_stands(record, queue)
    return {"subject": job, "story": lines, "now": stands, "span": (record.request.at, record.ended_at or now)}
