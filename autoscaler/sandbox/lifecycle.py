"""The one thread that boots machines, watches them, ends them and writes down what happened.

What is wanted stands in the store, what is true is on the host; each step brings the second to the first. It
sleeps until a machine ends, a call wakes it, or something falls due.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections.abc import Callable, Iterator

import structlog

from autoscaler.providers.base import InstanceState
from autoscaler.sandbox.faults import Faults, reclaim_after_ms
from autoscaler.sandbox.hypervisor import Hypervisor
from autoscaler.sandbox.network import NetworkError
from autoscaler.sandbox.store import Record, Store
from fabric.model.nodes import Market

SPOT_RECLAIM = "spot reclaim"
HOST_FAILURE = "host failure"
POWERED_OFF = "powered off"
OVERDUE_MS = 6_000
IDLE_MS = 1000
STARTING_MS = 20

_log = structlog.get_logger("sandbox")


class Lifecycle:
    """Brings the machines of a site where the store says they should be."""

    def __init__(self, store: Store, faults: Faults, hypervisor: Hypervisor, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._faults = faults
        self._hypervisor = hypervisor
        self._now_ms = now_ms
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._stopping = threading.Event()
        self._crashes: set[str] = set()
        self._power_off_sent: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="lifecycle", daemon=True)

    def start(self) -> None:
        """Begin, with whatever a server before this one left."""
        self._thread.start()

    def wake(self) -> None:
        """Something was written down: look now."""
        os.eventfd_write(self._wake, 1)

    def crash(self, instance_id: str) -> None:
        """Let the hardware under an instance fail."""
        self._crashes.add(instance_id)
        self.wake()

    def stop(self) -> None:
        """Stop looking; machines go on."""
        self._stopping.set()
        self.wake()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                due_ms = self._step()
                self._sleep(max(0, due_ms - self._now_ms()))
            except Exception:  # the cloud's heart: whatever happens to one beat, there is a next
                _log.exception("lifecycle.trouble")
                self._stopping.wait(IDLE_MS / 1000)

    def _step(self) -> int:
        """Look at every live instance once; when to look again at the latest (Unix ms)."""
        now_ms = self._now_ms()
        due = [now_ms + IDLE_MS]
        for record in self._store.live():
            try:
                due += self._look_at(record, now_ms)
            except (OSError, NetworkError) as error:
                _log.error("machine.trouble", instance=record.id, error=str(error))
        return min(due)

    def _look_at(self, record: Record, now_ms: int) -> Iterator[int]:
        """Do what is due for one instance; yields when the next thing is."""
        if record.id in self._crashes:
            self._crashes.discard(record.id)
            self._hypervisor.kill(record.id)
            self._finish(record, now_ms, HOST_FAILURE)
        elif record.state is InstanceState.PENDING:
            yield from self._boot_if_due(record, now_ms)
        elif not self._hypervisor.runs(record.id):
            self._finish(record, now_ms, POWERED_OFF)
        elif record.state is InstanceState.RUNNING:
            yield from self._reclaim_if_due(record, now_ms)
        else:
            yield from self._end(record, now_ms)

    def _boot_if_due(self, record: Record, now_ms: int) -> Iterator[int]:
        if record.reclaim_at_ms is not None and record.reclaim_at_ms <= now_ms:
            self._ask_to_end(record, now_ms, SPOT_RECLAIM)
        elif record.boot_at_ms is not None and record.boot_at_ms > now_ms:
            yield record.boot_at_ms
        elif record.boot_at_ms is not None:
            yield self._boot(record, now_ms)
        if record.reclaim_at_ms is not None:
            yield record.reclaim_at_ms

    def _boot(self, record: Record, now_ms: int) -> int:
        up_since_ms = self._hypervisor.up_since_ms(record.id)
        if up_since_ms is None:
            on_its_way = self._hypervisor.boot(record.id, record.address)
            return now_ms + (STARTING_MS if on_its_way else IDLE_MS)
        running = {"state": InstanceState.RUNNING, "running_at_ms": up_since_ms}
        self._store.update(record.id, (InstanceState.PENDING,), **running, pid=self._hypervisor.pid(record.id))
        _log.info("machine.booted", instance=record.id, token=record.token, address=record.address)
        return now_ms

    def _reclaim_if_due(self, record: Record, now_ms: int) -> Iterator[int]:
        if record.reclaim_at_ms is not None:
            if record.reclaim_at_ms <= now_ms:
                self._ask_to_end(record, now_ms, SPOT_RECLAIM)
            yield record.reclaim_at_ms
        elif record.market is Market.SPOT and record.running_at_ms is not None:
            for number, scripted_at_ms, fault in self._faults.reclaims():
                begin_ms = max(record.running_at_ms, scripted_at_ms)
                notice_at_ms = begin_ms + reclaim_after_ms(fault, record.token)
                if notice_at_ms <= now_ms:
                    self._store.update(record.id, reclaim_at_ms=now_ms + round(1000 * fault.notice))
                    self._faults.used(number)
                    yield now_ms
                    return
                yield notice_at_ms

    def _ask_to_end(self, record: Record, now_ms: int, reason: str) -> None:
        awake = (InstanceState.PENDING, InstanceState.RUNNING)
        self._store.update(record.id, awake, state=InstanceState.ENDING, end_asked_at_ms=now_ms, reason=reason)

    def _end(self, record: Record, now_ms: int) -> Iterator[int]:
        overdue_ms = (record.end_asked_at_ms or now_ms) + OVERDUE_MS
        if now_ms >= overdue_ms:
            self._hypervisor.kill(record.id)
            yield now_ms + 100
        elif record.id not in self._power_off_sent and self._hypervisor.power_off(record.id):
            self._power_off_sent.add(record.id)
            yield overdue_ms
        else:
            yield overdue_ms if record.id in self._power_off_sent else now_ms + STARTING_MS

    def _finish(self, record: Record, now_ms: int, default_reason: str) -> None:
        """Write down the end of an instance whose machine does not run (any more)."""
        exit_ = self._hypervisor.collect(record.id, fallback_ms=now_ms)
        by_itself = default_reason if exit_.code is not None else HOST_FAILURE
        never_ran = record.running_at_ms is None and exit_.code is None
        reason = record.reason or (default_reason if never_ran else by_itself)
        self._hypervisor.release(record.id, record.address)
        self._store.update(
            record.id,
            state=InstanceState.ENDED,
            ended_at_ms=max(exit_.ended_at_ms, record.launched_at_ms),
            end_asked_at_ms=record.end_asked_at_ms or exit_.ended_at_ms,
            reason=reason,
        )
        self._power_off_sent.discard(record.id)
        _log.info("machine.ended", instance=record.id, token=record.token, reason=reason, code=exit_.code)

    def _sleep(self, timeout_ms: int) -> None:
        """Until a machine ends, a call wakes us, or the time is up."""
        watched = [fd for record in self._store.live() if (fd := self._hypervisor.watch(record.id)) is not None]
        poll = select.poll()
        for fd in [self._wake, *watched]:
            poll.register(fd, select.POLLIN)
        try:
            poll.poll(min(timeout_ms, IDLE_MS))
        finally:
            for fd in watched:
                os.close(fd)
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
