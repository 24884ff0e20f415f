"""Who sent a request: the token in it, in any of the places where Ray's clients and dashboard put it, and how often."""

from __future__ import annotations

import time
from collections.abc import Callable

from starlette.requests import HTTPConnection

from fabric.config.schema import Config
from fabric.gateway.jobs.refusals import too_often
from fabric.gateway.refusals import RefusalError
from fabric.identity.limits import RateLimits
from fabric.identity.principal import Authenticator, IssuerUnreachableError, Principal, UnknownCallerError

COOKIE = "ray-authentication-token"
# Ray sends its token here where a proxy before it uses the standard header for itself.
RAY_HEADER = "x-ray-authorization"


class Callers:
    """Finds out who sent a request and holds each user to the rate limit. Used from the event loop only.

    Args:
        authenticator: knows tokens.
        config: the configuration in force.
        ticks: seconds of a clock that is never set back.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        config: Callable[[], Config],
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._authenticator = authenticator
        self._config = config
        self._limits = RateLimits()
        self._ticks = ticks

    async def who(self, request: HTTPConnection, *, cookie: bool = False) -> Principal:
        """The caller.

        Args:
            request: a request, or the opening of a WebSocket.
            cookie: whether the cookie that the dashboard's page sets is looked at. Only for what changes nothing: a
                browser sends it along whoever wrote the page.

        Raises:
            RefusalError: 401: nobody that is known; 429: too often; 503: nobody can tell now who it is.
        """
        try:
            principal = await self._authenticator.who(_authorization(request, cookie=cookie))
        except IssuerUnreachableError as error:
            raise RefusalError(503, "issuer_unreachable", str(error), "") from None
        except UnknownCallerError as error:
            raise RefusalError(401, "unknown_caller", str(error), "") from None
        access = self._config().access
        wait_s = self._limits.wait(principal.user, self._ticks(), access.requests_per_second, access.requests_burst)
        if wait_s > 0:
            raise too_often(wait_s)
        return principal


def _authorization(request: HTTPConnection, *, cookie: bool) -> str | None:
    header = request.headers.get("authorization") or request.headers.get(RAY_HEADER)
    if header is None and cookie and COOKIE in request.cookies:
        return f"Bearer {request.cookies[COOKIE]}"
    return header
