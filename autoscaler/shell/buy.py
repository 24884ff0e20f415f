"""Buying machines: intent first, then the cloud, then the next offer if this one refuses.

The tick never waits for a cloud: calls run in worker threads. A request of Ray's for one machine is a *berth*;
it is filled by the first offer that gives a machine, and given up when no offer is left.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum

import structlog

from autoscaler.core.lifecycle import Phase
from autoscaler.providers.base import (
    CapacityError,
    Instance,
    NetworkError,
    Provider,
    ProviderBugError,
    ProviderError,
    QuotaError,
    ThrottledError,
)
from autoscaler.shell.book import Book
from autoscaler.shell.crashpoints import reached
from autoscaler.shell.orders import Order, OrderDesk
from fabric.journal.base import Draft
from fabric.model.events import Event
from fabric.model.nodes import Offer
from fabric.telemetry.emit import Metrics
from fabric.telemetry.names import LAUNCHES

_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0
_CALLS_PER_SITE = 8
# An offer that refused one machine of a request a moment ago is not tried for the others.
_JUST_NOW_S = 1.0


class BerthState(StrEnum):
    """Where the buying of one machine stands."""

    TRYING = "trying"  # a call is on its way; nothing exists as far as anybody knows
    DOUBTFUL = "doubtful"  # a call had no answer: there may be a machine
    FILLED = "filled"  # the cloud made one
    GIVEN_UP = "given_up"  # no offer is left, or a person has to look


@dataclass(slots=True)
class Berth:
    """One machine that Ray asked for.

    Attributes:
        request_id, node_type: Ray's request.
        offers: what is still to be tried, best first.
        token: the present attempt's.
        tried: node type of the present attempt.
        told: Ray has been told how it went.
        sentences: why earlier attempts failed.
    """

    request_id: str
    node_type: str
    offers: deque[Offer]
    state: BerthState = BerthState.TRYING
    token: str = ""
    tried: str = ""
    told: bool = False
    sentences: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Attempt:
    berth: Berth
    offer: Offer
    order: Order


class Buyer:
    """Makes launches and keeps track of those that are not settled.

    Args:
        providers: by site.
        book: the journal's fold.
        desk: makes orders.
        room: how many more machines of a node type may exist.
        clock: Unix seconds.
        metrics: numbers.
        changed: called from worker threads whenever a berth changed its state.
    """

    def __init__(
        self,
        providers: Callable[[], Mapping[str, Provider]],
        book: Book,
        desk: OrderDesk,
        room: Callable[[str], int],
        clock: Callable[[], float],
        metrics: Metrics,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._providers = providers
        self._book = book
        self._desk = desk
        self._room = room
        self._clock = clock
        self._metrics = metrics
        self._changed = changed
        self._lock = threading.RLock()
        self._berths: list[Berth] = []
        self._in_flight: set[str] = set()
        self._pools: dict[str, ThreadPoolExecutor] = {}
        self._stopping = threading.Event()
        self._log = structlog.get_logger()

    def buy(self, request_id: str, node_type: str, count: int, offers: Sequence[Offer]) -> None:
        """Begin to buy ``count`` machines, trying ``offers`` in order. Intents are durable when this returns."""
        berths = [Berth(request_id, node_type, deque(offers)) for _ in range(count)]
        with self._lock:
            self._berths.extend(berths)
        self._next(berths)

    def berths(self) -> list[Berth]:
        """Berths that are being worked on, or of which Ray has not been told."""
        with self._lock:
            self._berths = [berth for berth in self._berths if not (berth.told and _settled(berth))]
            return list(self._berths)

    @property
    def lock(self) -> threading.RLock:
        """Held by whoever needs berths and their tokens to stand still."""
        return self._lock

    def in_flight(self) -> frozenset[str]:
        """Tokens of launches whose reply is being waited for."""
        with self._lock:
            return frozenset(self._in_flight)

    def close(self) -> None:
        """Make no further attempt; what is in flight is found again by the next start."""
        self._stopping.set()
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)

    def _next(self, berths: Sequence[Berth], refusals: Sequence[Draft] = ()) -> None:
        """Give each berth its next offer, write refusals and intents in one step, then ask the clouds.

        In one step, so that neither the budget nor the brain ever sees a refused launch without its successor.
        """
        attempts: dict[str, list[_Attempt]] = {}
        with self._lock:
            room: dict[str, int] = {}
            for berth in berths:
                if berth.tried:
                    room[berth.tried] = room.get(berth.tried, self._room(berth.tried)) + 1
            for berth in berths:
                offer = self._offer_for(berth, room)
                if offer is None:
                    self._give_up(berth, "; ".join(dict.fromkeys(berth.sentences)) or "nothing is on offer")
                    continue
                order = self._desk.order(offer, berth.request_id)
                attempts.setdefault(offer.site, []).append(_Attempt(berth, offer, order))
            batches = [attempt for batch in attempts.values() for attempt in batch]
            for attempt in batches:
                berth = attempt.berth
                berth.state = BerthState.TRYING
                berth.token, berth.tried = attempt.order.token, attempt.offer.node_type
                self._in_flight.add(attempt.order.token)
        if not batches and not refusals:
            return
        reached("launch.before_intent")
        try:
            self._book.append(*refusals, *(attempt.order.intent for attempt in batches))
        except BaseException as error:
            for attempt in batches:
                self._give_up(attempt.berth, f"the journal could not be written: {error}")
            raise
        reached("launch.after_intent")
        for site, batch in attempts.items():
            size = -(-len(batch) // _CALLS_PER_SITE)
            for begin in range(0, len(batch), size):
                self._pool(site).submit(self._carry_out, site, batch[begin : begin + size])

    def _offer_for(self, berth: Berth, room: dict[str, int]) -> Offer | None:
        recent = self._clock() - _JUST_NOW_S
        refused = {offer_id for offer_id, refusal in self._book.refusals().items() if refusal.at >= recent}
        while berth.offers:
            offer = berth.offers.popleft()
            left = room.setdefault(offer.node_type, self._room(offer.node_type))
            if offer.site not in self._providers():
                berth.sentences.append(f"site {offer.site} cannot be bought from")
            elif berth.sentences and offer.offer_id in refused:
                berth.sentences.append(f"{offer.offer_id} has just refused")
            elif left <= 0:
                berth.sentences.append(f"{offer.node_type} has reached its maximum")
            else:
                room[offer.node_type] = left - 1
                return offer
        return None

    def _carry_out(self, site: str, batch: list[_Attempt]) -> None:
        try:
            self._ask(site, batch)
        except Exception:
            # Nothing is lost: the intents are in the journal, and sweeps find what the cloud made of them.
            self._log.exception("a launch was interrupted", site=site)
            for attempt in batch:
                if attempt.berth.state in (BerthState.TRYING, BerthState.DOUBTFUL):
                    self._give_up(attempt.berth, "the launch was interrupted; the log says how")
        finally:
            with self._lock:
                self._in_flight -= {attempt.order.token for attempt in batch}
            self._changed()

    def _ask(self, site: str, batch: list[_Attempt]) -> None:
        """Ask the cloud until every attempt has an answer: the same token each time, so never two machines."""
        pending, pause = batch, _FIRST_PAUSE_S
        while pending:
            results = self._call(site, [attempt.order for attempt in pending])
            reached("launch.after_call")
            again: list[_Attempt] = []
            refused: list[Berth] = []
            refusals: list[Draft] = []
            wait = pause
            # A listing in between would miss a machine that fails over, and the brain would buy it twice.
            with self._lock:
                for attempt, result in zip(pending, results, strict=True):
                    if isinstance(result, Instance):
                        self._filled(attempt, result)
                    elif isinstance(result, NetworkError | ThrottledError):
                        again.append(attempt)
                        wait = max(wait, result.retry_after_s or 0.0)
                        if isinstance(result, NetworkError):
                            attempt.berth.state = BerthState.DOUBTFUL
                    else:
                        refusals += self._refusal(attempt, result)
                        if attempt.berth.state is not BerthState.GIVEN_UP:
                            refused.append(attempt.berth)
                self._next(refused, refusals)
            self._changed()
            pending = [attempt for attempt in again if self._still_wanted(attempt)]
            if pending and self._stopping.wait(wait):
                return
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    def _call(self, site: str, orders: Sequence[Order]) -> Sequence[Instance | ProviderError]:
        try:
            return self._providers()[site].launch([order.spec for order in orders])
        except ProviderError as error:
            return [error] * len(orders)

    def _filled(self, attempt: _Attempt, instance: Instance) -> None:
        token = attempt.order.token
        accepted = {
            "token": token,
            "instance": instance.instance_id,
            "site": attempt.offer.site,
            "launched_at_ms": instance.launched_at_ms,
        }
        self._book.append(Draft(Event.LAUNCH_ACCEPTED, accepted))
        self._metrics.count(LAUNCHES, site=attempt.offer.site, result="accepted")
        self._log.info("launched", offer=attempt.offer.offer_id, token=token, instance=instance.instance_id)
        reached("launch.after_accepted")
        attempt.berth.state = BerthState.FILLED
        self._in_flight.discard(token)

    def _refusal(self, attempt: _Attempt, error: ProviderError) -> list[Draft]:
        """What to write of a refusal. Credentials, bad requests and bugs give the berth up: they never fail over."""
        token, offer = attempt.order.token, attempt.offer
        refusal = {"token": token, "offer": offer.offer_id, "error": error.code, "message": str(error)}
        if isinstance(error, QuotaError) and error.family:
            refusal["family"] = error.family
        drafts = [Draft(Event.LAUNCH_REFUSED, refusal)]
        if isinstance(error, ProviderBugError):
            # The provider does not know what it did: whatever appears under this token is to be ended.
            ending = {"token": token, "instance": "", "cause": error.code, "by": "controller"}
            drafts.append(Draft(Event.TERMINATE_INTENDED, ending))
        self._metrics.count(LAUNCHES, site=offer.site, result=error.code)
        self._log.warning("refused", offer=offer.offer_id, token=token, error=error.code, message=str(error))
        attempt.berth.sentences.append(f"{offer.offer_id}: {error}")
        self._in_flight.discard(token)
        if not isinstance(error, CapacityError | QuotaError):
            self._give_up(attempt.berth, f"{offer.offer_id}: {error}")
        return drafts

    def _still_wanted(self, attempt: _Attempt) -> bool:
        """Whether to go on asking under this token; if not, whatever appears under it is to be ended."""
        token = attempt.order.token
        record = self._book.record(token)
        if record is not None and record.phase in (Phase.ENDING, Phase.ENDED):
            self._give_up(attempt.berth, "it was cancelled before the cloud answered")
            return False
        if self._clock() < attempt.order.join_by:
            return True
        ending = {"token": token, "instance": "", "cause": "no_answer", "by": "controller"}
        self._book.append(Draft(Event.TERMINATE_INTENDED, ending))
        self._give_up(attempt.berth, f"{attempt.offer.offer_id}: the cloud did not answer in time")
        return False

    def _give_up(self, berth: Berth, sentence: str) -> None:
        with self._lock:
            berth.state = BerthState.GIVEN_UP
            berth.sentences = [sentence]
            self._in_flight.discard(berth.token)
        self._changed()

    def _pool(self, site: str) -> ThreadPoolExecutor:
        with self._lock:
            if site not in self._pools:
                self._pools[site] = ThreadPoolExecutor(_CALLS_PER_SITE, thread_name_prefix=f"launch-{site}")
            return self._pools[site]


def _settled(berth: Berth) -> bool:
    return berth.state in (BerthState.FILLED, BerthState.GIVEN_UP)
