"""What the journal says of launches, refusals and home nodes, kept up by reading its tail."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from autoscaler.core.configured import HOME_PREFIX
from autoscaler.core.lifecycle import InstanceRecord, Phase, step
from fabric.journal.base import AlreadyAppendedError, Draft, Entry, Journal
from fabric.model.events import Event

_CAPACITY = frozenset({"capacity", "quota"})
_STOPS_SITE = frozenset({"credentials"})
_STOPS_TYPE = frozenset({"bad_request", "provider_bug"})
# Several nodes of one request are refused together: that is one refusal.
_SAME_REFUSAL_S = 2.0


@dataclass(frozen=True, slots=True)
class Refusals:
    """Capacity refusals of one offer since it last gave a machine: how many, and when the newest was."""

    count: int
    at: float

    def until(self, first_s: float, longest_s: float) -> float:
        """Unix seconds until which the offer is left alone: the pause doubles with each refusal."""
        return self.at + min(first_s * 2.0 ** min(self.count - 1, 30), longest_s)


@dataclass(frozen=True, slots=True)
class Stop:
    """A person has to look: the cloud does not accept our credentials, or what we ask. ``sentence`` is its word."""

    at: float
    error: str
    sentence: str


@dataclass(frozen=True, slots=True)
class HomeState:
    """What was last written of an on-prem node."""

    alive: bool
    since: float


class Book:
    """The fold of the journal that the controller and the reaper act on. Safe to use from several threads.

    Args:
        journal: read and appended to.
        also: told of every entry, in order.
    """

    def __init__(self, journal: Journal, *also: Callable[[Entry], None]) -> None:
        self._journal = journal
        self._also = also
        self._lock = threading.RLock()
        self._seq = 0
        self._records: dict[str, InstanceRecord] = {}
        self._live: dict[str, InstanceRecord] = {}
        self._refusals: dict[str, Refusals] = {}
        self._families: dict[tuple[str, str], set[str]] = {}
        self._stops: dict[str, Stop] = {}
        self._home: dict[str, HomeState] = {}
        self._decision: Entry | None = None

    def refresh(self) -> bool:
        """Read what was appended since the last call; True when there was something.

        Raises:
            JournalUnavailableError: the journal cannot be read.
        """
        with self._lock:
            before = self._seq
            for entry in self._journal.read(after=self._seq):
                self._take(entry)
                self._seq = entry.seq
            return self._seq != before

    def append(self, *drafts: Draft) -> bool:
        """Append drafts and take them into account; False when a ``once`` key was taken, so nothing was appended.

        Raises:
            JournalUnavailableError: the journal cannot be written.
        """
        try:
            self._journal.append(drafts)
        except AlreadyAppendedError:
            self.refresh()
            return False
        self.refresh()
        return True

    @property
    def seq(self) -> int:
        """Position of the newest entry that was read."""
        return self._seq

    @property
    def last_decision(self) -> Entry | None:
        """The newest decision."""
        return self._decision

    def record(self, token: str) -> InstanceRecord | None:
        """What is known of one launch."""
        with self._lock:
            return self._records.get(token)

    def live(self, site: str | None = None) -> Mapping[str, InstanceRecord]:
        """Launches that may have a machine, by token; of one site if given."""
        with self._lock:
            return {token: record for token, record in self._live.items() if site is None or record.site == site}

    def refusals(self) -> Mapping[str, Refusals]:
        """Offers that were refused since they last gave a machine, by offer id."""
        with self._lock:
            return dict(self._refusals)

    def stops(self) -> Mapping[str, Stop]:
        """Sites and node types that wait for a person, by name. A new configuration clears them."""
        with self._lock:
            return dict(self._stops)

    def home(self) -> Mapping[str, HomeState]:
        """On-prem nodes that were ever written of, by node id."""
        with self._lock:
            return dict(self._home)

    def _take(self, entry: Entry) -> None:
        token = entry.data.get("token")
        if isinstance(token, str) and token and not token.startswith(HOME_PREFIX):
            self._step(token, entry)
        for told in self._also:
            told(entry)
        kind = entry.kind
        if kind == Event.DECISION:
            self._decision = entry
        elif kind == Event.LAUNCH_REFUSED:
            self._refused(entry)
        elif kind == Event.LAUNCH_ACCEPTED:
            self._accepted(str(token))
        elif kind == Event.CONFIG_LOADED:
            self._stops.clear()
        elif kind in (Event.ONPREM_NODE_SEEN, Event.ONPREM_NODE_DEAD):
            self._home[str(entry.data["node"])] = HomeState(kind == Event.ONPREM_NODE_SEEN, entry.at)

    def _step(self, token: str, entry: Entry) -> None:
        if entry.kind == Event.JOIN_REFUSED:
            return
        before = self._records.get(token) or InstanceRecord(token)
        record, _ = step(before, entry)
        self._records[token] = record
        if record.phase is Phase.ENDED or record.phase is Phase.PLANNED:
            self._live.pop(token, None)
        else:
            self._live[token] = record

    def _refused(self, entry: Entry) -> None:
        error, offer = str(entry.data.get("error")), str(entry.data.get("offer"))
        record = self._records.get(str(entry.data.get("token")))
        if error in _CAPACITY:
            known = self._refusals.get(offer)
            again = known is not None and entry.at - known.at > _SAME_REFUSAL_S
            refusal = Refusals((known.count if known else 1) + (1 if again else 0), entry.at)
            for one in self._sharing(entry, offer, record):
                self._refusals[one] = refusal
        elif record is not None and error in _STOPS_SITE | _STOPS_TYPE:
            stopped = record.site if error in _STOPS_SITE else record.node_type
            self._stops[stopped] = Stop(entry.at, error, str(entry.data.get("message", "")))

    def _sharing(self, entry: Entry, offer: str, record: InstanceRecord | None) -> set[str]:
        """The offer, and every other that the same site ever refused for the quota of the same family."""
        family = str(entry.data.get("family") or "")
        if not family or record is None:
            return {offer}
        members = self._families.setdefault((record.site, family), set())
        members.add(offer)
        return members

    def _accepted(self, token: str) -> None:
        record = self._records.get(token)
        if record is not None:
            self._refusals.pop(record.offer, None)
            self._stops.pop(record.site, None)
            self._stops.pop(record.node_type, None)
