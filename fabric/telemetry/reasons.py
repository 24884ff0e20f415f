"""Every reason as one plain sentence. The log, ``fabric why``, the console and receipts all speak through here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeGuard

from fabric.model.decisions import Fact, Reason, ReasonCode
from fabric.model.money import format_usd

Facts = Mapping[str, Fact]


def sentence(reason: Reason) -> str:
    """One sentence for one reason. Total: facts that are missing are left out, not guessed."""
    return _SENTENCES[reason.code](reason.facts)


def sentences(reasons: Iterable[Reason]) -> tuple[str, ...]:
    """One sentence for each reason, in order."""
    return tuple(sentence(reason) for reason in reasons)


def _number(value: Fact, one: str) -> str:
    """``1 node``, ``2 nodes``; ``nodes`` where nobody knows how many."""
    if not _known(value):
        return f"{one}s"
    return f"{value:g} {one if value == 1 else one + 's'}"


def _known(value: Fact) -> TypeGuard[int | float]:
    return isinstance(value, (int, float))


def _duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 120:
        return f"{seconds:g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"


def _listed(value: Fact) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def _depth(facts: Facts) -> str:
    """The queue depth in a few words: GPUs where any are wanted, else CPUs, else requests; ``""`` if unknown."""
    for name, unit in (("gpus", "GPU"), ("cpus", "CPU")):
        if facts.get(name):
            return _number(facts[name], unit)
    return _number(facts["requests"], "request") if _known(facts.get("requests")) else ""


def _work(facts: Facts) -> str:
    if "bundles" in facts:
        strategy = facts.get("strategy")
        return f"A placement group of {_number(facts['bundles'], 'bundle')}" + (f" ({strategy})" if strategy else "")
    if "requests" in facts:
        wants = f" of {_listed(facts['resources'])}" if facts.get("resources") else ""
        return f"Work of {_number(facts['requests'], 'request')}{wants}"
    return "The work"


def _baseline_exceeded(facts: Facts) -> str:
    threshold, for_s = "", facts.get("threshold_for_s")
    if _known(for_s):
        limits = [
            _number(facts[name], unit)
            for name, unit in (("threshold_gpus", "GPU"), ("threshold_cpus", "CPU"))
            if facts.get(name)
        ]
        over = " and ".join(limits) or "anything at all"
        threshold = f", and the baseline allows a burst from {over} for {_duration(for_s)}"
    nodes = f", so {_number(facts['nodes'], 'node')} more" if facts.get("nodes") else ""
    depth = _depth(facts)
    wants = f"{depth} that nothing free or coming can hold" if depth else "more than what is free or coming can hold"
    return f"The queue wants {wants}{threshold}{nodes}."


def _minimum_nodes(facts: Facts) -> str:
    minimum = facts.get("minimum")
    keeps = f"at least {_number(minimum, 'node')}" if _known(minimum) else "a least number of nodes"
    return f"The configuration keeps {keeps} of this type."


def _resources_requested(facts: Facts) -> str:
    nodes = f", which takes {_number(facts['nodes'], 'node')} more" if facts.get("nodes") else ""
    return f"A program asked for the cluster to be able to hold this (request_resources){nodes}."


def _cheapest_offer(facts: Facts) -> str:
    price = facts.get("per_hour_micro_usd")
    cost = f" at {format_usd(price)} an hour" if isinstance(price, int) else ""
    return f"{facts.get('offer', 'This offer')}{cost} is the cheapest way to run what waits."


def _failed_over(facts: Facts) -> str:
    return (
        f"{_listed(facts.get('refused', 'Another offer'))} refused lately, "
        f"so {facts.get('instead', 'the next offer')} is tried instead."
    )


def _below_baseline(facts: Facts) -> str:
    thresholds = f" ({_listed(facts['thresholds']).replace(', ', ', or ')})" if facts.get("thresholds") else ""
    return f"The queue has not been deep enough for long enough{thresholds}, so nothing is bought yet."


def _fits_at_home(facts: Facts) -> str:
    if "requests" in facts or "bundles" in facts:
        return f"{_work(facts)} fits at home and waits for room there."
    return "Everything that waits fits on nodes that stand or are coming."


def _stays_home(facts: Facts) -> str:
    return f"{_work(facts)} may not leave home, and home has no room now."


def _infeasible(facts: Facts) -> str:
    return f"{_work(facts)} fits on no node type there is: ask for less, or add a larger node type."


def _maximum_nodes(facts: Facts) -> str:
    return f"{_work(facts)} would need more nodes than the configured maximum."


def _offer_refused_lately(facts: Facts) -> str:
    return f"{_work(facts)} waits: every offer for it was refused lately and is not tried again yet."


def _no_offer(facts: Facts) -> str:
    return f"{_work(facts)} waits: no site offers a machine for it now."


def _budget(facts: Facts) -> str:
    return f"{_work(facts)} waits: a launch would not fit into the budget."


def _head_not_ready(facts: Facts) -> str:
    del facts
    return "The Ray head is not ready, so nothing is bought or given back."


def _draining_fabric(facts: Facts) -> str:
    del facts
    return "The fabric is being taken down: nothing is bought and everything is given back."


def _not_needed_any_more(facts: Facts) -> str:
    return f"Nobody has needed this launch{_after(' for ', facts, 'unneeded_s')}, so it is cancelled before it joins."


def _idle(facts: Facts) -> str:
    limit = _after(", longer than the ", facts, "timeout_s")
    allowed = f"{limit} allowed" if limit else ""
    return f"The node has been idle{_after(' for ', facts, 'idle_s')}{allowed}, and nothing that waits needs it."


def _join_deadline(facts: Facts) -> str:
    within = _after(" within ", facts, "deadline_s")
    waited = f"{within} of its launch" if within else " in time"
    return f"The machine did not join{waited}; it is ended and counted as waste."


def _over_maximum(facts: Facts) -> str:
    nodes, maximum = facts.get("nodes"), facts.get("maximum")
    of_type = f" of type {facts['node_type']}" if facts.get("node_type") else ""
    if _known(nodes) and _known(maximum):
        return f"There are {_number(nodes, 'node')}{of_type} where the configuration allows {_number(maximum, 'node')}."
    return f"There are more nodes{of_type} than the configuration allows."


def _outdated(facts: Facts) -> str:
    if facts.get("known") is False:
        return f"The configuration no longer has the node type {facts.get('node_type', 'of this node')}."
    return "The node was made from an older configuration of its type."


def _over_budget(facts: Facts) -> str:
    return f"The budget of {facts.get('scope', 'this scope')} is used up and says to give back what it pays for."


def _unknown_instance(facts: Facts) -> str:
    return f"The instance{_named(facts, 'instance')} carries our tag, but no entry of the journal justifies it."


def _node_lost(facts: Facts) -> str:
    of_type = f" of type {facts['node_type']}" if facts.get("node_type") else ""
    return f"Ray lost the node{of_type}; its machine is ended."


def _spot_reclaim(facts: Facts) -> str:
    del facts
    return "The cloud announced that it takes this spot instance back."


def _lease_lapsed(facts: Facts) -> str:
    del facts
    return "The instance has not been heard from for longer than its lease."


def _onprem_node_dead(facts: Facts) -> str:
    of_type = f" of type {facts['node_type']}" if facts.get("node_type") else ""
    return f"An on-prem node{of_type} is dead. That is a fact for an operator; it buys nothing by itself."


def _after(words: str, facts: Facts, name: str) -> str:
    """``words`` and a length of time; ``""`` where it is not known."""
    seconds = facts.get(name)
    return f"{words}{_duration(seconds)}" if _known(seconds) else ""


def _named(facts: Facts, name: str) -> str:
    return f" {facts[name]}" if facts.get(name) else ""


_SENTENCES: Mapping[ReasonCode, Callable[[Facts], str]] = {
    ReasonCode.BASELINE_EXCEEDED: _baseline_exceeded,
    ReasonCode.MINIMUM_NODES: _minimum_nodes,
    ReasonCode.RESOURCES_REQUESTED: _resources_requested,
    ReasonCode.CHEAPEST_OFFER: _cheapest_offer,
    ReasonCode.FAILED_OVER: _failed_over,
    ReasonCode.BELOW_BASELINE: _below_baseline,
    ReasonCode.FITS_AT_HOME: _fits_at_home,
    ReasonCode.STAYS_HOME: _stays_home,
    ReasonCode.INFEASIBLE: _infeasible,
    ReasonCode.MAXIMUM_NODES: _maximum_nodes,
    ReasonCode.OFFER_REFUSED_LATELY: _offer_refused_lately,
    ReasonCode.NO_OFFER: _no_offer,
    ReasonCode.BUDGET: _budget,
    ReasonCode.HEAD_NOT_READY: _head_not_ready,
    ReasonCode.DRAINING_FABRIC: _draining_fabric,
    ReasonCode.NOT_NEEDED_ANY_MORE: _not_needed_any_more,
    ReasonCode.IDLE: _idle,
    ReasonCode.JOIN_DEADLINE: _join_deadline,
    ReasonCode.OVER_MAXIMUM: _over_maximum,
    ReasonCode.OUTDATED: _outdated,
    ReasonCode.OVER_BUDGET: _over_budget,
    ReasonCode.UNKNOWN_INSTANCE: _unknown_instance,
    ReasonCode.NODE_LOST: _node_lost,
    ReasonCode.SPOT_RECLAIM: _spot_reclaim,
    ReasonCode.LEASE_LAPSED: _lease_lapsed,
    ReasonCode.ONPREM_NODE_DEAD: _onprem_node_dead,
}
