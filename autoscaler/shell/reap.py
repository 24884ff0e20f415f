"""The reaper: sweeps every site by owner tag with its own clock, and ends what the journal does not justify.

It trusts tags, the journal and the clock, and nothing that the controller says. Whatever the controller does in
time is left to the controller: every deadline has the grace added.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from autoscaler.core.custody import Patience
from autoscaler.providers.base import Provider, ProviderError
from autoscaler.shell.book import Book
from autoscaler.shell.sweep import Sweep
from fabric.config.schema import BurstBlock, Config
from fabric.config.sites import OnPremSite
from fabric.journal.base import JournalUnavailableError
from fabric.telemetry.emit import Metrics
from fabric.telemetry.names import SWEEPS

_LONGEST_PAUSE_S = 30.0


@dataclass(frozen=True, slots=True)
class SweepResult:
    """How the last sweep of a site went: Unix seconds of the last good one, and the error of a bad one."""

    ok_at: float
    error: str


class Reaper:
    """Sweeps all sites in turn, for ever.

    Args:
        config: the configuration in force.
        provider_for: the provider of a site, by name.
        book: the journal's fold.
        clock: Unix seconds.
        metrics: numbers.
    """

    def __init__(
        self,
        config: Callable[[], Config],
        provider_for: Callable[[str, Config], Provider],
        book: Book,
        clock: Callable[[], float],
        metrics: Metrics,
    ) -> None:
        self._config = config
        self._current = config()
        self._provider_for = provider_for
        self._book = book
        self._clock = clock
        self._metrics = metrics
        self._sweeps: dict[str, Sweep] = {}
        self._results: dict[str, SweepResult] = {}
        self._log = structlog.get_logger()

    def run(self, stopping: threading.Event) -> None:
        """Sweep until ``stopping`` is set."""
        while not stopping.is_set():
            self.sweep()
            stopping.wait(pause_s(self._current.burst))

    def sweep(self) -> None:
        """Sweep every site once; one that does not answer does not keep the others waiting for their turn."""
        self._current = config = self._config()
        for site in [name for name, block in config.sites.items() if not isinstance(block, OnPremSite)]:
            before = self._results.get(site, SweepResult(0.0, ""))
            try:
                self._sweep_of(site, config).run()
            except (ProviderError, JournalUnavailableError) as error:
                self._note(site, SweepResult(before.ok_at, str(error)), before)
            except Exception as error:
                self._log.exception("a sweep failed", site=site)
                self._note(site, SweepResult(before.ok_at, f"{type(error).__name__}: {error}"), before)
            else:
                self._note(site, SweepResult(self._clock(), ""), before)

    def results(self) -> Mapping[str, SweepResult]:
        """How the last sweep of each site went."""
        return dict(self._results)

    def _sweep_of(self, site: str, config: Config) -> Sweep:
        if site not in self._sweeps:
            provider = self._provider_for(site, config)
            self._sweeps[site] = Sweep(site, provider, self._book, self._patience, "reaper", self._clock, self._metrics)
        return self._sweeps[site]

    def _patience(self) -> Patience:
        return patience_of(self._current.burst)

    def _note(self, site: str, result: SweepResult, before: SweepResult) -> None:
        self._results[site] = result
        self._metrics.count(SWEEPS, site=site, result="failed" if result.error else "ok")
        if result.error and result.error != before.error:
            self._log.warning("the site could not be swept", site=site, error=result.error)


def patience_of(burst: BurstBlock) -> Patience:
    """The reaper's patience: the controller's own times, with the grace on top."""
    return Patience(
        stranger_s=burst.grace,
        settle_s=burst.join_deadline + burst.grace,
        missing_s=burst.grace,
        deadline_s=burst.grace,
        ending_s=burst.grace,
    )


def pause_s(burst: BurstBlock) -> float:
    """Seconds between two sweeps: a few within every grace, never more than half a minute apart."""
    return min(max(burst.grace / 4, 0.5), _LONGEST_PAUSE_S)
