"""The machines as Ray is told of them: head, home nodes, and every launch that may have one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import structlog

from autoscaler.core.lifecycle import InstanceRecord, Phase
from autoscaler.providers.base import InstanceState
from autoscaler.ray.autoscaler import RayNode
from autoscaler.ray.provider import FleetNode, LaunchFailure, Listing
from autoscaler.shell.book import Book
from autoscaler.shell.brain import Batch, GivenBack
from autoscaler.shell.buy import Berth, BerthState, Buyer
from autoscaler.shell.crashpoints import reached
from autoscaler.shell.home import HomeWatch
from autoscaler.shell.sweep import SiteView
from fabric.config.resolve import HEAD
from fabric.journal.base import Draft
from fabric.model.events import Event

_GOING = (Phase.ENDING, Phase.ENDED)


class Plans(Protocol):
    """What the brain's last decision meant."""

    def batches_for(self, node_type: str, count: int) -> Sequence[Batch]:
        """How to buy ``count`` machines of this type: batches that add up to it."""
        ...

    def cause_of(self, token: str) -> GivenBack | None:
        """Why the brain gave this machine back; None if it did not."""
        ...


class BurstFleet:
    """``autoscaler.ray.provider.Fleet`` for all sites together. Called by the tick only, and never blocks on a cloud.

    Args:
        book: the journal's fold.
        buyer: launches.
        home: on-prem nodes.
        plans: the brain's.
        views: the last listing of each site.
        kick: wakes the sweep of a site, because something there is to be ended.
    """

    def __init__(
        self,
        book: Book,
        buyer: Buyer,
        home: HomeWatch,
        plans: Plans,
        views: Callable[[], Mapping[str, SiteView]],
        kick: Callable[[str], None],
    ) -> None:
        self._book = book
        self._buyer = buyer
        self._home = home
        self._plans = plans
        self._views = views
        self._kick = kick
        self._ray_nodes: tuple[RayNode, ...] = ()
        self._log = structlog.get_logger()

    def observed(self, nodes: Sequence[RayNode]) -> None:
        """Take in Ray's node table, before the listing of the same tick."""
        self._ray_nodes = tuple(nodes)
        alive = {node.instance_id for node in nodes if node.alive and node.instance_id}
        died = {node.instance_id for node in nodes if not node.alive and node.instance_id} - alive
        self._home.observe(alive, died)

    def live_types(self) -> frozenset[str]:
        """Node types of which a machine exists, whatever the configuration says."""
        bought = {record.node_type for record in self._book.live().values() if record.node_type}
        joined = {node.node_type for node in self._ray_nodes if node.alive and node.node_type}
        return frozenset(bought | joined)

    def listing(self) -> Listing:
        """See ``Fleet.listing``."""
        self._book.refresh()
        nodes = [FleetNode(HEAD, HEAD, True)]
        nodes += [
            FleetNode(view.node.node_id, view.node.node_type, view.alive)
            for view in self._home.views()
            if view.alive or view.starting
        ]
        views = self._views()
        # Berths must not move between the two halves: a machine would be missed, or counted twice.
        with self._buyer.lock:
            unheard, failures = self._settle_berths()
            nodes += [
                FleetNode(token, record.node_type, _runs(token, record, views))
                for token, record in self._book.live().items()
                if record.phase is not Phase.ENDING and token not in unheard
            ]
        return Listing(nodes, failures)

    def launch(self, node_type: str, count: int, request_id: str) -> None:
        """See ``Fleet.launch``."""
        for batch in self._plans.batches_for(node_type, count):
            self._buyer.buy(request_id, node_type, batch.count, batch.offers)

    def end(self, token: str) -> None:
        """See ``Fleet.end``. The cloud is asked by the site's sweep, again and again until it is gone."""
        record = self._book.record(token)
        if record is None or record.phase in _GOING:
            return
        planned = self._plans.cause_of(token)
        lost = planned is None and record.phase in (Phase.RUNNING, Phase.DRAINING)
        cause = planned.cause if planned else "node_lost" if lost or record.phase is Phase.LOST else "join_deadline"
        drafts = [Draft(Event.NODE_LOST, {"token": token, "ray_node_id": self._ray_node_id(token)})] if lost else []
        ending: dict[str, object] = {"token": token, "instance": record.instance, "cause": cause, "by": "controller"}
        if planned is not None:
            ending["idle_s"] = planned.idle_s
        reached("end.before_intent")
        self._book.append(*drafts, Draft(Event.TERMINATE_INTENDED, ending))
        reached("end.after_intent")
        self._log.info("ending", token=token, cause=cause)
        self._kick(record.site)

    def _settle_berths(self) -> tuple[set[str], list[LaunchFailure]]:
        """Tokens that Ray is not to hear of yet, and requests that failed since last time."""
        unheard: set[str] = set()
        failures: list[LaunchFailure] = []
        for berth in self._buyer.berths():
            if berth.told:
                continue
            if berth.state is BerthState.TRYING:
                unheard.add(berth.token)
                continue
            berth.told = True
            if sentence := self._failure_of(berth):
                failures.append(LaunchFailure(berth.request_id, berth.node_type, 1, sentence))
        return unheard, failures

    def _failure_of(self, berth: Berth) -> str:
        """Why the machine that was asked for will not come; ``""`` when it will."""
        if berth.state is BerthState.GIVEN_UP:
            return "; ".join(berth.sentences)
        record = self._book.record(berth.token)
        if record is None or record.phase in _GOING:
            return f"it was given back before it joined: {record.cause if record else 'unknown'}"
        if berth.tried != berth.node_type:
            return f"{'; '.join(berth.sentences)}; got {berth.tried} instead"
        return ""

    def _ray_node_id(self, token: str) -> str:
        return next((node.ray_node_id for node in self._ray_nodes if node.instance_id == token), "")


def _runs(token: str, record: InstanceRecord, views: Mapping[str, SiteView]) -> bool:
    if record.joined_at is not None:
        return True
    view = views.get(record.site)
    instance = view.instances.get(token) if view is not None else None
    return instance is not None and instance.state is InstanceState.RUNNING
