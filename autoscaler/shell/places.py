"""Which machine each Ray node is, also after it has gone: what turns Ray's node ids into sites."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace

from autoscaler.core.configured import HOME_PREFIX
from autoscaler.core.lifecycle import InstanceRecord
from autoscaler.ray.autoscaler import RayNode
from autoscaler.shell.attempt_end import LostNode
from fabric.config.resolve import HEAD, home_site
from fabric.config.schema import Config
from fabric.model.nodes import Market

# How long a node that has gone is remembered: far longer than Ray takes to end the jobs that were on it.
_REMEMBERED_S = 7 * 86400.0


@dataclass(frozen=True, slots=True)
class Place:
    """One Ray node.

    Attributes:
        instance: the machine's id: a launch token, ``onprem/…`` or ``head``.
        site, node_type, market: of that machine.
        gone_at: Unix seconds when it was found dead; None while it lives.
    """

    instance: str
    site: str
    node_type: str
    market: str
    gone_at: float | None = None


class Places:
    """Follows Ray's node table. Safe to use from several threads.

    Args:
        config: the configuration in force.
        launch: what the journal says of a launch.
        clock: Unix seconds.
    """

    def __init__(
        self, config: Callable[[], Config], launch: Callable[[str], InstanceRecord | None], clock: Callable[[], float]
    ) -> None:
        self._config = config
        self._launch = launch
        self._clock = clock
        self._lock = threading.Lock()
        self._places: dict[str, Place] = {}

    def observe(self, nodes: Iterable[RayNode]) -> None:
        """Take in one look at Ray's node table. A node that is not in it any more is gone."""
        now = self._clock()
        with self._lock:
            alive: set[str] = set()
            for node in nodes:
                known = self._places.get(node.ray_node_id)
                if known is None or not known.site:
                    self._places[node.ray_node_id] = known = self._place(node)
                if node.alive:
                    alive.add(node.ray_node_id)
            for node_id, place in list(self._places.items()):
                if node_id not in alive and place.gone_at is None:
                    self._places[node_id] = replace(place, gone_at=now)
                elif place.gone_at is not None and place.gone_at < now - _REMEMBERED_S:
                    del self._places[node_id]

    def place(self, ray_node_id: str) -> Place | None:
        """Which machine a Ray node is; None for one that was never seen."""
        with self._lock:
            return self._places.get(ray_node_id)

    def known(self) -> list[str]:
        """Ids of the Ray nodes that are remembered."""
        with self._lock:
            return list(self._places)

    def lost(self, ray_node_ids: Collection[str], since: float) -> list[LostNode]:
        """Those of the nodes that have gone since (Unix seconds), or that their cloud has announced to take back."""
        found: list[LostNode] = []
        for node_id in ray_node_ids:
            place = self.place(node_id)
            if place is None:
                continue
            record = self._launch(place.instance)
            reclaimed = record is not None and (record.reclaim_at is not None or _taken(record))
            gone = place.gone_at is not None and place.gone_at >= since
            # The cloud says it sooner than Ray, which waits for a silent node to come back.
            gone = gone or (record is not None and record.ended_at is not None and record.ended_at >= since)
            if gone or reclaimed:
                found.append(LostNode(place.instance, gone, reclaimed))
        return found

    def _place(self, node: RayNode) -> Place:
        instance = node.instance_id
        if instance == HEAD:
            return Place(HEAD, home_site(self._config()), HEAD, Market.OWNED.value)
        if instance.startswith(HOME_PREFIX):
            site = instance.removeprefix(HOME_PREFIX).partition("/")[0]
            return Place(instance, site, node.node_type, Market.OWNED.value)
        record = self._launch(instance)
        if record is None:
            return Place(instance, "", node.node_type, "")
        return Place(instance, record.site, record.node_type, record.market)


def _taken(record: InstanceRecord) -> bool:
    """Whether a spot machine ended although nobody here asked for it."""
    return record.market == Market.SPOT and record.ended_at is not None and record.ending_at is None
