"""``fabric jobs``: the queue and what became of earlier jobs, from the journal, with the controller's reasons."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click

from fabric.cli.exits import Exit
from fabric.cli.main import current

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fabric.admission.records import Attempt, JobRecord

_LATELY = 20


@click.command(short_help="List the queue and earlier jobs, each with its reason.")
@click.option("--all", "everything", is_flag=True, help="List every job there ever was, not only the latest 20 over.")
@click.option("--team", help="Only jobs of this team.")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
def jobs(everything: bool, team: str | None, as_json: bool) -> None:
    """List jobs that wait, that run, and that are over.

    Why a job waits is asked of the controller. When it does not answer, the list is what the journal knows, without
    places in the line; the exit code is 3 then. One job is explained by: fabric why JOB

    \b
    The keys of --json; times are Unix seconds, money is micro-USD, null is "not known" or "not yet":
      at, controller     when this was so; whether the controller answers
      jobs               job, phase, user, team, data_class, submitted_at, ended_at, position, reason (a code),
                         sentence (why it waits, or its last message), start_at (expected start at home), attempts:
                         number, ray_id, sites, admitted_at, started_at, ended_at, end, message,
                         price_per_hour_micro_usd
    """  # noqa: D301 - \b is click's mark for "do not wrap"
    from fabric.cli.context import get_json

    context = current()
    records = known_jobs(context)
    queue = get_json(f"http://{context.config_in_force.listen.controller}/queue")
    waiting = {one["job"]: one for one in (queue or {}).get("waiting", [])}
    chosen = [record for record in records.values() if team is None or record.request.team == team]
    over = [record for record in chosen if record.phase.is_over and not record.deleted]
    over.sort(key=lambda record: record.ended_at or 0.0)
    going = [record for record in chosen if not record.phase.is_over]
    going.sort(key=lambda record: (record.attempt is None, _place(waiting, record), record.request.at))
    shown = [*(over if everything else over[-_LATELY:]), *going]
    told = {
        "at": time.time(),
        "controller": {"address": context.config_in_force.listen.controller, "answers": queue is not None},
        "jobs": [job_told(record, waiting.get(record.request.job)) for record in shown],
    }
    if as_json:
        click.echo(json.dumps(told, indent=2))
    else:
        _print(told, len(over) - _LATELY if not everything else 0)
    if queue is None:
        raise click.exceptions.Exit(Exit.UNAVAILABLE)


def known_jobs(context: Any) -> dict[str, JobRecord]:
    """Every job of the journal."""
    from fabric.admission.records import step

    found: dict[str, JobRecord] = {}
    with context.journal() as journal:
        for entry in journal.read():
            step(found, entry)
    return found


def job_told(record: JobRecord, waits: Mapping[str, Any] | None) -> dict[str, Any]:
    """One job as ``--json`` has it.

    Args:
        record: what the journal says.
        waits: what the controller says of it while it waits; None where it says nothing.
    """
    request, told = record.request, waits or {}
    return {
        "job": request.job,
        "phase": record.phase.value,
        "user": request.user,
        "team": request.team,
        "data_class": request.data_class,
        "submitted_at": request.at,
        "ended_at": record.ended_at,
        "position": told.get("position"),
        "reason": told.get("reason"),
        "sentence": told.get("sentence") or record.message,
        "start_at": told.get("start_at"),
        "attempts": [_attempt(attempt) for attempt in record.attempts],
    }


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "ray_id": attempt.ray_id,
        "sites": list(attempt.sites),
        "admitted_at": attempt.admitted_at,
        "started_at": attempt.started_at,
        "ended_at": attempt.ended_at,
        "end": attempt.end.value if attempt.end else None,
        "message": attempt.message,
        "price_per_hour_micro_usd": attempt.price_per_hour,
    }


def _place(waiting: Mapping[str, Any], record: JobRecord) -> float:
    place = waiting.get(record.request.job, {}).get("position")
    return float("inf") if place is None else float(place)


def _print(told: Mapping[str, Any], left_out: int) -> None:
    from fabric.cli.screen import console, plain, span, table

    shown_on = console()
    if not told["controller"]["answers"]:
        shown_on.print(
            f"the controller does not answer on {told['controller']['address']}: this is what the journal knows, "
            "without places in the line",
            style="bold red",
        )
    found = table("job", "state", ">for", "user", "team", "class", ">attempts", "why")
    for job in told["jobs"]:
        since = job["ended_at"] or (job["attempts"][-1]["started_at"] if job["attempts"] else None)
        place = f" ({job['position']})" if job["position"] else ""
        words = plain(str(job["sentence"]).split("\n", 1)[0])
        found.add_row(
            plain(job["job"]),
            job["phase"] + place,
            span(told["at"] - (since or job["submitted_at"])),
            plain(job["user"]),
            plain(job["team"]),
            plain(job["data_class"]),
            str(len(job["attempts"])),
            words if len(words) <= 100 else words[:99] + "…",
        )
    if not told["jobs"]:
        found.add_row("none")
    shown_on.print(found)
    if left_out > 0:
        shown_on.print(f"and {left_out} more that are over: fabric jobs --all", style="dim")
