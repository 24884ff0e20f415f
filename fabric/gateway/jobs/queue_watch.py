"""What the queue says of waiting jobs: the controller's ``GET /queue``, asked once a second while somebody wants it."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import aiohttp

from fabric.admission.records import JobRecord
from fabric.model.jobs import JobPhase

EVERY_S = 1.0
_WANTED_S = 15.0
_TIMEOUT_S = 2.0
_SILENT_S = 3.0
_AT_ONCE = 4
_MOST_KEPT = 20_000

SILENT = "The controller does not answer now; the job keeps its place in the queue."
NEW = "It is in the queue; nothing has been decided about it yet."
ADMITTED = "It has been admitted and is being handed to Ray."


class QueueWatch:
    """Remembers the sentence of every waiting job. Used from the event loop only.

    Args:
        url: the controller's ``/queue``.
    """

    def __init__(self, url: Callable[[], str]) -> None:
        self._url = url
        self._session: aiohttp.ClientSession | None = None
        self._sentences: dict[str, str] = {}
        self._single: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._at_once = asyncio.Semaphore(_AT_ONCE)
        self._wanted_at = -_WANTED_S
        self._failing_since: float | None = None
        self._whole = True
        self._wake = asyncio.Event()

    @property
    def silent(self) -> bool:
        """Whether the controller has not answered for a while."""
        return self._failing_since is not None and time.monotonic() - self._failing_since > _SILENT_S

    def want(self) -> None:
        """Have the controller asked for a while."""
        self._wanted_at = time.monotonic()
        self._wake.set()

    def seen(self, record: JobRecord) -> str:
        """The sentence as it is known now, without asking anybody."""
        if record.phase is JobPhase.ADMITTED:
            return ADMITTED
        if record.phase is not JobPhase.WAITING:
            return ""
        self.want()
        job = record.request.job
        known = self._sentences.get(job) or self._single.get(job, (0.0, ""))[1]
        return SILENT if self.silent else known or NEW

    async def of(self, record: JobRecord) -> str:
        """The sentence; a job far down the queue is asked about by itself, some at a time."""
        said = self.seen(record)
        job = record.request.job
        asked_at = self._single.get(job, (-EVERY_S * 5, ""))[0]
        far_down = not self._whole and job not in self._sentences
        if record.phase is not JobPhase.WAITING or not far_down or time.monotonic() - asked_at < EVERY_S * 5:
            return said
        if self._at_once.locked():
            return said
        async with self._at_once:
            answer = await self._get(f"?job={quote(job, safe='')}")
        told = answer.get("job") if answer else None
        if isinstance(told, dict):
            self._single[job] = (time.monotonic(), str(told.get("sentence") or ""))
            self._single.move_to_end(job)
            while len(self._single) > _MOST_KEPT:
                self._single.popitem(last=False)
        return self.seen(record)

    async def follow(self) -> None:
        """Ask until cancelled."""
        try:
            while True:
                if time.monotonic() - self._wanted_at > _WANTED_S:
                    self._wake.clear()
                    await self._wake.wait()
                answer = await self._get("")
                if answer is None:
                    self._failing_since = self._failing_since or time.monotonic()
                else:
                    self._failing_since = None
                    self._take(answer)
                await asyncio.sleep(EVERY_S)
        finally:
            if self._session is not None:
                await self._session.close()

    def _take(self, answer: dict[str, Any]) -> None:
        waiting = [each for each in answer.get("waiting") or [] if isinstance(each, dict)]
        self._sentences = {str(each.get("job")): str(each.get("sentence") or "") for each in waiting}
        counts = answer.get("counts")
        total = counts.get("waiting") if isinstance(counts, dict) else None
        self._whole = not isinstance(total, int) or total <= len(waiting)

    async def _get(self, query: str) -> dict[str, Any] | None:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                trust_env=False, timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S), raise_for_status=True
            )
        try:
            async with self._session.get(self._url() + query) as answer:
                found = await answer.json(content_type=None)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            return None
        return found if isinstance(found, dict) else None
