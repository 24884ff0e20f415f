"""What the gateway asks Ray itself: about drivers, and for the log of what runs. It never submits or stops."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
from yarl import URL

API_VERSION = "4"  # ray.dashboard.modules.version.CURRENT_VERSION of Ray 2.60
_TIMEOUT_S = 5.0
_VERSION_TIMEOUT_S = 1.0
_SESSION_S = 5.0
_LONGEST_ANSWER = 64 * 1024**2


class RaySilentError(Exception):
    """Ray does not answer, or not in time, or with more than can be taken."""


class RayClient:
    """A client of Ray's dashboard. Used from the event loop only.

    Args:
        address: ``host:port`` of the dashboard.
        token: the cluster token, read at each call.
    """

    def __init__(self, address: Callable[[], str], token: Callable[[], str]) -> None:
        self._address = address
        self._token = token
        self._session: aiohttp.ClientSession | None = None
        self._session_name = (-_SESSION_S - 1.0, "")
        self._lock = asyncio.Lock()

    async def close(self) -> None:
        """Close what is open."""
        if self._session is not None:
            await self._session.close()

    async def info(self, ray_id: str) -> dict[str, Any] | None:
        """Ray's ``JobDetails`` of a submission; None where it knows none of this id.

        Raises:
            RaySilentError: nobody knows.
        """
        status, body = await self.get(f"/api/jobs/{quote(ray_id, safe='')}")
        return None if status == 404 else _object(status, body)

    async def all(self) -> list[dict[str, Any]]:
        """Every job that Ray knows, the drivers that were not submitted included.

        Raises:
            RaySilentError: nobody knows.
        """
        status, body = await self.get("/api/jobs/")
        found = _read(status, body)
        return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []

    async def logs(self, ray_id: str) -> str:
        """All of a driver's log; ``""`` where Ray has none.

        Raises:
            RaySilentError: it cannot be had, or is too long.
        """
        status, body = await self.get(f"/api/jobs/{quote(ray_id, safe='')}/logs")
        return "" if status == 404 else str(_object(status, body).get("logs") or "")

    async def tail(self, ray_id: str) -> AsyncIterator[str]:
        """A driver's log from its first line on, as it grows, until Ray closes it.

        Raises:
            RaySilentError: it cannot be had.
        """
        url = f"http://{self._address()}/api/jobs/{quote(ray_id, safe='')}/logs/tail"
        try:
            async with self._open().ws_connect(url, headers=self._headers(), max_msg_size=0, heartbeat=30) as socket:
                async for message in socket:
                    if message.type is aiohttp.WSMsgType.TEXT:
                        yield message.data
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise RaySilentError(str(error)) from error

    async def session_name(self) -> str:
        """The name of the Ray session, a few seconds old at most; ``""`` while Ray does not answer."""
        async with self._lock:
            asked_at, name = self._session_name
            if time.monotonic() - asked_at > _SESSION_S:
                try:
                    status, _, body = await self.page("/api/version", timeout_s=_VERSION_TIMEOUT_S)
                    name = str(_object(status, body).get("session_name") or "")
                except RaySilentError:
                    name = ""
                self._session_name = time.monotonic(), name
        return name

    async def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of one page.

        Raises:
            RaySilentError: there is no answer.
        """
        status, _, body = await self.page(path)
        return status, body

    async def page(self, path: str, timeout_s: float = _TIMEOUT_S) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body of one page; ``path`` is passed on as it is.

        Raises:
            RaySilentError: there is no answer.
        """
        url = URL(f"http://{self._address()}{path}", encoded=True)
        try:
            timeout = aiohttp.ClientTimeout(total=timeout_s)
            async with self._open().get(url, headers=self._headers(), timeout=timeout, allow_redirects=False) as answer:
                body = await answer.content.read(_LONGEST_ANSWER)
                while not answer.content.at_eof() and len(body) < _LONGEST_ANSWER:
                    body += await answer.content.read(_LONGEST_ANSWER - len(body))
                if not answer.content.at_eof():
                    raise RaySilentError(f"the answer is longer than {_LONGEST_ANSWER} bytes")
                return answer.status, answer.headers, body
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise RaySilentError(str(error)) from error

    def _headers(self) -> dict[str, str]:
        # Ray hides the values of environment variables from browsers, and lets them change nothing: both is wanted.
        return {"Authorization": f"Bearer {self._token()}", "User-Agent": "Mozilla/5.0 (fabric gateway)"}

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(trust_env=False)
        return self._session


def ray_version() -> dict[str, str]:
    """What ``GET /api/version`` says of this installation, without importing Ray; the session is not known here."""
    spec = find_spec("ray")
    commit = ""
    if spec is not None and spec.origin is not None:
        text = (Path(spec.origin).parent / "_version.py").read_text(encoding="utf-8")
        commit = next((line.split('"')[1] for line in text.splitlines() if line.startswith("commit = ")), "")
    return {"version": API_VERSION, "ray_version": version("ray"), "ray_commit": commit, "session_name": ""}


def _object(status: int, body: bytes) -> dict[str, Any]:
    found = _read(status, body)
    return found if isinstance(found, dict) else {}


def _read(status: int, body: bytes) -> Any:
    if status != 200:
        raise RaySilentError(f"Ray answered {status}")
    try:
        return json.loads(body)
    except ValueError as error:
        raise RaySilentError(str(error)) from error
