"""The controller: everything it is made of, wired in one place, and its tick."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import structlog

from autoscaler.boot.trust import cluster_token_file
from autoscaler.core.configured import home_nodes
from autoscaler.providers.decorate import Observed, RateLimited
from autoscaler.providers.registry import provider_for
from autoscaler.ray.autoscaler import FabricAutoscaler, HeadLink, HeadReplacedError, HeadUnreachableError, RayNode
from autoscaler.ray.config import AutoscalerTerms, FabricConfigReader
from autoscaler.ray.provider import FabricProvider
from autoscaler.ray.scheduler import FabricScheduler
from autoscaler.shell.book import Book
from autoscaler.shell.brain import Brain
from autoscaler.shell.buy import Buyer
from autoscaler.shell.fleet import BurstFleet
from autoscaler.shell.home import HomeWatch
from autoscaler.shell.job_book import JobBook
from autoscaler.shell.jobs import Jobs
from autoscaler.shell.loop import Lookout, Loop
from autoscaler.shell.orders import OrderDesk
from autoscaler.shell.purse import Purse
from autoscaler.shell.receipts import receipts
from autoscaler.shell.serve import Page, Server, metrics_page
from autoscaler.shell.sites import Sites, SiteWatch, controller_patience
from autoscaler.shell.status import Sources, measure, status
from autoscaler.shell.sweep import Sweep
from fabric.config.reload import ConfigFile, Outcome, Reload
from fabric.config.resolve import node_types
from fabric.config.schema import Config
from fabric.config.sites import OnPremSite
from fabric.journal.base import Draft, Journal
from fabric.model.events import Event
from fabric.sovereignty.record import rules_record
from fabric.sovereignty.widen import RulesBook, widening_facts
from fabric.telemetry.emit import Metrics, take_over
from fabric.telemetry.names import REFUSED_TO_END

_LOOK_AT_CONFIG_EVERY_S = 1.0
# After so many failed ticks the link to the head is made anew: the head may be another one.
_NEW_LINK_AFTER = 5


class Controller:
    """The controller process, between its start and its end.

    Args:
        config_path: the configuration file.
        keep: a file that always holds the last good configuration; None for none.
        open_journal: opens the journal of a configuration.
        clock: Unix seconds.

    Raises:
        BadConfigError: the configuration is bad and nothing good was kept.
        JournalUnavailableError: the journal cannot be opened or written.
        OSError: the address for status and metrics is taken.
    """

    def __init__(
        self,
        config_path: Path,
        keep: Path | None,
        open_journal: Callable[[Config], Journal],
        clock: Callable[[], float] = time.time,
    ) -> None:
        take_over("ray")
        self._clock = clock
        self._log = structlog.get_logger()
        self._metrics = Metrics()
        self._file = ConfigFile(config_path, live=self._live_types, keep=keep)
        self._journal = open_journal(self._config())
        self._purse = Purse(self._config)
        job_book = JobBook()
        self._rules = RulesBook()
        self._book = Book(self._journal, self._purse.take, job_book.take, self._rules.take)
        self._book.refresh()
        self._loop = Loop(self._tick, clock, self._metrics)
        self._jobs = Jobs(
            self._config,
            self._book,
            job_book,
            lambda: self._link.session if self._link else "",
            clock,
            self._metrics,
            self._loop.wake,
        )
        self._home = HomeWatch(lambda: home_nodes(self._config()), self._book, clock)
        self._sites = Sites(self._watch)
        self._buyer = Buyer(
            self._sites.providers,
            self._book,
            OrderDesk(self._config, clock),
            self._room,
            clock,
            self._metrics,
            self._loop.wake,
        )
        self._brain = Brain(
            self._config,
            self._book,
            self._sites.offers,
            self._home.views,
            self._purse.rooms,
            receipts(),
            clock,
            self._metrics,
            self._jobs.turn,
        )
        self._fleet = BurstFleet(self._book, self._buyer, self._home, self._brain, self._sites.views, self._sites.kick)
        self._link: HeadLink | None = None
        self._autoscaler: FabricAutoscaler | None = None
        self._link_error = "not connected yet"
        self._looked_at = 0.0
        self._sources = Sources(
            file=self._file,
            book=self._book,
            brain=self._brain,
            sites=self._sites,
            purse=self._purse,
            beat=lambda: self._loop.beat,
            head=lambda: self._link_error,
            started_at=clock(),
            clock=clock,
        )

    def run(self) -> None:
        """Work until ``stop`` is called."""
        server = Server(
            self._config().listen.controller,
            {
                "/healthz": self._health,
                "/status": lambda: Page.of_json(status(self._sources)),
                "/metrics": metrics_page(self._exposition),
            },
            asked={"/queue": self._jobs.page},
        )
        try:
            facts = {"process": "controller", "pid": os.getpid(), "config_digest": self._file.digest}
            self._book.append(*self._with_rules(Draft(Event.FABRIC_STARTED, facts)))
            self._keep_sites()
            self._jobs.start()
            Lookout(self._look, self._loop.wake, self._loop.stopping).start()
            self._log.info("controller runs", address=self._config().listen.controller)
            self._loop.run()
        finally:
            self._log.info("controller ends")
            server.close()
            self._jobs.close()
            self._buyer.close()
            self._sites.stop()
            self._journal.append([Draft(Event.FABRIC_STOPPING, {"process": "controller"})])
            self._journal.close()

    def stop(self) -> None:
        """End after the tick that is under way. Machines stay: the next start, or the reaper, looks after them."""
        self._loop.stop()

    def _tick(self) -> None:
        self._reload()
        self._jobs.look()
        if self._autoscaler is None or self._loop.beat.failures >= _NEW_LINK_AFTER:
            self._connect()
        assert self._autoscaler is not None  # noqa: S101 - connected, or an exception was raised
        try:
            self._autoscaler.update_autoscaling_state()
        except Exception as error:
            self._link_error = str(error)
            if isinstance(error, HeadReplacedError):
                self._autoscaler = None
            raise
        self._link_error = ""

    def _connect(self) -> None:
        config = self._config()
        try:
            self._link = HeadLink(
                f"{config.ray.address}:{config.ray.port}", cluster_token_file(Path(config.fabric.state))
            )
        except HeadUnreachableError as error:
            self._link_error = str(error)
            raise
        self._autoscaler = FabricAutoscaler(
            self._link,
            FabricConfigReader(self._terms, self._fleet.live_types),
            FabricProvider(self._fleet, lambda _id: self._metrics.count(REFUSED_TO_END)),
            FabricScheduler(brain=self._brain),
            self._observed,
        )

    def _observed(self, nodes: Sequence[RayNode]) -> None:
        self._fleet.observed(nodes)
        self._jobs.observe(nodes)

    def _look(self) -> object:
        return None if self._link is None else self._link.pulse()

    def _reload(self) -> None:
        if self._clock() - self._looked_at < _LOOK_AT_CONFIG_EVERY_S:
            return
        self._book.refresh()
        found = self._file.poll()
        if found.outcome is not Outcome.UNCHANGED:
            self._note(found)
        elif self._rules.digest != self._file.digest:
            # The journal could not be written when the edit came: nothing is decided by rules that are not in it.
            self._note(Reload(Outcome.CHANGED, self._file.digest))
        self._keep_sites()
        self._looked_at = self._clock()

    def _note(self, found: Reload) -> None:
        facts: dict[str, Any] = {"digest": found.digest, "path": str(self._file.path)}
        if found.outcome is Outcome.CHANGED:
            self._book.append(*self._with_rules(Draft(Event.CONFIG_LOADED, facts)))
            self._log.info("configuration loaded", changes=found.changes)
        else:
            problems = [str(problem) for problem in found.problems]
            self._book.append(Draft(Event.CONFIG_REJECTED, {**facts, "problems": problems}))
            self._log.error("the edited configuration is not taken; the last good one stays", problems=problems)

    def _with_rules(self, draft: Draft) -> list[Draft]:
        """The entry that brings the configuration into force, after one for each class that it lets go further.

        What it is compared with comes from the journal, so an edit made while no controller ran is noticed as well.
        """
        path, digest, before = str(self._file.path), self._file.digest, self._rules.digest
        further = self._rules.widened_by(self._config())
        return [
            *(Draft(Event.CLASS_WIDENED, widening_facts(item, path, digest, before)) for item in further),
            Draft(draft.kind, {**draft.data, "rules": rules_record(self._config())}, draft.once),
        ]

    def _keep_sites(self) -> None:
        named = {name for name, site in self._config().sites.items() if not isinstance(site, OnPremSite)}
        self._sites.keep(named, lambda: {record.site for record in self._book.live().values()})

    def _watch(self, site: str) -> SiteWatch:
        config = self._config()
        cloud = RateLimited(provider_for(site, config.sites[site], config.fabric.name), time.monotonic)
        provider = Observed(site, cloud, self._metrics)
        sweep = Sweep(
            site,
            provider,
            self._book,
            lambda: controller_patience(self._config().burst.grace),
            "controller",
            self._clock,
            self._metrics,
            self._in_flight,
        )
        return SiteWatch(sweep, provider, self._book, self._clock, self._loop.wake)

    def _config(self) -> Config:
        return self._file.current

    def _terms(self) -> AutoscalerTerms:
        config = self._config()
        return AutoscalerTerms(
            node_types=node_types(config),
            maximum_nodes=config.burst.max_nodes,
            idle_s=config.burst.idle,
            pending_idle_s=config.burst.pending_idle,
            join_deadline_s=config.burst.join_deadline,
        )

    def _in_flight(self) -> Collection[str]:
        return self._buyer.in_flight()

    def _room(self, node_type: str) -> int:
        kind = node_types(self._config()).get(node_type)
        living = sum(record.node_type == node_type for record in self._book.live().values())
        return 0 if kind is None else kind.maximum - living

    def _live_types(self) -> frozenset[str]:
        """Asked by the configuration file while the controller is still being put together, too."""
        return self._fleet.live_types() if hasattr(self, "_fleet") else frozenset()

    def _health(self) -> Page:
        beat = self._loop.beat
        return Page.of_json(
            {
                "ok": beat.last_tick > 0 and not beat.error,
                "last_tick": beat.last_tick,
                "pid": os.getpid(),
                "error": beat.error,
            }
        )

    def _exposition(self) -> bytes:
        measure(self._sources, self._metrics)
        return self._metrics.exposition()
