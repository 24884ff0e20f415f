"""What Ray says of drivers: asked for seldom, remembered, and kept on disk once an attempt is over."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fabric.admission.records import Attempt, JobRecord
from fabric.gateway.jobs.ray import RayClient, RaySilentError
from fabric.gateway.jobs.register import JobRegister
from fabric.gateway.jobs.show import DRIVER_FIELDS

KEPT_FIELDS = (*DRIVER_FIELDS, "error_type")
_AGAIN_S = 1.0
_PATIENCE_S = 0.5
_MOST_KEPT = 20_000
_NOTHING: Mapping[str, Any] = {}


class Drivers:
    """Remembers the driver's part of ``JobDetails`` for each attempt. Used from the event loop only.

    Args:
        ray: asked at most once a second for each attempt, and for the list of all.
        state: the state directory.
        register: says which attempts have ended.
    """

    def __init__(self, ray: RayClient, state: Path, register: JobRegister) -> None:
        self._ray = ray
        self._state = state
        self._register = register
        self._known: OrderedDict[tuple[str, int], tuple[Mapping[str, Any], bool]] = OrderedDict()
        self._asked: OrderedDict[tuple[str, int], float] = OrderedDict()
        self._asking: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._others: tuple[float, list[dict[str, Any]]] = (-_AGAIN_S, [])
        self._lock = asyncio.Lock()

    def seen(self, record: JobRecord) -> Mapping[str, Any]:
        """What is known of the newest attempt now, without asking anybody."""
        attempt = record.attempt
        if attempt is None:
            return _NOTHING
        return self._known.get((record.request.job, attempt.number), (_NOTHING, False))[0]

    async def of(self, record: JobRecord) -> Mapping[str, Any]:
        """The same, after asking where something is missing; many who ask at once share one question."""
        attempt = record.attempt
        if attempt is None or attempt.started_at is None:
            return _NOTHING
        key = (record.request.job, attempt.number)
        known, final = self._known.get(key, (_NOTHING, False))
        complete = final if attempt.ended_at is not None else known.get("driver_info") is not None
        now = time.monotonic()
        if not complete and now - self._asked.get(key, -_AGAIN_S) >= _AGAIN_S:
            self._asked[key] = now
            self._asked.move_to_end(key)
            while len(self._asked) > _MOST_KEPT:
                self._asked.popitem(last=False)
            self._asking[key] = asyncio.create_task(self._ask(key, attempt))
            self._asking[key].add_done_callback(lambda _: self._asking.pop(key, None))
        if key in self._asking and not complete:
            # Ray may be slow; whoever asks how a job stands is not made to wait for it.
            await asyncio.wait({self._asking[key]}, timeout=_PATIENCE_S)
        return self.seen(record)

    async def others(self) -> list[dict[str, Any]]:
        """What runs in Ray without having come through the queue, as Ray shows it; a second old at most."""
        async with self._lock:
            now = time.monotonic()
            if now - self._others[0] >= _AGAIN_S:
                try:
                    found = await self._ray.all()
                except RaySilentError:
                    found = []
                self._others = (now, found)
        return [each for each in self._others[1] if not self._is_ours(str(each.get("submission_id") or ""))]

    async def keep_what_ended(self) -> None:
        """Note, for each attempt that ends, what Ray last says of it: a head that is replaced forgets it.

        What was noted before this process started is read first.
        """
        for record in self._register.select(lambda _team: True)[-_MOST_KEPT:]:
            if record.attempt is not None and record.attempt.ended_at is not None:
                key = (record.request.job, record.attempt.number)
                kept = await asyncio.to_thread(_read, self._file(key))
                if kept is not None:
                    self._remember(key, kept, final=True)
        while True:
            while self._register.ended:
                record = self._register.find(self._register.ended.popleft())
                if record is not None:
                    await self.of(record)
            await asyncio.sleep(0.5)

    async def _ask(self, key: tuple[str, int], attempt: Attempt) -> None:
        over = attempt.ended_at is not None
        if over:
            kept = await asyncio.to_thread(_read, self._file(key))
            if kept is not None:
                self._remember(key, kept, final=True)
                return
        try:
            found = await self._ray.info(attempt.ray_id)
        except RaySilentError:
            return
        facts = {field: (found or {}).get(field) for field in KEPT_FIELDS} if found else dict(self.seen_of(key))
        self._remember(key, facts, final=over)
        if over:
            await asyncio.to_thread(_write, self._file(key), facts)

    def seen_of(self, key: tuple[str, int]) -> Mapping[str, Any]:
        """What is known of one attempt."""
        return self._known.get(key, (_NOTHING, False))[0]

    def _remember(self, key: tuple[str, int], facts: Mapping[str, Any], *, final: bool) -> None:
        self._known[key] = (facts, final)
        self._known.move_to_end(key)
        while len(self._known) > _MOST_KEPT:
            self._known.popitem(last=False)

    def _file(self, key: tuple[str, int]) -> Path:
        return self._state / "jobs" / key[0] / f"attempt-{key[1]}.json"

    def _is_ours(self, ray_id: str) -> bool:
        job, _, number = ray_id.rpartition(".")
        return bool(ray_id) and (self._register.known(ray_id) or (number.isdigit() and self._register.known(job)))


def _read(path: Path) -> Mapping[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _write(path: Path, facts: Mapping[str, Any]) -> None:
    """A disk that is full costs a note about a driver, nothing else."""
    draft = path.with_suffix(f".{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump(facts, file)
        draft.rename(path)
    except OSError:
        draft.unlink(missing_ok=True)
