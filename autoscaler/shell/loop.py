"""When to tick: at once when something changed, and every second in any case. A tick that fails is only that."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import structlog

from fabric.telemetry.emit import Metrics
from fabric.telemetry.names import LAST_TICK, TICK_SECONDS, TICKS

EVERY_S = 1.0
# Looking for a change costs a call to the head: every 100 ms, but never more than a twentieth of the time.
LOOK_EVERY_S = 0.1
_SHARE = 20


@dataclass(frozen=True, slots=True)
class Beat:
    """How the loop is doing.

    Attributes:
        last_tick: Unix seconds when a tick last ended well; 0 before the first.
        failures: failed ticks since then.
        error: why the newest tick failed; ``""`` when it did not.
    """

    last_tick: float = 0.0
    failures: int = 0
    error: str = ""


class Loop:
    """Runs ticks until stopped.

    Args:
        tick: one tick; whatever it raises is logged and counted, and the next tick comes.
        clock: Unix seconds.
        metrics: numbers.
    """

    def __init__(self, tick: Callable[[], None], clock: Callable[[], float], metrics: Metrics) -> None:
        self.beat = Beat()
        self._tick = tick
        self._clock = clock
        self._metrics = metrics
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._log = structlog.get_logger()

    def wake(self) -> None:
        """Tick now."""
        self._wake.set()

    def stop(self) -> None:
        """Return from ``run`` after the tick that is under way."""
        self._stopping.set()
        self._wake.set()

    @property
    def stopping(self) -> threading.Event:
        """Set once the loop has been asked to stop."""
        return self._stopping

    def run(self) -> None:
        """Tick until stopped."""
        while not self._stopping.is_set():
            self._wake.clear()
            self._once()
            self._wake.wait(EVERY_S)

    def _once(self) -> None:
        try:
            with self._metrics.timed(TICK_SECONDS):
                self._tick()
        except Exception as error:
            sentence = f"{type(error).__name__}: {error}"
            if sentence != self.beat.error:
                self._log.exception("a tick failed; the next one comes")
            self.beat = Beat(self.beat.last_tick, self.beat.failures + 1, sentence)
            self._metrics.count(TICKS, result="failed")
        else:
            self.beat = Beat(self._clock())
            self._metrics.set(LAST_TICK, self.beat.last_tick)
            self._metrics.count(TICKS, result="ok")


class Lookout:
    """A thread that looks for changes between ticks and wakes the loop when it sees one.

    Args:
        look: the present state of what matters, to be compared with the last; may raise, then nothing is known.
        wake: called on a change.
        stopping: set when it is to end.
    """

    def __init__(self, look: Callable[[], object], wake: Callable[[], None], stopping: threading.Event) -> None:
        self._look = look
        self._wake = wake
        self._stopping = stopping
        self._thread = threading.Thread(target=self._run, name="lookout", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def _run(self) -> None:
        seen: object = None
        while not self._stopping.is_set():
            begun = perf_counter()
            try:
                found = self._look()
            except Exception:
                # Whatever is wrong, the next tick meets it too and says so.
                found = None
            if found is not None and found != seen:
                seen = found
                self._wake()
            self._stopping.wait(max(LOOK_EVERY_S, _SHARE * (perf_counter() - begun)))
