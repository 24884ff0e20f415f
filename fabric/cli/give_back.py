"""Giving every instance back from the command line: the same sweep as the controller's and the reaper's.

It needs neither of them, nor Ray: only the journal, the clouds and the clock. The intent to end each launch is
written first, so whoever else is alive, or comes next, goes on with it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from autoscaler.core.custody import Patience
from autoscaler.core.lifecycle import Phase
from autoscaler.providers.base import InstanceState, ProviderError
from autoscaler.providers.registry import provider_for
from autoscaler.shell.book import Book
from autoscaler.shell.sweep import Sweep
from fabric.config.schema import Config
from fabric.config.sites import OnPremSite
from fabric.journal.base import Draft, Journal
from fabric.model.events import Event
from fabric.telemetry.emit import Metrics

CAUSE = "fabric_down"
ACTOR = "cli"
# The controller is stopped before, so nothing is on its way but a call the cloud has already begun to answer.
_PATIENCE = Patience(stranger_s=0.0, settle_s=3.0, missing_s=3.0, deadline_s=0.0, ending_s=0.0)
_LOOK_EVERY_S = 0.3


@dataclass(frozen=True, slots=True)
class Left:
    """What still lives: launch tokens by the journal or a cloud, and the sites that could not be asked, with why."""

    tokens: tuple[str, ...]
    unreachable: tuple[tuple[str, str], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.tokens or self.unreachable)


def give_back(
    config: Config, journal: Journal, *, timeout_s: float, progress: Callable[[Left], None] = lambda _: None
) -> Left:
    """End every instance of every site, and wait until the clouds say that they are gone.

    Returns:
        What was left when ``timeout_s`` had passed; nothing, if all went well.

    Raises:
        JournalUnavailableError: nothing can be written, so nothing more is asked of any cloud.
    """
    # The sweeps keep a log for whoever runs them all day; here the caller shows the progress.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    book, metrics = Book(journal), Metrics()
    book.refresh()
    sites = {name: site for name, site in config.sites.items() if not isinstance(site, OnPremSite)}
    sweeps = {
        name: Sweep(
            name, provider_for(name, site, config.fabric.name), book, lambda: _PATIENCE, ACTOR, time.time, metrics
        )
        for name, site in sites.items()
    }
    deadline = time.monotonic() + timeout_s
    while True:
        _intend(book)
        unreachable = []
        for name, sweep in sweeps.items():
            try:
                sweep.run()
            except ProviderError as error:
                unreachable.append((name, str(error)))
        left = Left(tuple(sorted({*book.live(), *_listed(sweeps)})), tuple(unreachable))
        progress(left)
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(_LOOK_EVERY_S)


def _intend(book: Book) -> None:
    for token, record in book.live().items():
        if record.phase is not Phase.ENDING:
            data = {"token": token, "instance": record.instance, "site": record.site, "cause": CAUSE, "by": ACTOR}
            book.append(Draft(Event.TERMINATE_INTENDED, data))


def _listed(sweeps: dict[str, Sweep]) -> list[str]:
    return [
        token
        for sweep in sweeps.values()
        for token, instance in sweep.view.instances.items()
        if instance.state is not InstanceState.ENDED
    ]
