"""The log of a job: what its attempts printed, one after the other, and following it until the job is over."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

from fabric.admission.records import Attempt, JobRecord
from fabric.gateway.jobs.queue_watch import QueueWatch
from fabric.gateway.jobs.ray import RayClient, RaySilentError
from fabric.gateway.jobs.register import JobRegister

LOOK_S = 0.3
SAY_AFTER_S = 10.0
SAY_AGAIN_S = 30.0
LIVE_AGAIN_S = 2.0
CHUNK = 64 * 1024
_LONGEST_MARK = 64
# How the copier of logs marks what it left out of a log that had grown too long.
_GAP = re.compile(rb"\n\[fabric: (\d{15}) bytes are left out here\]\n")
HEAD_BYTES = 32 * 1024**2


class KeptLog:
    """The copy of one attempt's log. A position in it counts the bytes Ray sent, those that were left out included.

    Args:
        path: its file; it need not be there yet.
        head: bytes of the beginning that the copier keeps of a log that has grown too long.
    """

    def __init__(self, path: Path, head: int = HEAD_BYTES) -> None:
        self._path = path
        self._head = head

    def read(self, position: int, most: int = CHUNK) -> tuple[bytes, int]:
        """Bytes from ``position`` on, and the position after them; ``b""`` where there is no more yet."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._head)
                gap = _GAP.match(file.read(_LONGEST_MARK))
                if gap is None:
                    file.seek(position)
                    content = file.read(most)
                    return content, position + len(content)
                mark, left_out = len(gap[0]), int(gap[1])
                if position < self._head:
                    file.seek(position)
                    content = file.read(min(most, self._head - position))
                    return content, position + len(content)
                behind = self._head + left_out
                if position < behind:
                    # What is left out, or was cut while it was read: the mark stands for it.
                    return gap[0], behind
                file.seek(position - left_out + mark)
                content = file.read(most)
                return content, position + len(content)
        except OSError:
            return b"", position

    def all(self) -> bytes:
        """Everything that is kept."""
        try:
            return self._path.read_bytes()
        except OSError:
            return b""


class JobLogs:
    """Reads logs. Used from the event loop only; files are read in threads.

    Args:
        state: the state directory.
        ray: asked for the log of an attempt that runs.
        register: where the job stands.
        queue: what is said while it waits.
    """

    def __init__(self, state: Path, ray: RayClient, register: JobRegister, queue: QueueWatch) -> None:
        self._state = state
        self._ray = ray
        self._register = register
        self._queue = queue

    async def all(self, record: JobRecord) -> str:
        """What every attempt printed up to now."""
        parts: list[str] = []
        for attempt in record.attempts:
            if attempt.number > 1:
                parts.append(_begins(record, attempt))
            parts.append(await self._of(record, attempt))
        return "".join(parts)

    async def follow(self, record: JobRecord) -> AsyncIterator[str]:
        """The log as it grows, over the queue and every attempt, until the job is over."""
        job, number, decoder = record.request.job, 0, _decoder()
        waits = _Waits(self._queue)
        position = 0
        while True:
            record = self._register.find(job) or record
            if len(record.attempts) > number and (number == 0 or position < 0):
                number, position, decoder = number + 1, 0, _decoder()
                if number > 1:
                    yield _begins(record, record.attempts[number - 1])
            if number == 0 or position < 0:
                if record.phase.is_over:
                    return
                said = waits.news(record)
                if said:
                    yield said
                await asyncio.sleep(LOOK_S)
                continue
            attempt = record.attempts[number - 1]
            content, position = await asyncio.to_thread(self._kept(job, number).read, position)
            if content:
                yield decoder.decode(content)
            elif attempt.ended_at is not None or record.phase.is_over:
                position = -1
            elif self._queue.silent and attempt.started_at is not None:
                async for chunk, behind in self._live(attempt, position):
                    position = behind
                    yield chunk
                await asyncio.sleep(LIVE_AGAIN_S)
            else:
                self._queue.want()
                await asyncio.sleep(LOOK_S)

    async def _of(self, record: JobRecord, attempt: Attempt) -> str:
        if attempt.ended_at is None and attempt.started_at is not None:
            with contextlib.suppress(RaySilentError):
                return await self._ray.logs(attempt.ray_id)
        content = await asyncio.to_thread(self._kept(record.request.job, attempt.number).all)
        return content.decode(errors="replace")

    async def _live(self, attempt: Attempt, position: int) -> AsyncIterator[tuple[str, int]]:
        """From Ray itself, while nobody copies it: from ``position`` on."""
        skip = position
        with contextlib.suppress(RaySilentError):
            async for lines in self._ray.tail(attempt.ray_id):
                content = lines.encode(errors="replace")
                fresh, skip = content[skip:], max(0, skip - len(content))
                if fresh:
                    position += len(fresh)
                    yield fresh.decode(errors="replace"), position

    def _kept(self, job: str, number: int) -> KeptLog:
        return KeptLog(self._state / "jobs" / job / f"attempt-{number}.log")


class _Waits:
    """Says why a job waits, to somebody who follows it: not at once, and not too often."""

    def __init__(self, queue: QueueWatch) -> None:
        self._queue = queue
        self._since = time.monotonic()
        self._said_at = -SAY_AGAIN_S
        self._said = ""

    def news(self, record: JobRecord) -> str:
        now = time.monotonic()
        sentence = self._queue.seen(record)
        if now - self._since < SAY_AFTER_S or now - self._said_at < SAY_AGAIN_S or sentence in ("", self._said):
            return ""
        self._said, self._said_at = sentence, now
        return f"[fabric: {sentence}]\n"


def _begins(record: JobRecord, attempt: Attempt) -> str:
    before = record.attempts[attempt.number - 2]
    why = f"attempt {before.number} was {before.end.value}" if before.end else "the attempt before is over"
    return f"[fabric: attempt {attempt.number} begins; {why}: {before.message or 'no reason was given.'}]\n"


def _decoder() -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder("utf-8")(errors="replace")
