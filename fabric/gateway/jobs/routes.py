"""Ray's Jobs API over HTTP: reads requests, asks the desk and the register, writes answers.

Status codes and texts are those of Ray 2.60 (``ray/dashboard/modules/job/job_head.py``) but for its 500s, which are
what they mean here: 400 or 503. Whatever blocks runs in threads; questions about status are answered from memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
import structlog
from fastapi import APIRouter, Request, Response, WebSocket
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route
from starlette.websockets import WebSocketDisconnect

from fabric.admission.records import JobRecord
from fabric.config.schema import Config
from fabric.gateway.callers import Callers
from fabric.gateway.jobs import refusals
from fabric.gateway.jobs.bodies import read_body, read_upload
from fabric.gateway.jobs.desk import JobDesk
from fabric.gateway.jobs.drivers import Drivers
from fabric.gateway.jobs.logs import JobLogs
from fabric.gateway.jobs.packages import SCHEME, PackageStore
from fabric.gateway.jobs.queue_watch import QueueWatch
from fabric.gateway.jobs.ray import RayClient, ray_version
from fabric.gateway.jobs.register import JobRegister
from fabric.gateway.jobs.schemas import (
    DeleteResponse,
    JobDetails,
    LogsResponse,
    StopResponse,
    SubmitRequest,
    SubmitResponse,
    VersionResponse,
    answers,
)
from fabric.gateway.jobs.sealed import Seal
from fabric.gateway.jobs.show import details
from fabric.gateway.refusals import RefusalError
from fabric.identity.principal import Principal
from fabric.journal.base import JournalUnavailableError
from fabric.telemetry.emit import Metrics
from fabric.telemetry.names import SUBMISSIONS

STATUS_PATH = "/api/jobs/{job_or_submission_id}"
THREADS = 64
UPLOADS_AT_ONCE = 16
TAILS_AT_ONCE = 2000
SEND_TIMEOUT_S = 60.0
_LISTED_AT_ONCE = 200

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class JobsApi:
    """What the routes use."""

    callers: Callers
    desk: JobDesk
    seal: Seal
    register: JobRegister
    packages: PackageStore
    queue: QueueWatch
    drivers: Drivers
    logs: JobLogs
    ray: RayClient
    config: Callable[[], Config]
    metrics: Metrics

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """What has to go on beside the requests, while the block runs."""
        tasks = [asyncio.create_task(self.queue.follow()), asyncio.create_task(self.drivers.keep_what_ended())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.ray.close()


def jobs_routes(api: JobsApi) -> APIRouter:
    """The routes under ``/api``."""
    router = APIRouter()
    threads = anyio.CapacityLimiter(THREADS)
    uploads = asyncio.Semaphore(UPLOADS_AT_ONCE)
    tails = asyncio.Semaphore(TAILS_AT_ONCE)
    version = ray_version()

    async def in_thread(call: Callable[..., Any], *arguments: Any) -> Any:
        return await anyio.to_thread.run_sync(partial(call, *arguments), limiter=threads)

    @router.get("/api/version", responses=answers(VersionResponse), tags=["jobs"])
    async def get_version(request: Request) -> Response:
        await api.callers.who(request)
        return JSONResponse({**version, "session_name": await api.ray.session_name()})

    @router.get("/api/packages/{protocol}/{package_name}", responses=answers(None, 404), tags=["packages"])
    async def get_package(request: Request, protocol: str, package_name: str) -> Response:
        caller = await api.callers.who(request)
        if protocol != "gcs" or await in_thread(api.packages.find, caller.team, package_name) is None:
            raise refusals.package_not_there(f"{protocol}://{package_name}")
        return Response()

    @router.put(
        "/api/packages/{protocol}/{package_name}",
        responses=answers(None, 400, 403, 408, 413),
        openapi_extra={"requestBody": {"content": {"application/octet-stream": {"schema": {"type": "string"}}}}},
        tags=["packages"],
    )
    async def put_package(request: Request, protocol: str, package_name: str) -> Response:
        caller = await api.callers.who(request)
        if not caller.may_submit():
            raise refusals.may_not("upload packages", "user or operator")
        if protocol != "gcs":
            raise refusals.bad_request("bad_package_name", f"Packages are uploaded to {SCHEME}, not to {protocol}://.")
        async with uploads:
            await read_upload(request, api.packages, caller.team, package_name, in_thread)
        log.info("package uploaded", user=caller.user, team=caller.team, package=package_name)
        return Response()

    @router.post(
        "/api/jobs/",
        responses=answers(SubmitResponse, 400, 403, 408, 413),
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": SubmitRequest.model_json_schema()}},
            }
        },
        tags=["jobs"],
    )
    async def submit_job(request: Request) -> Response:
        caller = await api.callers.who(request)
        try:
            body = await read_body(request, api.config().access.body, "access.body")
            job = await in_thread(api.desk.submit, caller, body)
        except RefusalError as refusal:
            api.metrics.count(SUBMISSIONS, result=refusal.code)
            if refusal.code in ("too_large", "too_slow"):
                await in_thread(api.desk.refused, caller, refusal)
            raise
        api.metrics.count(SUBMISSIONS, result="queued")
        log.info("job submitted", job=job, user=caller.user, team=caller.team)
        return JSONResponse({"job_id": job, "submission_id": job})

    @router.get("/api/jobs/", responses=answers(list[JobDetails]), tags=["jobs"])  # type: ignore[arg-type]
    async def list_jobs(request: Request) -> Response:
        caller = await api.callers.who(request)
        records = api.register.select(caller.may_see)
        others = await api.drivers.others() if caller.may_see_dashboard() else []
        return StreamingResponse(_listed(api, request, caller, records, others), media_type="application/json")

    @router.get(STATUS_PATH, responses=answers(JobDetails, 404), tags=["jobs"])
    async def get_job_info(request: Request, job_or_submission_id: str) -> Response:
        return await _job_info(api, request, job_or_submission_id)

    @router.post("/api/jobs/{job_or_submission_id}/stop", responses=answers(StopResponse, 400, 403, 404), tags=["jobs"])
    async def stop_job(request: Request, job_or_submission_id: str) -> Response:
        caller = await api.callers.who(request)
        record = await _mine(api, caller, job_or_submission_id, "stop")
        return JSONResponse({"stopped": await in_thread(api.desk.stop, caller, record)})

    @router.delete("/api/jobs/{job_or_submission_id}", responses=answers(DeleteResponse, 400, 403, 404), tags=["jobs"])
    async def delete_job(request: Request, job_or_submission_id: str) -> Response:
        caller = await api.callers.who(request)
        record = await _mine(api, caller, job_or_submission_id, "delete")
        await in_thread(api.desk.delete, caller, record)
        return JSONResponse({"deleted": True})

    @router.get("/api/jobs/{job_or_submission_id}/logs", responses=answers(LogsResponse, 400, 404), tags=["jobs"])
    async def get_job_logs(request: Request, job_or_submission_id: str) -> Response:
        caller = await api.callers.who(request)
        record = await _mine(api, caller, job_or_submission_id, "get logs of")
        text = await api.logs.all(record)
        body = await in_thread(lambda: json.dumps({"logs": text}).encode())
        return Response(body, media_type="application/json")

    @router.websocket("/api/jobs/{job_or_submission_id}/logs/tail")
    async def tail_job_logs(socket: WebSocket, job_or_submission_id: str) -> None:
        try:
            caller = await api.callers.who(socket)
            record = await _mine(api, caller, job_or_submission_id, "get logs of")
            if tails.locked():
                raise RefusalError(503, "too_many_tails", f"{TAILS_AT_ONCE} logs are followed now.", "Try again later.")
        except RefusalError as refusal:
            await socket.send_denial_response(PlainTextResponse(refusal.words(), status_code=refusal.status))
            return
        except JournalUnavailableError:
            sentence = "The journal cannot be used now. Ask again; see the gateway's log."
            await socket.send_denial_response(PlainTextResponse(sentence, status_code=503))
            return
        async with tails:
            await socket.accept()
            await _send_all(socket, api.logs.follow(record))

    return router


def status_route(api: JobsApi) -> Route:
    """``GET`` of one job once more, without FastAPI, which costs three times what the answer does.

    It is what thousands of clients ask for all the time. It goes before the routes, which describe it.
    """

    async def get_job_info(request: Request) -> Response:
        return await _job_info(api, request, request.path_params["job_or_submission_id"])

    return Route(STATUS_PATH, get_job_info, methods=["GET"])


async def _job_info(api: JobsApi, request: Request, job: str) -> Response:
    caller = await api.callers.who(request)
    record = api.register.find(job)
    if record is None or not caller.may_see(record.request.team):
        return JSONResponse(await _other(api, caller, job))
    waits, driver = await api.queue.of(record), await api.drivers.of(record)
    return JSONResponse(details(record, waits, driver, _seal_for(api, request, caller, record)))


async def _send_all(socket: WebSocket, lines: AsyncIterator[str]) -> None:
    """Send until there is no more, or nobody listens. Who reads too slowly is let go, and may follow again."""

    async def send() -> None:
        async for text in lines:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await socket.send_text(text)

    async def listen() -> None:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            while True:
                await socket.receive_text()

    tasks = asyncio.create_task(send()), asyncio.create_task(listen())
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    if tasks[0] not in done:
        return
    error = tasks[0].exception()
    if error is not None and not isinstance(error, (TimeoutError, WebSocketDisconnect)):
        log.error("a log could not be followed", error=repr(error))
    with contextlib.suppress(RuntimeError, WebSocketDisconnect):
        await socket.close(1000 if error is None else 1011)


async def _listed(
    api: JobsApi, request: Request, caller: Principal, records: list[JobRecord], others: list[dict[str, Any]]
) -> AsyncIterator[bytes]:
    """A list of any length, some at a time, so that nobody else waits for it."""
    between = b"["
    for start in range(0, len(records), _LISTED_AT_ONCE):
        part = [
            details(record, api.queue.seen(record), api.drivers.seen(record), _seal_for(api, request, caller, record))
            for record in records[start : start + _LISTED_AT_ONCE]
        ]
        yield between + json.dumps(part)[1:-1].encode()
        between = b", "
        await asyncio.sleep(0)
    if others:
        yield between + json.dumps(others)[1:-1].encode()
        between = b", "
    yield b"[]" if between == b"[" else b"]"


async def _mine(api: JobsApi, caller: Principal, job: str, verb: str) -> JobRecord:
    """The job the caller means, if there is one that may be seen.

    Raises:
        RefusalError: 404 for none; 400 for one that did not come through the queue.
    """
    record = api.register.find(job)
    if record is not None and caller.may_see(record.request.team):
        return record
    await _other(api, caller, job)
    raise refusals.only_submissions(verb)


async def _other(api: JobsApi, caller: Principal, job: str) -> dict[str, Any]:
    """What runs in Ray without the queue's knowledge; shown to those who may see all of Ray."""
    if caller.may_see_dashboard():
        for each in await api.drivers.others():
            if job in (each.get("job_id"), each.get("submission_id")):
                return each
    raise refusals.not_there(job)


def _seal_for(api: JobsApi, request: Request, caller: Principal, record: JobRecord) -> Seal | None:
    """Values of environment variables are for the team of the job, and, as with Ray, never for browsers."""
    headers = request.headers
    browser = headers.get("user-agent", "").startswith("Mozilla") or any(
        name.startswith("sec-fetch-") or name == "origin" for name in headers
    )
    return None if browser or caller.team != record.request.team else api.seal
