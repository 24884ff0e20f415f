"""The shapes of requests and answers, for the gateway's OpenAPI description."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

TEXT = {"text/plain": {"schema": {"type": "string"}}}


class SubmitRequest(BaseModel):
    """A job, as Ray's clients submit it."""

    model_config = ConfigDict(extra="forbid")

    entrypoint: str = Field(description="shell command of the driver", examples=["python sweep.py"])
    submission_id: str | None = Field(
        default=None, max_length=128, pattern=r"^([A-Za-z0-9_][A-Za-z0-9_.:=+@-]*)?$", description="id of the job"
    )
    job_id: str | None = Field(
        default=None, max_length=128, pattern=r"^([A-Za-z0-9_][A-Za-z0-9_.:=+@-]*)?$", description="the same, outdated"
    )
    runtime_env: dict[str, Any] | None = Field(default=None, description="Ray's runtime environment")
    metadata: dict[str, str] | None = Field(default=None, description="anything; keys fabric.* are declarations")
    entrypoint_num_cpus: float | None = Field(default=None, ge=0, le=1_000_000, description="CPUs of the driver")
    entrypoint_num_gpus: float | None = Field(default=None, ge=0, le=1_000_000, description="GPUs of the driver")
    entrypoint_memory: int | None = Field(default=None, ge=0, le=1024**6, description="bytes of the driver")
    entrypoint_resources: dict[str, float] | None = Field(default=None, description="custom resources of the driver")
    entrypoint_label_selector: dict[str, str] | None = Field(default=None, description="where the driver may run")


class SubmitResponse(BaseModel):
    """The job is in the queue, on disk."""

    job_id: str = Field(description="the same as submission_id, for old clients")
    submission_id: str


class StopResponse(BaseModel):
    """Whether there was anything left to stop."""

    stopped: bool


class DeleteResponse(BaseModel):
    """The job is hidden; its history stays in the journal."""

    deleted: bool


class LogsResponse(BaseModel):
    """What the job's drivers printed."""

    logs: str


class VersionResponse(BaseModel):
    """The version of the Jobs API, and of Ray."""

    version: str
    ray_version: str
    ray_commit: str
    session_name: str


class DriverInfo(BaseModel):
    """The driver of a job."""

    model_config = ConfigDict(extra="allow")

    id: str
    node_ip_address: str
    pid: str


class JobDetails(BaseModel):
    """One job, as Ray's clients know it."""

    type: Literal["SUBMISSION", "DRIVER"]
    job_id: str | None
    submission_id: str | None
    driver_info: DriverInfo | None
    status: Literal["PENDING", "RUNNING", "STOPPED", "SUCCEEDED", "FAILED"]
    entrypoint: str
    message: str | None
    error_type: str | None
    start_time: int | None
    end_time: int | None
    metadata: dict[str, str] | None
    runtime_env: dict[str, Any] | None
    driver_agent_http_address: str | None
    driver_node_id: str | None
    driver_exit_code: int | None


def answers(good: type[BaseModel] | list[type[BaseModel]] | None, *codes: int) -> dict[int | str, dict[str, Any]]:
    """The answers of a route: 200, and a sentence for each way it may be refused."""
    said: dict[int | str, dict[str, Any]] = {
        code: {"description": _WHY[code], "content": TEXT} for code in sorted({401, 404, 405, 429, 503, *codes})
    }
    said[200] = {"description": "done"} if good is None else {"description": "done", "model": good}
    return said


def refusals_of_nodes(good: str, *codes: int) -> dict[int | str, dict[str, Any]]:
    """The answers of a route for nodes: ``good``, and a code with a sentence for each way it may be refused."""
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/NodeRefused"}}}
    said: dict[int | str, dict[str, Any]] = {
        code: {"description": _WHY.get(code, "refused"), "content": error} for code in codes
    }
    said[200] = {"description": good, "content": {"application/json": {"schema": {"type": "object"}}}}
    return said


class NodeRefusal(BaseModel):
    """Why, for programs and for people."""

    code: str
    sentence: str
    remedy: str


class NodeRefused(BaseModel):
    """What a node is told that is refused."""

    error: NodeRefusal


_WHY = {
    400: "the request is not what it should be; the sentence says why",
    401: "no token, or one that is not known, expired or revoked",
    403: "the caller's roles or the data class do not allow it",
    404: "there is no such thing, or none the caller may know of",
    405: "the path has no such method",
    408: "the body did not arrive in time",
    413: "the body is too large",
    429: "too many requests, or too many waiting jobs",
    503: "not now: the journal, the disk or Ray does not take it; nothing was lost",
}
