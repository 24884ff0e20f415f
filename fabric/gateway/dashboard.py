"""Ray's dashboard behind the gateway: to look at, for roles that may see every team's work.

Ray itself lets whoever has the cluster token do everything, also through its pages. Here only GET passes, and of GET
only what shows and does not act. Ray's own log-in dialog works: the page asks for a token, which is kept in a cookie
that is sent to this path alone.
"""

from __future__ import annotations

import posixpath
from urllib.parse import unquote

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from fabric.gateway.callers import COOKIE, RAY_HEADER, Callers
from fabric.gateway.jobs import refusals
from fabric.gateway.jobs.ray import RayClient, RaySilentError
from fabric.gateway.jobs.schemas import answers
from fabric.gateway.refusals import RefusalError
from fabric.model.jobs import Role

PREFIX = "/dashboard"
COOKIE_S = 12 * 3600
# The page itself and what it is made of: it has to be there before anybody can log in, and it shows nothing.
_SHELL = ("/", "/favicon.ico", "/static/")
# What the pages of Ray's dashboard read, and nothing that acts by GET (profiling runs a debugger on a worker).
_SHOWN = (
    "/api/v0/",
    "/api/jobs/",
    "/api/version",
    "/api/cluster_status",
    "/api/component_activities",
    "/api/data/",
    "/api/train/",
    "/api/serve/applications/",
    "/api/grafana_health",
    "/api/prometheus_health",
    "/api/profiling_enabled",
    "/events",
    "/logical/",
    "/nodes",
    "/speedscope-1.5.3/",
    "/timezone",
    "/usage_stats_enabled",
)
_ONLY_OPERATORS = (
    "/task/traceback",
    "/task/cpu_profile",
    "/worker/traceback",
    "/worker/cpu_profile",
    "/memory_profile",
)
_NEVER = ("/api/v0/delay/",)
_PASSED_ON = ("content-type", "content-disposition", "cache-control", "last-modified", "etag")


def dashboard_routes(callers: Callers, ray: RayClient) -> APIRouter:
    """The routes under ``/dashboard``."""
    router = APIRouter()
    said = answers(None, 403, 404)

    @router.get(PREFIX, include_in_schema=False)
    async def without_slash() -> Response:
        return RedirectResponse(f"{PREFIX}/", status_code=308)

    @router.get(f"{PREFIX}/api/authentication_mode", tags=["dashboard"], responses={200: {"description": "token"}})
    async def mode() -> Response:
        return JSONResponse({"authentication_mode": "token"})

    @router.post(f"{PREFIX}/api/authenticate", tags=["dashboard"], responses=said)
    async def authenticate(request: Request) -> Response:
        caller = await callers.who(request)
        if not caller.may_see_dashboard():
            raise _not_for_users()
        answer = JSONResponse({"status": "authenticated", "message": "Token is valid"})
        token = request.headers.get("authorization", "").partition(" ")[2].strip()
        secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, token, max_age=COOKIE_S, path=PREFIX, httponly=True, samesite="strict", secure=secure)
        return answer

    @router.get(f"{PREFIX}/{{path:path}}", tags=["dashboard"], responses=said)
    async def page(request: Request, path: str) -> Response:
        del path  # Starlette has decoded it; what Ray gets is what was asked for.
        raw = request.scope["raw_path"].decode("latin-1").partition("?")[0].removeprefix(PREFIX)
        await _check(callers, request, raw)
        query = f"?{request.url.query}" if request.url.query else ""
        try:
            status, headers, body = await ray.page(raw + query)
        except RaySilentError:
            raise refusals.ray_silent() from None
        passed = {name: value for name, value in headers.items() if name.lower() in _PASSED_ON}
        # Ray's pages are made of its own scripts and show what jobs wrote: they may be framed by nobody.
        passed |= {"X-Content-Type-Options": "nosniff", "X-Frame-Options": "SAMEORIGIN"}
        return Response(body, status_code=status if status < 500 else 503, headers=passed)

    return router


async def _check(callers: Callers, request: Request, raw: str) -> None:
    plain = unquote(raw)
    shown = "authorization" in request.headers or RAY_HEADER in request.headers or COOKIE in request.cookies
    straight = raw.isascii() and posixpath.normpath(plain) == (plain.rstrip("/") or "/")
    if not straight or "\\" in plain or "%" in plain:
        raise _no_page(plain)
    shell = any(plain == each or (len(each) > 1 and each.endswith("/") and plain.startswith(each)) for each in _SHELL)
    if shell and not shown:
        return
    caller = await callers.who(request, cookie=True)
    if not caller.may_see_dashboard():
        raise _not_for_users()
    if shell or (plain.startswith(_SHOWN) and not plain.startswith(_NEVER)):
        return
    if plain in _ONLY_OPERATORS:
        if Role.OPERATOR not in caller.roles:
            raise refusals.may_not("have a worker profiled", "operator")
        return
    raise _no_page(plain)


def _not_for_users() -> RefusalError:
    return RefusalError(
        403,
        "forbidden",
        "Ray's dashboard shows the work of every team, so it needs the role operator or auditor.",
        "Your own jobs are in `ray job list`, `ray job status` and `ray job logs`.",
    )


def _no_page(path: str) -> RefusalError:
    return RefusalError(
        404,
        "no_such_page",
        f"The dashboard has no page {path[:200]} here.",
        "Jobs are submitted to the gateway itself.",
    )
