"""The brain as the tick calls it: Ray's facts, enriched with ours, decided on, written down, remembered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog

from autoscaler.core.configured import burst_rules
from autoscaler.core.decide import decide
from autoscaler.core.lifecycle import InstanceRecord
from autoscaler.core.policies import policy_named
from autoscaler.core.settling import History, settled
from autoscaler.core.snapshot import RefusedOffer, Snapshot
from autoscaler.shell.book import Book
from autoscaler.shell.crashpoints import reached
from autoscaler.shell.home import HomeView
from fabric.config.resolve import node_types, sells
from fabric.config.schema import Config
from fabric.journal.base import Draft
from fabric.model.decisions import BaselineState, Decision
from fabric.model.events import Event
from fabric.model.money import BudgetRoom
from fabric.model.nodes import Node, NodePhase, NodeType, Offer
from fabric.model.resources import Resources
from fabric.sovereignty.rules import Rule, may_leave_to, verdict
from fabric.telemetry.emit import Metrics
from fabric.telemetry.names import BURST_OPEN, DECIDE_SECONDS, QUEUE_GPUS, QUEUE_REQUESTS, SPEND

NOTHING = Resources()


@dataclass(frozen=True, slots=True)
class Batch:
    """Machines to buy together, and the offers to try for each, best first."""

    count: int
    offers: tuple[Offer, ...]


@dataclass(frozen=True, slots=True)
class GivenBack:
    """Why the brain gives a machine back, and how long it had been idle then."""

    cause: str
    idle_s: float


@dataclass(frozen=True, slots=True)
class Thought:
    """One decision with what it was made from."""

    snapshot: Snapshot
    decision: Decision
    policy: str


class Receipts:
    """How a decision is kept and told.

    Args:
        write: the journal data of a decision; enough to recompute it.
        sentences: the decision in words.
        baseline: the baseline's state in a receipt.
    """

    def __init__(
        self,
        write: Callable[[Thought], dict[str, Any]],
        sentences: Callable[[Thought], list[str]],
        baseline: Callable[[Mapping[str, Any]], BaselineState],
    ) -> None:
        self.write = write
        self.sentences = sentences
        self.baseline = baseline


class Brain:
    """``Callable[[Snapshot], Decision]`` for the scheduler, and ``Plans`` for the fleet.

    Args:
        config: the configuration in force.
        book: the journal's fold.
        offers: what can be bought now.
        home: on-prem nodes.
        budgets: room in every budget at a time (Unix seconds).
        receipts: how decisions are kept.
        clock: Unix seconds.
        metrics: numbers.
        turn: the queue's: given the snapshot and what is free by node id, the snapshot with the queue's wishes.
    """

    def __init__(
        self,
        config: Callable[[], Config],
        book: Book,
        offers: Callable[[], Sequence[Offer]],
        home: Callable[[], Sequence[HomeView]],
        budgets: Callable[[float], Sequence[BudgetRoom]],
        receipts: Receipts,
        clock: Callable[[], float],
        metrics: Metrics,
        turn: Callable[[Snapshot, Mapping[str, Resources]], Snapshot] = lambda snapshot, _: snapshot,
    ) -> None:
        self._config = config
        self._book = book
        self._offers = offers
        self._turn = turn
        self.home = home
        self._budgets = budgets
        self._receipts = receipts
        self._clock = clock
        self._metrics = metrics
        self._outline: object = None
        self._plans: dict[str, list[Batch]] = {}
        self._given_back: dict[str, GivenBack] = {}
        self._unneeded_since: Mapping[str, float] = {}
        self._history: History = ()
        self._baseline = self._remembered()
        self._log = structlog.get_logger()
        self.thought: Thought | None = None
        self.sentences: list[str] = []

    def __call__(self, seen: Snapshot) -> Decision:
        """Decide on what Ray sees. Written down before anybody acts on it."""
        now, policy = self._clock(), self._config().burst.policy
        settled_nodes, self._history = settled(seen.nodes, self._history, now)
        snapshot = self._enrich(replace(seen, nodes=settled_nodes), now)
        snapshot = self._turn(snapshot, {node.node_id: node.free for node in seen.nodes})
        with self._metrics.timed(DECIDE_SECONDS):
            decision = decide(snapshot, policy_named(policy), now)
        self._baseline, self._unneeded_since = decision.baseline, decision.unneeded_since
        thought = Thought(snapshot, decision, policy)
        self._plan(thought)
        self._write(thought)
        self._measure(decision)
        self.thought = thought
        return decision

    def batches_for(self, node_type: str, count: int) -> list[Batch]:
        """See ``Plans``. Ray adds up the launches of one type; this takes them apart again."""
        batches: list[Batch] = []
        for batch in self._plans.pop(node_type, []):
            taken = min(batch.count, count)
            count -= taken
            if taken:
                batches.append(Batch(taken, batch.offers))
        if count:
            # Ray held a launch back from an earlier tick: the plan is gone, the price list is not.
            on_sale = (offer for offer in self._on_sale() if offer.node_type == node_type)
            batches.append(Batch(count, tuple(sorted(on_sale, key=lambda offer: offer.tariff.per_hour))))
        return batches

    def cause_of(self, token: str) -> GivenBack | None:
        """See ``Plans``."""
        return self._given_back.get(token)

    def _enrich(self, seen: Snapshot, now: float) -> Snapshot:
        config, live = self._config(), self._book.live()
        configured = node_types(config)
        bought = {record.node_type for record in live.values()}
        # A type that left the configuration while its machines live: they are given back, never bought again.
        retired = {
            name: replace(kind, launchable=name in bought, maximum=0, minimum=0)
            for name, kind in seen.node_types.items()
            if name not in configured
        }
        rules = burst_rules(config)
        refused = tuple(
            RefusedOffer(
                offer_id,
                refusal.until(config.burst.refusal_backoff, config.burst.refusal_backoff_max),
                refusal.count,
            )
            for offer_id, refusal in sorted(self._book.refusals().items())
        )
        dead = (_dead(view, configured) for view in self.home() if not view.alive and not view.starting)
        return replace(
            seen,
            node_types={**retired, **configured},
            nodes=(*(_known(node, live) for node in seen.nodes), *dead),
            offers=tuple(self._on_sale()),
            priced=True,
            refused=refused,
            rules=rules,
            baseline=self._baseline,
            unneeded_since=self._unneeded_since,
            budgets=tuple(self._budgets(now)),
            # Ray names no job on its demand: the default class speaks for all of it that names no sites itself.
            may_leave_to=may_leave_to(config, config.defaults.data_class),
            may_leave_by_name=frozenset().union(*(may_leave_to(config, name) for name in config.data_classes)),
        )

    def _on_sale(self) -> list[Offer]:
        """Offers that fit the configuration, of sites and node types that nobody has to look at first."""
        config, now = self._config(), self._clock()
        pause = config.burst.refusal_backoff_max
        stopped = {name for name, stop in self._book.stops().items() if now < stop.at + pause}
        known = node_types(config)
        return [
            offer
            for offer in self._offers()
            if offer.node_type in known
            and sells(known[offer.node_type], offer)
            and not stopped & {offer.site, offer.node_type}
            and verdict(config, config.defaults.data_class, offer.site, offer.market).rule is not Rule.NO_SPOT
        ]

    def _plan(self, thought: Thought) -> None:
        by_id = {offer.offer_id: offer for offer in thought.snapshot.offers}
        self._plans = {}
        for launch in thought.decision.launches:
            offers = tuple(by_id[offer] for offer in launch.offers if offer in by_id)
            self._plans.setdefault(launch.node_type, []).append(Batch(launch.count, offers))
        nodes = {node.node_id: node for node in thought.snapshot.nodes}
        # A node that runs on was not given back after all: Ray found work on it.
        running = {node.token for node in nodes.values() if node.phase is NodePhase.RUNNING}
        going = self._book.live().keys() - running
        kept = {token: back for token, back in self._given_back.items() if token in going}
        given = {
            nodes[drain.node_id].token: GivenBack(str(drain.method), nodes[drain.node_id].idle_s)
            for drain in thought.decision.drains
            if drain.node_id in nodes
        }
        self._given_back = {**kept, **given}

    def _write(self, thought: Thought) -> None:
        """Append a receipt when the decision does something, or when what it says has changed."""
        outline = _outline_of(thought.decision)
        acts = thought.decision.launches or thought.decision.drains
        if outline == self._outline and not acts:
            return
        self.sentences = self._receipts.sentences(thought)
        reached("decision.before_entry")
        data = {**self._receipts.write(thought), "sentences": self.sentences}
        self._book.append(Draft(Event.DECISION, data))
        reached("decision.after_entry")
        self._outline = outline
        for sentence in self.sentences:
            self._log.info("decision", sentence=sentence)

    def _remembered(self) -> BaselineState:
        """The baseline's state of the last receipt: a restart must not make a queue wait anew."""
        self._book.refresh()
        entry = self._book.last_decision
        return BaselineState() if entry is None else self._receipts.baseline(entry.data)

    def _measure(self, decision: Decision) -> None:
        self._metrics.set(QUEUE_GPUS, decision.depth.gpus)
        self._metrics.set(QUEUE_REQUESTS, decision.depth.requests)
        self._metrics.set(BURST_OPEN, 0 if decision.baseline.open_since is None else 1)
        self._metrics.set(SPEND, decision.spend_per_hour / 1_000_000)


def _known(node: Node, live: Mapping[str, InstanceRecord]) -> Node:
    """Add what only the journal knows: which offer it was, when it was asked for and when it joined."""
    record = live.get(node.token or node.instance_id)
    if record is None:
        return node
    return replace(
        node,
        token=record.token,
        offer_id=record.offer,
        launched_at=record.intended_at,
        joined_at=record.joined_at,
    )


def _dead(view: HomeView, configured: Mapping[str, NodeType]) -> Node:
    kind = configured[view.node.node_type]
    return Node(
        node_id=view.node.node_id,
        node_type=kind.name,
        phase=NodePhase.DEAD,
        total=kind.resources,
        free=NOTHING,
        labels=kind.labels,
        instance_id=view.node.node_id,
        since=view.since,
    )


def _outline_of(decision: Decision) -> object:
    """What a decision says without its numbers: a second one that says the same needs no receipt."""
    baseline = decision.baseline
    return (
        tuple((launch.node_type, launch.count) for launch in decision.launches),
        tuple((drain.node_id, drain.method) for drain in decision.drains),
        tuple((refusal.subject, tuple(r.code for r in refusal.reasons)) for refusal in decision.refusals),
        tuple(since is not None for since in baseline.above_since),
        baseline.open_since is not None,
    )
