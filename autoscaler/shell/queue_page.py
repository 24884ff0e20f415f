"""``GET /queue``: every job that waits, in order, each with its sentence; and those that run."""

from __future__ import annotations

from typing import Any

from autoscaler.shell.job_book import JobBook
from autoscaler.shell.serve import Page
from fabric.admission.outcome import Outcome
from fabric.admission.records import JobRecord
from fabric.admission.tell import waiting_sentence
from fabric.admission.values import Waiting

# A page for people and for one poller a second; the rest is counted, and each job can be asked about by itself.
_SHOWN = 1000


def queue_page(jobs: JobBook, outcome: Outcome, trouble: str, now: float, job: str | None) -> Page:
    """The queue, or one job of it.

    Args:
        jobs: the fold of jobs.
        outcome: the queue's last decision.
        trouble: why running jobs cannot be looked after just now; ``""`` when they can.
        now: Unix seconds.
        job: only this one; None for all.
    """
    if job is not None:
        record = jobs.record(job)
        if record is None:
            return Page.of_json({"error": f"there is no job {job}"}, 404)
        return Page.of_json({"at": now, "decided_at": outcome.at, "job": _told(record, outcome, now)})
    waiting, running = jobs.counts()
    shown: list[dict[str, Any]] = []
    for one in outcome.everyone():
        if len(shown) >= _SHOWN:
            break
        record = jobs.record(one.job)
        if record is not None and not record.phase.is_over:
            shown.append(_waits(record, one, now))
    return Page.of_json(
        {
            "at": now,
            "decided_at": outcome.at,
            "counts": {"waiting": waiting, "running": running},
            "trouble": trouble,
            "waiting": shown,
            "running": [_runs(record) for record in jobs.open()[:_SHOWN]],
        }
    )


def _told(record: JobRecord, outcome: Outcome, now: float) -> dict[str, Any]:
    waits = outcome.waiting(record.request.job)
    if record.phase.is_over or (record.attempt is not None and record.attempt.end is None):
        return _runs(record)
    if waits is None:
        return {**_common(record), "sentence": "The queue has not looked at it yet.", "position": None}
    return _waits(record, waits, now)


def _waits(record: JobRecord, waiting: Waiting, now: float) -> dict[str, Any]:
    away = waiting.away
    return {
        **_common(record),
        "position": waiting.position,
        "of": waiting.of,
        "reason": waiting.reason,
        "facts": dict(waiting.facts),
        "sentence": waiting_sentence(waiting, now),
        "start_at": waiting.start_at,
        "not_before": record.not_before or None,
        "late": waiting.late,
        "away": None
        if away is None
        else {
            "site": away.site,
            "node_type": away.node_type,
            "nodes": away.nodes,
            "per_hour_micro_usd": away.per_hour,
            "cost_micro_usd": away.cost,
            "boot_s": away.boot_s,
        },
    }


def _runs(record: JobRecord) -> dict[str, Any]:
    attempt = record.attempt
    return {
        **_common(record),
        "sites": list(attempt.sites) if attempt else [],
        "started_at": attempt.started_at if attempt else None,
        "message": record.message,
    }


def _common(record: JobRecord) -> dict[str, Any]:
    return {
        "job": record.request.job,
        "phase": record.phase,
        "user": record.request.user,
        "team": record.request.team,
        "data_class": record.request.data_class,
        "submitted_at": record.request.at,
        "attempt": record.attempt.number if record.attempt else 0,
    }
