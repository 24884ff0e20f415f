"""A job as Ray's clients are shown it: ``JobDetails`` of ``ray/dashboard/modules/job/pydantic_models.py``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fabric.admission.records import JobRecord
from fabric.gateway.jobs.sealed import Seal, SealBrokenError
from fabric.model.jobs import JobPhase

REDACTED = "<redacted>"
DRIVER_FIELDS = ("driver_info", "driver_agent_http_address", "driver_node_id", "driver_exit_code")
_WORDS = {
    JobPhase.RUNNING: "Job is currently running.",
    JobPhase.STOPPED: "Job was intentionally stopped.",
    JobPhase.SUCCEEDED: "Job finished successfully.",
    JobPhase.FAILED: "Job failed.",
}
_RESOURCES = ("entrypoint_num_cpus", "entrypoint_num_gpus", "entrypoint_memory", "entrypoint_resources")


def details(record: JobRecord, waits: str, driver: Mapping[str, Any], seal: Seal | None) -> dict[str, Any]:
    """The answer of ``GET /api/jobs/{id}``.

    Args:
        record: the job.
        waits: what the queue says of it; ``""`` where it has nothing to say.
        driver: what Ray last said of its newest attempt; empty where it never did.
        seal: opens the values of environment variables; None leaves them out, as Ray does for browsers.
    """
    request, attempt = record.request, record.attempt
    submission = request.submission
    over = record.phase.is_over
    info = driver.get("driver_info")
    return {
        "type": "SUBMISSION",
        "job_id": (attempt.ray_job_id if attempt else "") or (info or {}).get("id") or None,
        "submission_id": request.job,
        "driver_info": info,
        "status": record.phase.ray_status,
        "entrypoint": submission["entrypoint"],
        "message": message(record, waits),
        "error_type": driver.get("error_type") if record.phase is JobPhase.FAILED else None,
        "start_time": round(request.at * 1000),
        "end_time": round(record.ended_at * 1000) if over and record.ended_at is not None else None,
        "metadata": submission.get("metadata"),
        "runtime_env": _runtime_env(submission, seal),
        "driver_agent_http_address": driver.get("driver_agent_http_address"),
        "driver_node_id": driver.get("driver_node_id"),
        "driver_exit_code": driver.get("driver_exit_code"),
    }


def message(record: JobRecord, waits: str) -> str:
    """The status message: Ray's words, and behind them what the queue has to say."""
    if record.phase.is_over:
        return record.message or _WORDS[record.phase]
    if record.phase is JobPhase.RUNNING:
        number = record.attempt.number if record.attempt else 1
        said = [_WORDS[JobPhase.RUNNING], f"This is attempt {number}." if number > 1 else ""]
    else:
        said = [_not_started(record.request.submission), _before(record), waits]
    if record.stop_asked_by:
        said.append(f"{record.stop_asked_by} asked for it to be stopped.")
    return " ".join(part for part in said if part)


def _not_started(submission: Mapping[str, Any]) -> str:
    words = "Job has not started yet."
    if any(submission.get(key) for key in _RESOURCES):
        words += " It may be waiting for resources (CPUs, GPUs, memory, custom resources) to become available."
    if submission.get("runtime_env"):
        words += " It may be waiting for the runtime environment to be set up."
    return words


def _before(record: JobRecord) -> str:
    """What became of the attempt before, for a job between two attempts."""
    attempt = record.attempt
    if record.phase is not JobPhase.WAITING or attempt is None or attempt.end is None:
        return ""
    return f"Attempt {attempt.number} was {attempt.end.value}" + (f": {attempt.message}" if attempt.message else ".")


def _runtime_env(submission: Mapping[str, Any], seal: Seal | None) -> Any:
    try:
        return _redacted(submission.get("runtime_env")) if seal is None else seal.open(submission).get("runtime_env")
    except SealBrokenError:
        return _redacted(submission.get("runtime_env"))


def _redacted(env: Any) -> Any:
    if not isinstance(env, dict) or not isinstance(env.get("env_vars"), dict):
        return env
    return {**env, "env_vars": dict.fromkeys(env["env_vars"], REDACTED)}
