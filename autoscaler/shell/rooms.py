"""What the queue may put work on, from the tick's snapshot; and the queue's wishes, put into that snapshot."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from autoscaler.core.lifecycle import InstanceRecord
from autoscaler.core.snapshot import Snapshot
from fabric.admission.outcome import BurstDemand
from fabric.admission.values import Capacity, Room
from fabric.model.nodes import Market, Node, NodePhase
from fabric.model.resources import Resources

_COMING = frozenset({NodePhase.PLANNED, NodePhase.REQUESTED, NodePhase.BOOTING})
_CLOSING = frozenset({NodePhase.DRAINING})


def capacity(
    snapshot: Snapshot, free: Mapping[str, Resources], live: Mapping[str, InstanceRecord], now: float
) -> Capacity:
    """Every node as the queue counts it, and what could be bought now.

    Args:
        snapshot: the tick's, with offers.
        free: what Ray says is not in use, by node id of the snapshot.
        live: launches of the journal, by token.
        now: Unix seconds.
    """
    refused = {offer.offer_id for offer in snapshot.refused if offer.until > now}
    boot = {offer.offer_id: offer.boot_seconds for offer in snapshot.offers}
    rooms = (_room(node, snapshot, free, live, boot) for node in snapshot.nodes)
    return Capacity(
        rooms=tuple(room for room in rooms if room is not None),
        node_types=snapshot.node_types,
        offers=tuple(offer for offer in snapshot.offers if offer.offer_id not in refused),
    )


def with_queue(snapshot: Snapshot, wanted: BurstDemand, kept: Collection[str]) -> Snapshot:
    """The snapshot with what the queue would buy for, and without the idleness of nodes that a job is about to use.

    Args:
        snapshot: the tick's.
        wanted: waiting work that may leave home and has no room.
        kept: Ray ids of nodes to which a job was admitted a moment ago.
    """
    return replace(
        snapshot,
        demands=(*snapshot.demands, *wanted.demands),
        gangs=(*snapshot.gangs, *wanted.gangs),
        nodes=tuple(replace(node, idle_s=0.0) if node.ray_node_id in kept else node for node in snapshot.nodes),
    )


def _room(
    node: Node,
    snapshot: Snapshot,
    free: Mapping[str, Resources],
    live: Mapping[str, InstanceRecord],
    boot: Mapping[str, float],
) -> Room | None:
    kind = snapshot.node_types.get(node.node_type)
    if kind is None or node.phase not in _COMING | _CLOSING | {NodePhase.RUNNING}:
        return None
    record = live.get(node.token)
    coming = node.phase in _COMING
    begun = node.launched_at if node.launched_at is not None else node.since or 0.0
    return Room(
        node=(node.ray_node_id or node.node_id) if not coming else node.node_id,
        site=kind.site,
        total=node.total,
        free=node.total if coming else free.get(node.node_id, node.free),
        labels=node.labels,
        market=Market(record.market) if record is not None and record.market else Market.OWNED,
        per_hour=record.tariff.per_hour if record is not None else 0,
        ready_at=begun + boot.get(node.offer_id, 0.0) if coming else None,
        closing=node.phase in _CLOSING or (record is not None and record.reclaim_at is not None),
    )
