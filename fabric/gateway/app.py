"""The gateway's HTTP surface: join, lease, health, metrics. Reads requests, asks the registrar, writes answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from fabric.gateway.join import Registrar
from fabric.gateway.refusals import RefusalError, malformed, too_large
from fabric.gateway.requests import LIMIT, JoinRequest, LeaseRequest, parse
from fabric.journal.base import JournalUnavailableError
from fabric.telemetry.emit import Metrics
from fabric.telemetry.names import JOINS, LEASES

BODY_TIMEOUT_S = 10.0

log = structlog.get_logger()


def build_app(registrar: Registrar, health: Callable[[], dict[str, Any]], metrics: Metrics) -> FastAPI:
    """Wire the routes.

    Args:
        registrar: what joins and renewals are put to.
        health: facts for ``/healthz``; raises JournalUnavailableError when the journal cannot be read.
        metrics: counted into, and shown on ``/metrics``.
    """
    app = FastAPI(title="fabric gateway", docs_url=None, redoc_url=None, openapi_url=None)

    @app.post("/v1/join")
    async def join(request: Request) -> Response:
        message = parse(JoinRequest, await _body(request))
        peer = request.client.host if request.client else ""
        answer = await run_in_threadpool(registrar.join, message, peer)
        metrics.count(JOINS, result="joined")
        log.info("node joined", token=answer["token"], peer=peer, hostname=message.hostname)
        return JSONResponse(answer, headers={"Cache-Control": "no-store"})

    @app.post("/v1/lease")
    async def lease(request: Request) -> Response:
        message = parse(LeaseRequest, await _body(request))
        answer = await run_in_threadpool(registrar.renew, message)
        metrics.count(LEASES, answer=answer["action"])
        return JSONResponse(answer)

    @app.get("/healthz")
    async def healthz() -> Response:
        return JSONResponse(await run_in_threadpool(health))

    @app.get("/metrics")
    async def exposition() -> Response:
        return Response(metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.exception_handler(RefusalError)
    async def refused(request: Request, refusal: RefusalError) -> Response:
        peer = request.client.host if request.client else ""
        if request.url.path == "/v1/join":
            metrics.count(JOINS, result=refusal.code)
        elif request.url.path == "/v1/lease":
            metrics.count(LEASES, answer=refusal.code)
        log.warning("refused", path=request.url.path, code=refusal.code, sentence=refusal.sentence, peer=peer)
        return JSONResponse(refusal.body(), status_code=refusal.status)

    @app.exception_handler(JournalUnavailableError)
    async def unavailable(_request: Request, error: JournalUnavailableError) -> Response:
        log.error("journal unavailable", error=str(error))
        refusal = RefusalError(
            503, "journal_unavailable", "The journal cannot be used now.", "Ask again; see the gateway's log."
        )
        return JSONResponse(refusal.body(), status_code=503)

    @app.exception_handler(HTTPException)
    async def not_ours(_request: Request, error: HTTPException) -> Response:
        refusal = RefusalError(
            error.status_code,
            "no_such_route",
            f"{error.detail}.",
            "The gateway has POST /v1/join, POST /v1/lease, GET /healthz and GET /metrics.",
        )
        return JSONResponse(refusal.body(), status_code=refusal.status, headers=error.headers)

    return app


async def _body(request: Request) -> bytes:
    """Read a body that is small and comes quickly."""
    body = b""
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > LIMIT:
                    raise too_large(LIMIT)
    except TimeoutError:
        raise malformed("The request body did not arrive in time.") from None
    return body
