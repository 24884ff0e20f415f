"""Every site that sells machines, watched in the background: its listing, its prices, and what must end there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog

from autoscaler.core.custody import Patience
from autoscaler.providers.base import Provider, ProviderError
from autoscaler.shell.book import Book
from autoscaler.shell.sweep import SiteView, Sweep
from fabric.journal.base import JournalUnavailableError
from fabric.model.nodes import Offer

_BUSY_S = 1.0
_QUIET_S = 5.0
_LONGEST_PAUSE_S = 10.0
_OFFERS_EVERY_S = 15.0


@dataclass(slots=True)
class SiteWatch:
    """One site: a thread that sweeps it, every second while machines live there, and reads its price list.

    Attributes:
        offers: the price list as last read.
        offers_error: why the last attempt to read it failed; ``""`` when it did not.
    """

    sweep: Sweep
    provider: Provider
    book: Book
    clock: Callable[[], float]
    changed: Callable[[], None]
    offers: tuple[Offer, ...] = ()
    offers_error: str = ""
    _offers_due: float = 0.0
    _kicked: threading.Event = field(default_factory=threading.Event)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to watch."""
        name = f"site-{self.sweep.site}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def kick(self) -> None:
        """Sweep now."""
        self._kicked.set()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Stop watching, after the sweep that is under way."""
        self._stopping.set()
        self._kicked.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        log = structlog.get_logger(site=self.sweep.site)
        pause = _BUSY_S
        while not self._stopping.is_set():
            self._kicked.clear()
            before = _outline(self.sweep.view), self.book.seq, self.offers
            try:
                self._read_offers()
                self.sweep.run()
                pause = _BUSY_S if self.book.live(self.sweep.site) else _QUIET_S
            except (ProviderError, JournalUnavailableError) as error:
                log.warning("the site could not be swept", error=str(error))
                pause = min(pause * 2, _LONGEST_PAUSE_S)
            except Exception:
                log.exception("a sweep failed")
                pause = min(pause * 2, _LONGEST_PAUSE_S)
            if before != (_outline(self.sweep.view), self.book.seq, self.offers):
                self.changed()
            self._kicked.wait(pause)

    def _read_offers(self) -> None:
        if self.clock() < self._offers_due:
            return
        try:
            self.offers = tuple(self.provider.offers())
            self.offers_error = ""
            self._offers_due = self.clock() + _OFFERS_EVERY_S
        except ProviderError as error:
            self.offers_error = str(error)
            raise


class Sites:
    """All watched sites; a new configuration may add some.

    Args:
        make: makes the watch of one site.
    """

    def __init__(self, make: Callable[[str], SiteWatch]) -> None:
        self._make = make
        self._watches: dict[str, SiteWatch] = {}

    def keep(self, names: set[str], needed: Callable[[], set[str]] = set) -> None:
        """Watch exactly these sites; one that is no longer named is watched while machines live there."""
        for name in names - self._watches.keys():
            watch = self._make(name)
            self._watches = {**self._watches, name: watch}
            watch.start()
        for name in self._watches.keys() - names - needed():
            self._watches[name].stop()
            self._watches = {key: watch for key, watch in self._watches.items() if key != name}

    def providers(self) -> Mapping[str, Provider]:
        """By site."""
        return {name: watch.provider for name, watch in self._watches.items()}

    def views(self) -> Mapping[str, SiteView]:
        """The last listing of each site."""
        return {name: watch.sweep.view for name, watch in self._watches.items()}

    def watches(self) -> Mapping[str, SiteWatch]:
        """By site."""
        return self._watches

    def offers(self) -> tuple[Offer, ...]:
        """Everything that can be bought now, as last read."""
        return tuple(offer for watch in self._watches.values() for offer in watch.offers)

    def kick(self, site: str) -> None:
        """Sweep this site now."""
        if site in self._watches:
            self._watches[site].kick()

    def stop(self) -> None:
        """Stop watching."""
        for watch in self._watches.values():
            watch.stop()


def controller_patience(grace_s: float) -> Patience:
    """The controller rules on what it did itself, so it waits only as long as clouds take to list what they made."""
    return Patience(stranger_s=0.0, settle_s=10.0, missing_s=max(grace_s, 10.0), deadline_s=grace_s, ending_s=0.0)


def _outline(view: SiteView) -> object:
    states = tuple((token, instance.state) for token, instance in view.instances.items())
    return states, view.error
