"""The gateway's HTTP surface: Ray's Jobs API and dashboard for people, join and lease for nodes, health, metrics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from fabric.gateway.dashboard import dashboard_routes
from fabric.gateway.guard import LIMIT as GUARD_LIMIT
from fabric.gateway.guard import Guard, GuardRequest
from fabric.gateway.jobs.routes import JobsApi, jobs_routes, status_route
from fabric.gateway.jobs.schemas import TEXT, refusals_of_nodes
from fabric.gateway.join import Registrar
from fabric.gateway.openapi import openapi_routes
from fabric.gateway.refusals import RefusalError, malformed, too_large
from fabric.gateway.requests import LIMIT, JoinRequest, LeaseRequest, parse
from fabric.journal.base import JournalUnavailableError
from fabric.telemetry.emit import Metrics
from fabric.telemetry.names import JOINS, LEASES

BODY_TIMEOUT_S = 10.0
# Where Ray's clients call: they show the body of an answer as it is.
_IN_WORDS = ("/api/", "/dashboard", "/openapi.json")

log = structlog.get_logger()


def build_app(
    registrar: Registrar,
    health: Callable[[], dict[str, Any]],
    metrics: Metrics,
    jobs: JobsApi | None = None,
    guard: Guard | None = None,
) -> FastAPI:
    """Wire the routes.

    Args:
        registrar: what joins and renewals are put to.
        health: facts for ``/healthz``; raises JournalUnavailableError when the journal cannot be read.
        metrics: counted into, and shown on ``/metrics``.
        jobs: the Jobs API; None for a gateway that only lets nodes in.
        guard: what the nodes' guards are answered by; without one they let nothing start.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with jobs.running() if jobs is not None else nullcontext():
            yield

    app = FastAPI(title="fabric gateway", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    if jobs is not None:
        app.router.routes.append(status_route(jobs))
        app.include_router(jobs_routes(jobs))
        app.include_router(dashboard_routes(jobs.callers, jobs.ray))
        app.include_router(openapi_routes(jobs.callers, app))

    @app.post("/v1/join", **_for_nodes(JoinRequest, "the cluster's secrets", 401, 403, 409, 410))
    async def join(request: Request) -> Response:
        message = parse(JoinRequest, await _body(request))
        peer = request.client.host if request.client else ""
        answer = await run_in_threadpool(registrar.join, message, peer)
        metrics.count(JOINS, result="joined")
        log.info("node joined", token=answer["token"], peer=peer, hostname=message.hostname)
        return JSONResponse(answer, headers={"Cache-Control": "no-store"})

    @app.post("/v1/lease", **_for_nodes(LeaseRequest, "how long the machine may live", 401, 410))
    async def lease(request: Request) -> Response:
        message = parse(LeaseRequest, await _body(request))
        answer = await run_in_threadpool(registrar.renew, message)
        metrics.count(LEASES, answer=answer["action"])
        return JSONResponse(answer)

    if guard is not None:

        @app.post("/v1/guard")
        async def rule(request: Request) -> Response:
            message = parse(GuardRequest, await _body(request, GUARD_LIMIT))
            return JSONResponse(await run_in_threadpool(guard.answer, message), headers={"Cache-Control": "no-store"})

    @app.get("/healthz", tags=["gateway"], responses=refusals_of_nodes("facts", 405, 503))
    async def healthz() -> Response:
        return JSONResponse(await run_in_threadpool(health))

    @app.get("/metrics", tags=["gateway"], responses={200: {"description": "Prometheus text", "content": TEXT}})
    async def exposition() -> Response:
        return Response(metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.exception_handler(RefusalError)
    async def refused(request: Request, refusal: RefusalError) -> Response:
        peer = request.client.host if request.client else ""
        if request.url.path == "/v1/join":
            metrics.count(JOINS, result=refusal.code)
        elif request.url.path == "/v1/lease":
            metrics.count(LEASES, answer=refusal.code)
        tell = log.info if refusal.status == 404 else log.warning
        tell("refused", path=request.url.path, code=refusal.code, sentence=refusal.sentence, peer=peer)
        return _answer(request, refusal)

    @app.exception_handler(JournalUnavailableError)
    async def unavailable(request: Request, error: JournalUnavailableError) -> Response:
        log.error("journal unavailable", error=str(error))
        sentence, remedy = "The journal cannot be used now.", "Ask again; see the gateway's log."
        return _answer(request, RefusalError(503, "journal_unavailable", sentence, remedy, retry_after_s=5))

    @app.exception_handler(HTTPException)
    async def not_ours(request: Request, error: HTTPException) -> Response:
        refusal = RefusalError(
            error.status_code,
            "no_such_route",
            f"{error.detail}.",
            "The gateway has Ray's Jobs API under /api, POST /v1/join, POST /v1/lease, POST /v1/guard, GET /healthz, "
            "GET /metrics and GET /openapi.json.",
        )
        return _answer(request, refusal, error.headers)

    return app


def _for_nodes(message: type[BaseModel], good: str, *codes: int) -> dict[str, Any]:
    """How a route for nodes is described."""
    schema = message.model_json_schema()
    # The one message inside another is described where it is used.
    inner = schema.pop("$defs", {})
    for name, value in schema["properties"].items():
        schema["properties"][name] = _inlined(value, inner)
    body = {"required": True, "content": {"application/json": {"schema": schema}}}
    return {
        "tags": ["nodes"],
        "responses": refusals_of_nodes(good, 400, 405, 408, 413, 503, *codes),
        "openapi_extra": {"requestBody": body},
    }


def _inlined(value: Any, inner: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        if "$ref" in value:
            return inner[value["$ref"].rpartition("/")[2]]
        return {key: _inlined(each, inner) for key, each in value.items()}
    return [_inlined(each, inner) for each in value] if isinstance(value, list) else value


def _answer(request: Request, refusal: RefusalError, headers: Mapping[str, str] | None = None) -> Response:
    headers = {**refusal.headers(), **(headers or {})}
    if request.url.path.startswith(_IN_WORDS):
        return PlainTextResponse(refusal.words(), status_code=refusal.status, headers=headers)
    return JSONResponse(refusal.body(), status_code=refusal.status, headers=headers)


async def _body(request: Request, limit: int = LIMIT) -> bytes:
    """Read a body that is small and comes quickly."""
    body = b""
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise too_large(limit)
    except TimeoutError:
        raise malformed("The request body did not arrive in time.") from None
    return body
