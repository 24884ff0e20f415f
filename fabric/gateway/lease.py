"""How long a machine may live without hearing from us.

A lease says "somebody is there who would end this machine". That somebody is the controller, so for a machine
that costs money a lease ends a lease length after the controller's last sign of life, however often it is
renewed: all such machines are gone one lease after the controller died, not two.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import httpx
import structlog

from fabric.gateway.book import Book

_TIMEOUT_S = 2.0

log = structlog.get_logger()


class ControllerWatch:
    """Looks for signs of life of the controller: its ``/healthz``, and what it appends to the journal.

    Args:
        url: the controller's ``/healthz``.
        book: where its journal entries are seen.
        lease_s: lease length; the watch looks often enough for it.
    """

    def __init__(self, url: str, book: Book, lease_s: float) -> None:
        self._url = url
        self._book = book
        self._pause_s = min(max(lease_s / 60, 0.2), 5.0)
        self._last_tick: float | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="controller-watch", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Stop looking; returns when the thread has ended."""
        self._stopped.set()
        self._thread.join()

    def seen_at(self) -> float | None:
        """When the controller was last known alive (Unix seconds); None if there never was a sign."""
        signs = [at for at in (self._last_tick, self._book.controller_seen_at()) if at is not None]
        return max(signs, default=None)

    def _watch(self) -> None:
        answering: bool | None = None
        with httpx.Client(timeout=_TIMEOUT_S, trust_env=False) as client:
            while not self._stopped.is_set():
                tick = self._ask(client)
                if tick is not None:
                    self._last_tick = tick
                if answering is not (tick is not None):
                    answering = tick is not None
                    log.info("controller answers" if answering else "controller does not answer", url=self._url)
                self._stopped.wait(self._pause_s)

    def _ask(self, client: httpx.Client) -> float | None:
        try:
            told = client.get(self._url).json()
        except (httpx.HTTPError, ValueError):
            return None
        tick = told.get("last_tick") if isinstance(told, dict) else None
        return float(tick) if isinstance(tick, (int, float)) and not isinstance(tick, bool) else None


class Leases:
    """Decides until when a machine may live.

    Args:
        lease_s: the configured lease length, asked for each time so that a reload counts.
        seen_at: when the controller was last known alive.
    """

    def __init__(self, lease_s: Callable[[], float], seen_at: Callable[[], float | None]) -> None:
        self._lease_s = lease_s
        self._seen_at = seen_at

    def left_s(self, owned: bool, now: float) -> float:
        """Seconds that a machine may live from ``now``; zero or less when no lease can be given."""
        if owned:
            return self._lease_s()
        seen = self._seen_at()
        return 0.0 if seen is None else min(seen, now) + self._lease_s() - now

    def silent_s(self, now: float) -> float | None:
        """Seconds since the controller's last sign of life; None if there never was one."""
        seen = self._seen_at()
        return None if seen is None else max(now - seen, 0.0)
