"""Driver logs, copied as they grow to ``<state>/jobs/<job>/attempt-<n>.log``: they outlive Ray, the head and the node.

Ray sends the lines of a driver over a WebSocket, from the first one on each time. How much of it has been copied is
the length of the file, so a restart goes on where it was, without a note that could disagree with the file.

A log that grows beyond ``HEAD_BYTES + TAIL_BYTES`` keeps its beginning and its end, and a line says how much is left
out between them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import structlog

from autoscaler.shell.ray_jobs import RayJob, RayJobs, RayRefusedError, RayUnreachableError
from fabric.admission.records import Attempt, JobRecord

HEAD_BYTES = 32 * 1024 * 1024
TAIL_BYTES = 32 * 1024 * 1024
_GAP = re.compile(rb"\n\[fabric: (\d{15}) bytes are left out here\]\n")
_GAP_LINE = "\n[fabric: {:015d} bytes are left out here]\n"
# The rest of a log up to this is read in one piece when the job is over; of a longer one Ray sends the end.
_READ_WHOLE = 8 * 1024 * 1024
# Once a job is over Ray closes its log by itself, within two seconds.
_LAST_LINES_S = 10.0
_PATIENCE_S = 5.0
_LAST_LINES = 64 * 1024


def log_file(state: Path, job: str, attempt: int) -> Path:
    """Where the log of an attempt is kept. A job's id is a name that a user chose: it never leads out of there."""
    folder = quote(job, safe="")
    return state / "jobs" / (folder if folder.strip(".") else f"%{folder}") / f"attempt-{attempt}.log"


class LogFile:
    """A log that is appended to and bounded.

    Args:
        path: its file; made with its folder when there is something to write.
        head: bytes of the beginning that are kept.
        tail: bytes of the end that are kept; up to twice as many until the next time they are cut.
    """

    def __init__(self, path: Path, head: int = HEAD_BYTES, tail: int = TAIL_BYTES) -> None:
        self._path = path
        self._head = head
        self._tail = tail

    def copied(self) -> int:
        """How many bytes of the source are in the file, or counted in its gap."""
        try:
            size = self._path.stat().st_size
        except FileNotFoundError:
            return 0
        gap = self._gap()
        return size if gap is None else size - len(gap[0]) + gap[1]

    def append(self, content: bytes) -> None:
        """Add what comes next.

        Raises:
            OSError: it cannot be written; nothing of it may be there, or a part.
        """
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(self._path, "ab", opener=_private) as file:
            file.write(content)
            size = file.tell()
        if size > self._head + 2 * self._tail:
            self._cut(size)

    def _gap(self) -> tuple[bytes, int] | None:
        try:
            with self._path.open("rb") as file:
                file.seek(self._head)
                found = _GAP.match(file.read(len(_GAP_LINE.format(0))))
        except OSError:
            return None
        return (found[0], int(found[1])) if found else None

    def _cut(self, size: int) -> None:
        gap = self._gap()
        left_out = size - self._head - self._tail + (gap[1] - len(gap[0]) if gap else 0)
        draft = self._path.with_suffix(".new")
        with self._path.open("rb") as old, open(draft, "wb", opener=_private) as new:
            new.write(old.read(self._head))
            new.write(_GAP_LINE.format(left_out).encode())
            old.seek(size - self._tail)
            new.write(old.read())
        draft.replace(self._path)


class JobLogs:
    """``Follower`` that copies logs, one WebSocket for each running attempt, all in one thread.

    Args:
        ray: Ray's Jobs API.
        address: ``host:port`` of Ray's dashboard.
        token: file with the cluster token.
        state: the state directory.
    """

    def __init__(self, ray: RayJobs, address: Callable[[], str], token: Path, state: Callable[[], Path]) -> None:
        self._ray = ray
        self._address = address
        self._token = token
        self._state = state
        self._loop = asyncio.new_event_loop()
        self._copies: dict[str, asyncio.Task[None]] = {}
        self._thread = threading.Thread(target=self._loop.run_forever, name="job-logs", daemon=True)
        self._log = structlog.get_logger()

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def close(self) -> None:
        """Stop copying; the next start goes on."""
        if self._thread.is_alive():
            with contextlib.suppress(TimeoutError):
                self._call(self._end()).result(_PATIENCE_S)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_PATIENCE_S)
        if not self._thread.is_alive():
            self._loop.close()

    def look(self, record: JobRecord, attempt: Attempt, job: RayJob) -> None:
        """See ``Follower``. The last look returns when all of the log is there, or cannot be had."""
        file = LogFile(log_file(self._state(), record.request.job, attempt.number))
        if not job.is_over:
            self._call(self._follow(attempt.ray_id, file))
        elif file.copied() < _READ_WHOLE:
            self._call(self._leave(attempt.ray_id, 0.0)).result(_PATIENCE_S)
            self._rest(attempt.ray_id, file)
        else:
            self._call(self._follow(attempt.ray_id, file))
            self._call(self._leave(attempt.ray_id, _LAST_LINES_S)).result(_LAST_LINES_S + _PATIENCE_S)

    def last_lines(self, record: JobRecord, attempt: Attempt) -> str:
        """The end of what an attempt printed, as far as it was copied."""
        try:
            with log_file(self._state(), record.request.job, attempt.number).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _LAST_LINES))
                return file.read().decode(errors="replace")
        except OSError:
            return ""

    def _call(self, work: Coroutine[Any, Any, None]) -> Future[None]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _rest(self, ray_id: str, file: LogFile) -> None:
        """What was printed since the last line that was copied, without waiting for Ray to close the log."""
        try:
            content = (self._ray.log(ray_id) or "").encode(errors="replace")
        except (RayRefusedError, RayUnreachableError) as error:
            self._log.info("the end of a job's log cannot be had", ray_id=ray_id, error=str(error))
            return
        if fresh := content[file.copied() :]:
            file.append(fresh)

    async def _follow(self, ray_id: str, file: LogFile) -> None:
        copy = self._copies.get(ray_id)
        if copy is None or copy.done():
            self._copies[ray_id] = asyncio.ensure_future(self._copy(ray_id, file))

    async def _leave(self, ray_id: str, wait_s: float) -> None:
        copy = self._copies.pop(ray_id, None)
        if copy is not None:
            await asyncio.wait([copy], timeout=wait_s)
            copy.cancel()
            # Its farewell to Ray may take long; it writes nothing more.
            await asyncio.wait([copy], timeout=0.2)

    async def _copy(self, ray_id: str, file: LogFile) -> None:
        """Copy until Ray closes the log, or the connection breaks: then the next look begins again."""
        url = f"http://{self._address()}/api/jobs/{quote(ray_id, safe='')}/logs/tail"
        headers = {"Authorization": f"Bearer {self._token.read_text().strip()}"}
        skip = file.copied()
        try:
            async with (
                aiohttp.ClientSession(headers=headers) as session,
                session.ws_connect(url, max_msg_size=0, heartbeat=30) as socket,
            ):
                async for message in socket:
                    if message.type is aiohttp.WSMsgType.TEXT:
                        content = str(message.data).encode(errors="replace")
                        fresh, skip = content[skip:], max(0, skip - len(content))
                        if fresh:
                            # In this thread: once the copy is cancelled, nothing of it is still being written.
                            file.append(fresh)
        except (aiohttp.ClientError, OSError) as error:
            self._log.info("a job's log cannot be copied just now", ray_id=ray_id, error=str(error))

    async def _end(self) -> None:
        for copy in self._copies.values():
            copy.cancel()
        await asyncio.gather(*self._copies.values(), return_exceptions=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
