"""``GET /openapi.json``: the gateway's own description, for callers that are known."""

from __future__ import annotations

from functools import cache
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse

from fabric.gateway.callers import Callers
from fabric.gateway.jobs.schemas import NodeRefused, answers

_METHODS = ("get", "put", "post", "delete")


def openapi_routes(callers: Callers, app: FastAPI) -> APIRouter:
    """The route; what it answers is made from the routes of ``app`` at the first call."""
    router = APIRouter()

    @cache
    def description() -> dict[str, Any]:
        return _described(app)

    @router.get("/openapi.json", responses=answers(None), tags=["gateway"])
    async def openapi(request: Request) -> Response:
        await callers.who(request)
        return JSONResponse(description())

    return router


def _described(app: FastAPI) -> dict[str, Any]:
    """What FastAPI makes of the routes, without what it adds by itself, and with how callers show who they are."""
    found: dict[str, Any] = app.openapi()
    for path, item in found["paths"].items():
        for method in _METHODS:
            if method in item:
                item[method]["responses"].pop("422", None)
                if path.startswith(("/api/", "/dashboard", "/openapi.json")):
                    item[method]["security"] = [{"token": []}]
    components = found.setdefault("components", {})
    for made_up in ("HTTPValidationError", "ValidationError"):
        components.get("schemas", {}).pop(made_up, None)
    refused = NodeRefused.model_json_schema(ref_template="#/components/schemas/{model}")
    components.setdefault("schemas", {}).update(refused.pop("$defs"), NodeRefused=refused)
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return found
