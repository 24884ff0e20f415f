"""The outcome of one tick, as values that carry their reasons.

A reason is a code from a closed list plus the facts it speaks about. ``fabric/telemetry/reasons.py`` turns it
into a sentence; nothing else does, so the log, the console, ``fabric why`` and a receipt say the same thing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from fabric.model.money import MicroUSD

# How long Ray is given to move work away from a node that is given back; then it ends, work or no work.
DRAIN_DEADLINE_S = 300.0

Fact = str | int | float | bool | None | tuple[str, ...]


class ReasonCode(StrEnum):
    """Every reason the brain can give. Adding one means adding its sentence in ``telemetry/reasons.py``."""

    # why something was bought
    BASELINE_EXCEEDED = "baseline_exceeded"
    MINIMUM_NODES = "minimum_nodes"
    RESOURCES_REQUESTED = "resources_requested"
    CHEAPEST_OFFER = "cheapest_offer"
    FAILED_OVER = "failed_over"
    # why nothing (more) was bought
    BELOW_BASELINE = "below_baseline"
    FITS_AT_HOME = "fits_at_home"
    STAYS_HOME = "stays_home"
    INFEASIBLE = "infeasible"
    MAXIMUM_NODES = "maximum_nodes"
    OFFER_REFUSED_LATELY = "offer_refused_lately"
    NO_OFFER = "no_offer"
    BUDGET = "budget"
    HEAD_NOT_READY = "head_not_ready"
    DRAINING_FABRIC = "draining_fabric"
    # why something is given back
    NOT_NEEDED_ANY_MORE = "not_needed_any_more"
    IDLE = "idle"
    JOIN_DEADLINE = "join_deadline"
    OVER_MAXIMUM = "over_maximum"
    OUTDATED = "outdated"
    OVER_BUDGET = "over_budget"
    UNKNOWN_INSTANCE = "unknown_instance"
    NODE_LOST = "node_lost"
    SPOT_RECLAIM = "spot_reclaim"
    LEASE_LAPSED = "lease_lapsed"
    # facts worth saying
    ONPREM_NODE_DEAD = "onprem_node_dead"


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason: its code and the facts of this case (units are in the fact's name, ``_s``, ``_micro_usd``)."""

    code: ReasonCode
    facts: Mapping[str, Fact] = field(default_factory=dict[str, Fact])


class DrainMethod(StrEnum):
    """Ways of giving a node back, in the order they are tried: least disruptive first."""

    CANCEL = "cancel"  # a launch nobody needs any more, before it joined
    JOIN_DEADLINE = "join_deadline"
    IDLE = "idle"
    OVER_MAXIMUM = "over_maximum"
    OUTDATED = "outdated"
    OVER_BUDGET = "over_budget"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Launch:
    """Buy ``count`` nodes of one type, trying ``offers`` in order.

    Attributes:
        node_type: what the planner packed against.
        count: how many.
        offers: offer ids, best first; the first is what the plan was priced with. Later ones may belong to
            other node types that can hold the same work.
        reasons: why.
    """

    node_type: str
    count: int
    offers: tuple[str, ...]
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Drain:
    """Give one node back."""

    node_id: str
    method: DrainMethod
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something that was asked for and not done: ``subject`` says what (a shape, a gang, a node type)."""

    subject: str
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """Demand that free home capacity cannot hold and that may leave home."""

    gpus: float = 0.0
    cpus: float = 0.0
    requests: int = 0


@dataclass(frozen=True, slots=True)
class BaselineState:
    """Memory of the baseline between ticks.

    Attributes:
        above_since: per threshold, Unix seconds since when the depth has been at or above it; None if below.
        open_since: when the burst opened; None while closed.
        open_threshold: index of the threshold that opened it.
        below_since: while open, since when the depth has been below every threshold; None otherwise.
    """

    above_since: tuple[float | None, ...] = ()
    open_since: float | None = None
    open_threshold: int | None = None
    below_since: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What one tick decided.

    Attributes:
        at: Unix seconds.
        launches, drains, refusals: what to do and what not, each with reasons.
        depth: queue depth this tick.
        baseline: the baseline's state after this tick, to be handed to the next.
        infeasible_demands: indices into the snapshot's demands that nothing there or allowed to be bought can
            hold, with the number of requests left over. Work that only waits (for the baseline, for home, for
            a refused offer or a budget) is not among them.
        infeasible_gangs: gang ids that could not be planned whole.
        infeasible_constraints: True when ``request_resources`` cannot be met.
        spend_per_hour: price of all burst nodes after this decision, micro-USD per hour.
        unneeded_since: node id of a launch that nobody needs, to the Unix time since which; handed to the next
            tick in ``Snapshot.unneeded_since``.
    """

    at: float
    launches: tuple[Launch, ...] = ()
    drains: tuple[Drain, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    depth: QueueDepth = QueueDepth()
    baseline: BaselineState = BaselineState()
    infeasible_demands: tuple[tuple[int, int], ...] = ()
    infeasible_gangs: tuple[str, ...] = ()
    infeasible_constraints: bool = False
    spend_per_hour: MicroUSD = 0
    unneeded_since: Mapping[str, float] = field(default_factory=dict[str, float])
