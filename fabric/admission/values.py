"""What the queue decides on, and what it decides. Plain values; times are Unix seconds, money is micro-USD."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from fabric.model.decisions import Fact
from fabric.model.money import MicroUSD
from fabric.model.nodes import NO_LABELS, Market, NodeType, Offer
from fabric.model.resources import Resources
from fabric.money.budgets import BudgetRule

UNDECLARED_PER_TEAM = 20
HALF_LIFE_S = 7 * 86400.0


@dataclass(frozen=True, slots=True)
class Room:
    """One node that work can be put on, here or on its way.

    Attributes:
        node: Ray's node id; the instance's id while it is on its way.
        site: where it stands.
        total: what it has.
        free: what Ray says is not in use; ``total`` while it is on its way.
        labels: its Ray labels.
        market: how it is had.
        per_hour: what it costs by the hour; 0 for a machine of your own.
        ready_at: when it is expected to join; None for a node that is here.
        closing: it is being given back: nothing new is put there.
    """

    node: str
    site: str
    total: Resources
    free: Resources
    labels: Mapping[str, str] = field(default_factory=lambda: NO_LABELS)
    market: Market = Market.OWNED
    per_hour: MicroUSD = 0
    ready_at: float | None = None
    closing: bool = False


@dataclass(frozen=True, slots=True)
class Capacity:
    """What there is, and what could be bought.

    Attributes:
        rooms: every node, any order.
        node_types: every type of the configuration by name, your own ones too: they say what could ever fit.
        offers: what can be bought now, without the offers that are refused at present.
    """

    rooms: tuple[Room, ...] = ()
    node_types: Mapping[str, NodeType] = field(default_factory=dict[str, NodeType])
    offers: tuple[Offer, ...] = ()


@dataclass(frozen=True, slots=True)
class TeamRules:
    """One team's quota and weight.

    Attributes:
        weight: its share, against the other teams'.
        gpus: GPUs its running jobs may hold; None for no limit.
        running: jobs that may run at once; None for no limit.
        undeclared: running jobs that declared nothing.
        max_priority: a higher priority counts as this one.
        budgets: limits on what its jobs may spend.
    """

    weight: float = 1.0
    gpus: float | None = None
    running: int | None = None
    undeclared: int = UNDECLARED_PER_TEAM
    max_priority: int = 100
    budgets: tuple[BudgetRule, ...] = ()


@dataclass(frozen=True, slots=True)
class ClassRules:
    """Where one data class may run: the sites, and whether on machines that the cloud can take back."""

    sites: frozenset[str] = frozenset()
    spot: bool = True


@dataclass(frozen=True, slots=True)
class DatasetRules:
    """One data set: where it is, how large it is, and what a byte of it costs that leaves the site."""

    site: str
    size_bytes: int = 0
    egress_per_gb: MicroUSD = 0


@dataclass(frozen=True, slots=True)
class QueueRules:
    """The configuration as the queue reads it; ``fabric.admission.rules.queue_rules`` makes it.

    Attributes:
        home: sites of your own.
        teams: by name; a team that is not named has ``default_team``.
        classes: by name; a class that is not named may run nowhere.
        datasets: by name.
        baseline: when the burst opens, each threshold in plain words.
        half_life_s: how fast past use stops to count.
        preemption: whether restartable jobs give way.
    """

    home: frozenset[str] = frozenset()
    teams: Mapping[str, TeamRules] = field(default_factory=dict[str, TeamRules])
    default_team: TeamRules = TeamRules()
    classes: Mapping[str, ClassRules] = field(default_factory=dict[str, ClassRules])
    datasets: Mapping[str, DatasetRules] = field(default_factory=dict[str, DatasetRules])
    baseline: tuple[str, ...] = ()
    half_life_s: float = HALF_LIFE_S
    preemption: bool = True

    def team(self, name: str) -> TeamRules:
        """The rules of a team; those of a team nobody has configured otherwise."""
        return self.teams.get(name, self.default_team)


class AdmitReason(StrEnum):
    """Why a job may start."""

    FIRST_IN_LINE = "first_in_line"
    BACKFILL = "backfill"  # out of turn, without delaying the head
    PLAIN_RAY = "plain_ray"  # it declared nothing: it takes what Ray gives it


class WaitReason(StrEnum):
    """Why a job waits. A closed list; the sentences are in ``fabric.admission.tell``."""

    NO_ROOM = "no_room"  # it is the head: what it needs is not free
    BEHIND_OTHERS = "behind_others"
    WOULD_DELAY_HEAD = "would_delay_head"  # it fits now, and would be in the way of the head
    GIVING_WAY = "giving_way"  # others have been asked to make room for it
    TEAM_GPUS = "team_gpus"
    TEAM_RUNNING = "team_running"
    UNDECLARED_CAP = "undeclared_cap"
    TEAM_BUDGET = "team_budget"
    MAX_COST = "max_cost"
    BACK_OFF = "back_off"
    DEPENDENCY = "dependency"
    NO_SITE = "no_site"  # its data class may run nowhere
    NEVER_FITS = "never_fits"
    OVER_QUOTA = "over_quota"  # larger than all that its team may ever hold
    STOP_ASKED = "stop_asked"
    ENDING = "ending"  # its last attempt is over, its result is about to be written


NEVER = frozenset({WaitReason.NO_SITE, WaitReason.NEVER_FITS, WaitReason.OVER_QUOTA})


class DoomReason(StrEnum):
    """Why a job is to be failed without having run."""

    DEPENDENCY_FAILED = "dependency_failed"
    DEPENDENCY_UNKNOWN = "dependency_unknown"
    DEPENDENCY_DELETED = "dependency_deleted"
    DEPENDENCY_CYCLE = "dependency_cycle"


@dataclass(frozen=True, slots=True)
class Admission:
    """One attempt that may start.

    Attributes:
        job, attempt, ray_id: which; ``ray_id`` is the submission id that Ray is to know it by.
        sites: where it may run: one site for a declared job, all that its class allows for an undeclared one.
        selector: Ray label selector that says the same.
        nodes: node to the number of workers that were counted there; a proof that it fits, not an order to Ray.
        driver: node on which the driver was counted; ``""`` where it needs nothing.
        price_per_hour: what its share of paid machines costs; 0 at home.
        egress: what fetching its data costs, once.
        charge: GPUs' worth of the cluster that its team is charged with while it runs, for the fair share.
        reason, facts: why it may start.
    """

    job: str
    attempt: int
    ray_id: str
    sites: tuple[str, ...]
    selector: Mapping[str, str]
    nodes: Mapping[str, int] = field(default_factory=dict[str, int])
    driver: str = ""
    price_per_hour: MicroUSD = 0
    egress: MicroUSD = 0
    charge: float = 0.0
    reason: AdmitReason = AdmitReason.FIRST_IN_LINE
    facts: Mapping[str, Fact] = field(default_factory=dict[str, Fact])


@dataclass(frozen=True, slots=True)
class Preemption:
    """One running attempt that has to be stopped (``AttemptEnd.PREEMPTED``) so that ``for_job`` can start."""

    job: str
    attempt: int
    ray_id: str
    for_job: str
    facts: Mapping[str, Fact] = field(default_factory=dict[str, Fact])


@dataclass(frozen=True, slots=True)
class Doomed:
    """A waiting job that is to be failed (``job.finished`` with phase failed), and why."""

    job: str
    reason: DoomReason
    facts: Mapping[str, Fact] = field(default_factory=dict[str, Fact])


@dataclass(frozen=True, slots=True)
class Away:
    """Where a waiting job could run on machines that would be bought for it.

    Attributes:
        site, node_type, offer: the cheapest that fits.
        nodes: how many of them it takes.
        per_hour: price of its share of them.
        egress: price of fetching its data, once.
        cost: expected price of the whole run, egress included; None where its runtime is not known.
        boot_s: from the purchase to the joined node.
        when: what opens the burst, each threshold in plain words; any of them does.
    """

    site: str
    node_type: str
    offer: str
    nodes: int
    per_hour: MicroUSD
    egress: MicroUSD
    cost: MicroUSD | None
    boot_s: float
    when: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Waiting:
    """One waiting job and why.

    Attributes:
        job: which.
        position: place in the line, from 1; None while it is not in the line (dependency, back-off, never fits).
        of: length of the line.
        reason, facts: why it waits; the units of facts are in their names.
        start_at: when it is expected to start at home; None where that cannot be said.
        away: where it could burst to and for about how much; None where it may not or cannot.
        late: its deadline cannot be met any more.
    """

    job: str
    position: int | None
    of: int
    reason: WaitReason
    facts: Mapping[str, Fact] = field(default_factory=dict[str, Fact])
    start_at: float | None = None
    away: Away | None = None
    late: bool = False
