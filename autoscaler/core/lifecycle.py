"""The life of one launch, from intent to end, as a table: which event leads from which phase to which.

Nothing here does anything. ``step`` takes what is known of a launch and one journal entry and says what is
now known, and what somebody should do next; ``fold_instances`` runs it over the journal. The shell, the
reaper, the ledger and the command line all read the same fold, so they cannot disagree about whether an
instance lives.

The controller, the gateway and the reaper append concurrently, so entries of one launch may arrive in an
order no single process would choose (a node joins before the reply to its launch was read). Such orders are
edges of the table too. What is not in the table is kept in ``oddities`` and changes no phase: a fold of an
append-only log must never fail.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from fabric.journal.base import Entry
from fabric.model.events import Event
from fabric.model.money import MicroUSD, Tariff
from fabric.model.nodes import NO_LABELS

FREE = Tariff(0)


class Phase(StrEnum):
    """Where a launch stands, as far as the journal can tell."""

    PLANNED = "planned"  # decided; no intent is in the journal, so no cloud was asked
    REQUESTED = "requested"  # the intent is written: the cloud may have been asked, a machine may exist
    BOOTING = "booting"  # the cloud made an instance; it has not joined
    RUNNING = "running"  # it traded its ticket for the cluster's secrets
    DRAINING = "draining"  # the cloud announced that it will take it back
    LOST = "lost"  # Ray lost the node; the machine may live and is charged
    ENDING = "ending"  # its end is intended: the cloud is asked until it says that it is gone
    ENDED = "ended"  # it is gone, or never was

    @property
    def charged(self) -> bool:
        """Whether a machine may exist and cost money."""
        return self not in (Phase.PLANNED, Phase.ENDED)

    @property
    def coming(self) -> bool:
        """Whether it counts as capacity that has been asked for and is not there yet."""
        return self in (Phase.REQUESTED, Phase.BOOTING)


class Action(StrEnum):
    """What somebody who acts should do after an event."""

    CALL_LAUNCH = "call_launch"  # ask the cloud, with the token as idempotency key
    TRY_NEXT_OFFER = "try_next_offer"  # this token is spent; the plan's next offer needs a new one
    END_BY_TAG = "end_by_tag"  # no instance id is known: find it by its token's tag, then end it
    DRAIN = "drain"  # ask Ray to move work away before the deadline
    TERMINATE = "terminate"  # ask the cloud to end it, again and again until it says not found


@dataclass(frozen=True, slots=True)
class Instruction:
    """One thing to do, for one launch."""

    action: Action
    token: str
    instance: str = ""


@dataclass(frozen=True, slots=True)
class InstanceRecord:
    """What the journal says about one launch. Times ``_at`` are Unix seconds by the appender's clock.

    Attributes:
        token: names the launch for ever.
        phase: where it stands.
        site, node_type, offer, zone, market, tariff, labels, request_id: what was intended, at what price.
        instance: the provider's id; ``""`` while unknown.
        ticket_sha256, ticket_expires_at, join_by: the one-time ticket's digest, and the deadlines of joining.
        lease_until: until when it may live without hearing from us; None before it joined.
        reclaim_at: when the cloud will take it back; None without a notice.
        intended_at, accepted_at, joined_at, lost_at, ending_at, ended_at: when it was seen at each stage.
        launched_at_ms, ended_at_ms: the provider's own times, which money depends on; None while unknown.
        estimated: the provider no longer knew the machine, so these are our times; its own still replace them.
        cause: why its end was intended, or why the launch came to nothing.
        by: the process that intended the end.
        oddities: entries that fit no edge of the table, as ``seq kind in phase``.
    """

    token: str
    phase: Phase = Phase.PLANNED
    site: str = ""
    node_type: str = ""
    offer: str = ""
    zone: str = ""
    market: str = ""
    tariff: Tariff = FREE
    labels: Mapping[str, str] = field(default_factory=lambda: NO_LABELS)
    request_id: str = ""
    instance: str = ""
    ticket_sha256: str = ""
    ticket_expires_at: float | None = None
    join_by: float | None = None
    lease_until: float | None = None
    reclaim_at: float | None = None
    intended_at: float | None = None
    accepted_at: float | None = None
    joined_at: float | None = None
    lost_at: float | None = None
    ending_at: float | None = None
    ended_at: float | None = None
    launched_at_ms: int | None = None
    ended_at_ms: int | None = None
    estimated: bool = False
    cause: str = ""
    by: str = ""
    ray_node_id: str = ""
    python: str = ""
    ray: str = ""
    oddities: tuple[str, ...] = ()

    def cost(self, now_ms: int) -> MicroUSD:
        """Micro-USD by the provider's own times, up to ``now_ms`` while it lives; 0 while unknown."""
        if self.launched_at_ms is None:
            return 0
        end_ms = now_ms if self.ended_at_ms is None else self.ended_at_ms
        return self.tariff.cost(end_ms - self.launched_at_ms)


# (phase, event) -> (next phase, what to do). The comment on each edge says how it can happen.
EDGES: Mapping[tuple[Phase, Event], tuple[Phase, tuple[Action, ...]]] = {
    # The intent is durable: only now may the cloud be asked.
    (Phase.PLANNED, Event.LAUNCH_INTENDED): (Phase.REQUESTED, (Action.CALL_LAUNCH,)),
    # A restart found an instance with our tag whose intent is not in this journal (restored from a copy).
    (Phase.PLANNED, Event.INSTANCE_ADOPTED): (Phase.BOOTING, ()),
    # The reaper found an instance with our tag that nothing justifies.
    (Phase.PLANNED, Event.ORPHAN_FOUND): (Phase.ENDING, (Action.TERMINATE,)),
    (Phase.PLANNED, Event.TERMINATE_INTENDED): (Phase.ENDING, (Action.TERMINATE,)),
    (Phase.PLANNED, Event.INSTANCE_ENDED): (Phase.ENDED, ()),
    # The cloud said yes.
    (Phase.REQUESTED, Event.LAUNCH_ACCEPTED): (Phase.BOOTING, ()),
    # The cloud said no: this token is spent, the plan may have another offer.
    (Phase.REQUESTED, Event.LAUNCH_REFUSED): (Phase.ENDED, (Action.TRY_NEXT_OFFER,)),
    # Nobody needs it any more, or a restart gave it up; the call may still have made an instance.
    (Phase.REQUESTED, Event.LAUNCH_CANCELLED): (Phase.ENDED, (Action.END_BY_TAG,)),
    # The node was quicker than the reply to its own launch, or the reply was lost.
    (Phase.REQUESTED, Event.NODE_JOINED): (Phase.RUNNING, ()),
    # A restart found the instance by its tag: the reply had been lost.
    (Phase.REQUESTED, Event.INSTANCE_ADOPTED): (Phase.BOOTING, ()),
    # Its end is wanted while the reply is outstanding.
    (Phase.REQUESTED, Event.TERMINATE_INTENDED): (Phase.ENDING, (Action.END_BY_TAG,)),
    (Phase.REQUESTED, Event.ORPHAN_FOUND): (Phase.ENDING, (Action.TERMINATE,)),
    # It lived and died before anybody read the reply.
    (Phase.REQUESTED, Event.INSTANCE_ENDED): (Phase.ENDED, ()),
    # The ticket was traded.
    (Phase.BOOTING, Event.NODE_JOINED): (Phase.RUNNING, ()),
    # An idempotent launch was repeated and answered again.
    (Phase.BOOTING, Event.LAUNCH_ACCEPTED): (Phase.BOOTING, ()),
    (Phase.BOOTING, Event.INSTANCE_ADOPTED): (Phase.BOOTING, ()),
    # Cancelled, past its join deadline, or the fabric stops.
    (Phase.BOOTING, Event.LAUNCH_CANCELLED): (Phase.ENDING, (Action.TERMINATE,)),
    (Phase.BOOTING, Event.TERMINATE_INTENDED): (Phase.ENDING, (Action.TERMINATE,)),
    (Phase.BOOTING, Event.ORPHAN_FOUND): (Phase.ENDING, (Action.TERMINATE,)),
    # A spot instance may be reclaimed before it joined; there is no work to move.
    (Phase.BOOTING, Event.SPOT_NOTICE): (Phase.BOOTING, ()),
    # It ended itself: boot deadline, version mismatch, reclaim.
    (Phase.BOOTING, Event.INSTANCE_ENDED): (Phase.ENDED, ()),
    # The agent is alive; also a retried join or a restarted agent.
    (Phase.RUNNING, Event.LEASE_RENEWED): (Phase.RUNNING, ()),
    (Phase.RUNNING, Event.NODE_JOINED): (Phase.RUNNING, ()),
    # The late reply to a launch whose node had joined already.
    (Phase.RUNNING, Event.LAUNCH_ACCEPTED): (Phase.RUNNING, ()),
    (Phase.RUNNING, Event.INSTANCE_ADOPTED): (Phase.RUNNING, ()),
    # The cloud will take it back.
    (Phase.RUNNING, Event.SPOT_NOTICE): (Phase.DRAINING, (Action.DRAIN,)),
    # Ray declared the node dead: the machine is of no use and is still charged.
    (Phase.RUNNING, Event.NODE_LOST): (Phase.LOST, (Action.TERMINATE,)),
    # Idle, over a maximum, outdated, over budget, or the fabric stops.
    (Phase.RUNNING, Event.TERMINATE_INTENDED): (Phase.ENDING, (Action.TERMINATE,)),
    (Phase.RUNNING, Event.ORPHAN_FOUND): (Phase.ENDING, (Action.TERMINATE,)),
    (Phase.RUNNING, Event.LAUNCH_CANCELLED): (Phase.ENDING, (Action.TERMINATE,)),
    # Its lease lapsed, somebody ended it by hand, or the cloud took it without notice.
    (Phase.RUNNING, Event.INSTANCE_ENDED): (Phase.ENDED, ()),
    # Renewals go on while work moves away; the notice is repeated until the end.
    (Phase.DRAINING, Event.LEASE_RENEWED): (Phase.DRAINING, ()),
    (Phase.DRAINING, Event.SPOT_NOTICE): (Phase.DRAINING, ()),
    (Phase.DRAINING, Event.NODE_JOINED): (Phase.DRAINING, ()),
    (Phase.DRAINING, Event.INSTANCE_ADOPTED): (Phase.DRAINING, ()),
    (Phase.DRAINING, Event.NODE_LOST): (Phase.LOST, (Action.TERMINATE,)),
    (Phase.DRAINING, Event.TERMINATE_INTENDED): (Phase.ENDING, (Action.TERMINATE,)),
    (Phase.DRAINING, Event.ORPHAN_FOUND): (Phase.ENDING, (Action.TERMINATE,)),
    (Phase.DRAINING, Event.INSTANCE_ENDED): (Phase.ENDED, ()),
    # Ray was wrong, or the agent restarted its raylet and came back.
    (Phase.LOST, Event.NODE_JOINED): (Phase.RUNNING, ()),
    # The agent still renews: it does not know yet that Ray gave its raylet up.
    (Phase.LOST, Event.LEASE_RENEWED): (Phase.LOST, ()),
    (Phase.LOST, Event.NODE_LOST): (Phase.LOST, ()),
    (Phase.LOST, Event.SPOT_NOTICE): (Phase.LOST, ()),
    (Phase.LOST, Event.INSTANCE_ADOPTED): (Phase.LOST, (Action.TERMINATE,)),
    (Phase.LOST, Event.TERMINATE_INTENDED): (Phase.ENDING, (Action.TERMINATE,)),
    (Phase.LOST, Event.ORPHAN_FOUND): (Phase.ENDING, (Action.TERMINATE,)),
    (Phase.LOST, Event.INSTANCE_ENDED): (Phase.ENDED, ()),
    # Repeated until the provider says not found, by whoever is alive.
    (Phase.ENDING, Event.TERMINATE_INTENDED): (Phase.ENDING, (Action.TERMINATE,)),
    (Phase.ENDING, Event.ORPHAN_FOUND): (Phase.ENDING, (Action.TERMINATE,)),
    # The reply to the launch came after its end was wanted: now the id is known.
    (Phase.ENDING, Event.LAUNCH_ACCEPTED): (Phase.ENDING, (Action.TERMINATE,)),
    (Phase.ENDING, Event.INSTANCE_ADOPTED): (Phase.ENDING, (Action.TERMINATE,)),
    (Phase.ENDING, Event.LAUNCH_CANCELLED): (Phase.ENDING, (Action.TERMINATE,)),
    # The launch whose end was wanted while the reply was outstanding was refused: there is nothing to end.
    (Phase.ENDING, Event.LAUNCH_REFUSED): (Phase.ENDED, ()),
    # Concurrent appends that crossed the intent.
    (Phase.ENDING, Event.LEASE_RENEWED): (Phase.ENDING, ()),
    (Phase.ENDING, Event.NODE_JOINED): (Phase.ENDING, (Action.TERMINATE,)),
    (Phase.ENDING, Event.NODE_LOST): (Phase.ENDING, ()),
    (Phase.ENDING, Event.SPOT_NOTICE): (Phase.ENDING, ()),
    # The provider says that it is gone.
    (Phase.ENDING, Event.INSTANCE_ENDED): (Phase.ENDED, ()),
    # Two processes saw the same end.
    (Phase.ENDED, Event.INSTANCE_ENDED): (Phase.ENDED, ()),
    (Phase.ENDED, Event.NODE_LOST): (Phase.ENDED, ()),
    (Phase.ENDED, Event.LEASE_RENEWED): (Phase.ENDED, ()),
    (Phase.ENDED, Event.SPOT_NOTICE): (Phase.ENDED, ()),
    (Phase.ENDED, Event.LAUNCH_CANCELLED): (Phase.ENDED, ()),
    (Phase.ENDED, Event.LAUNCH_REFUSED): (Phase.ENDED, ()),
    # A launch that had been given up made an instance after all.
    (Phase.ENDED, Event.LAUNCH_ACCEPTED): (Phase.ENDING, (Action.TERMINATE,)),
    (Phase.ENDED, Event.ORPHAN_FOUND): (Phase.ENDING, (Action.TERMINATE,)),
    (Phase.ENDED, Event.TERMINATE_INTENDED): (Phase.ENDING, (Action.TERMINATE,)),
}


def step(record: InstanceRecord, entry: Entry) -> tuple[InstanceRecord, tuple[Instruction, ...]]:
    """Say what is known after ``entry``, and what to do about it. Total: what fits no edge is an oddity."""
    event = _event(entry)
    edge = None if event is None else EDGES.get((record.phase, event))
    if event is None or edge is None:
        return replace(record, oddities=(*record.oddities, f"{entry.seq} {entry.kind} in {record.phase}")), ()
    phase, actions = edge
    if event is Event.INSTANCE_ENDED or record.ended_at_ms is None:
        after = replace(_learn(record, event, entry), phase=phase)
    else:
        # The provider has given an end time: the machine is gone, whatever was appended late.
        after, actions = replace(_learn(record, event, entry), phase=Phase.ENDED), ()
    return after, tuple(Instruction(action, after.token, after.instance) for action in actions)


def fold_instances(
    entries: Iterable[Entry], known: Mapping[str, InstanceRecord] | None = None
) -> dict[str, InstanceRecord]:
    """Every launch the journal speaks of, by token.

    Args:
        entries: journal entries in order; those that name no token are passed over.
        known: an earlier fold to continue from; it is not changed.
    """
    records = dict(known or {})
    for entry in entries:
        token = entry.data.get("token")
        if isinstance(token, str) and token and _event(entry) in _LAUNCH_EVENTS:
            records[token], _ = step(records.get(token) or InstanceRecord(token), entry)
    return records


_LAUNCH_EVENTS = frozenset(event for _, event in EDGES)


def _event(entry: Entry) -> Event | None:
    try:
        return Event(entry.kind)
    except ValueError:
        return None


def _learn(record: InstanceRecord, event: Event, entry: Entry) -> InstanceRecord:
    """``record`` with the facts that ``entry`` carries; its phase is the caller's business."""
    data, at = entry.data, entry.at
    if event is Event.LAUNCH_INTENDED:
        return replace(
            record,
            **_texts(data, "site", "node_type", "offer", "zone", "market", "ticket_sha256", "request_id"),
            tariff=Tariff(int(data.get("per_hour", 0)), int(data.get("minimum_seconds", 0))),
            labels=dict(data.get("labels") or {}),
            ticket_expires_at=_number(data, "ticket_expires_at"),
            join_by=_number(data, "join_by"),
            intended_at=at,
        )
    if event in (Event.LAUNCH_ACCEPTED, Event.INSTANCE_ADOPTED):
        accepted = record.accepted_at if record.accepted_at is not None else at
        return replace(record, **_texts(data, "instance", "site"), accepted_at=accepted)
    if event in (Event.LAUNCH_REFUSED, Event.LAUNCH_CANCELLED):
        cause = str(data.get("error") or data.get("cause") or "")
        return replace(record, cause=record.cause or cause, ended_at=record.ended_at or at)
    if event is Event.NODE_JOINED:
        return replace(
            record,
            **_texts(data, "site", "node_type", "python", "ray"),
            joined_at=record.joined_at if record.joined_at is not None else at,
            lease_until=_latest(record.lease_until, _number(data, "lease_until")),
            lost_at=None,
        )
    if event is Event.LEASE_RENEWED:
        return replace(record, lease_until=_latest(record.lease_until, _number(data, "until")))
    if event is Event.SPOT_NOTICE:
        return replace(record, reclaim_at=_number(data, "reclaim_at"))
    if event is Event.NODE_LOST:
        return replace(record, **_texts(data, "ray_node_id"), lost_at=record.lost_at or at)
    if event in (Event.TERMINATE_INTENDED, Event.ORPHAN_FOUND):
        return replace(
            record,
            **_texts(data, "instance", "site"),
            cause=record.cause or str(data.get("cause") or ""),
            by=record.by or str(data.get("by") or entry.actor),
            ending_at=record.ending_at or at,
            ended_at=None if record.ended_at_ms is None else record.ended_at,
        )
    if event is Event.INSTANCE_ENDED:
        return _learn_end(record, data, at)
    return record


def _learn_end(record: InstanceRecord, data: Mapping[str, Any], at: float) -> InstanceRecord:
    """The provider's own times replace an estimate; an estimate replaces nothing."""
    estimated = data.get("estimated") is True
    if record.ended_at_ms is not None and estimated and not record.estimated:
        return record
    known = record if record.estimated == estimated else replace(record, launched_at_ms=None, ended_at_ms=None)
    return replace(
        record,
        **_texts(data, "instance", "site"),
        launched_at_ms=_earliest(known.launched_at_ms, _whole(data, "launched_at_ms")),
        ended_at_ms=_earliest(known.ended_at_ms, _whole(data, "ended_at_ms")),
        estimated=estimated,
        ended_at=at if record.ended_at_ms is None else record.ended_at,
    )


def _texts(data: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Pick the named fields that say something; an empty one never erases what is known."""
    return {name: str(data[name]) for name in names if data.get(name)}


def _number(data: Mapping[str, Any], name: str) -> float | None:
    value = data.get(name)
    return float(value) if isinstance(value, (int, float)) else None


def _whole(data: Mapping[str, Any], name: str) -> int | None:
    value = data.get(name)
    return int(value) if isinstance(value, (int, float)) else None


def _latest(known: float | None, told: float | None) -> float | None:
    return told if known is None else known if told is None else max(known, told)


def _earliest(known: int | None, told: int | None) -> int | None:
    return told if known is None else known if told is None else min(known, told)
