"""What the controller says of itself at ``/status``: one JSON object that ``fabric status`` and the console show."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from autoscaler.core.lifecycle import InstanceRecord, Phase
from autoscaler.shell.book import Book
from autoscaler.shell.brain import Brain, Thought
from autoscaler.shell.loop import Beat
from autoscaler.shell.purse import Purse
from autoscaler.shell.sites import Sites
from fabric.config.reload import ConfigFile
from fabric.config.resolve import node_types
from fabric.config.sites import OnPremSite
from fabric.model.nodes import Market, Node, NodePhase, NodeType
from fabric.telemetry.emit import Metrics
from fabric.telemetry.names import CONFIG_PROBLEMS, GPUS, NODES, ONPREM_DEAD

_IN_CLUSTER = frozenset({NodePhase.RUNNING, NodePhase.DRAINING})
_UNSEEN = {Phase.RUNNING: "booting", Phase.DRAINING: "booting"}  # it has joined the gateway, and is no Ray node yet
_NOT_YET = frozenset({NodePhase.PLANNED, NodePhase.REQUESTED, NodePhase.BOOTING})


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the status comes from; everything here is read, nothing is asked anew."""

    file: ConfigFile
    book: Book
    brain: Brain
    sites: Sites
    purse: Purse
    beat: Callable[[], Beat]
    head: Callable[[], str]
    started_at: float
    clock: Callable[[], float]


def status(sources: Sources) -> dict[str, Any]:
    """Everything, as of the last tick. Money is micro-USD, times are Unix seconds."""
    config, thought, beat = sources.file.current, sources.brain.thought, sources.beat()
    live, decided = sources.book.live(), sources.book.last_decision
    return {
        "fabric": config.fabric.name,
        "at": sources.clock(),
        "pid": os.getpid(),
        "started_at": sources.started_at,
        "ok": beat.last_tick > 0 and not beat.error,
        "last_tick": beat.last_tick,
        "tick_error": beat.error,
        "ray": {"address": f"{config.ray.address}:{config.ray.port}", "error": sources.head()},
        "config": {
            "path": str(sources.file.path),
            "digest": sources.file.digest,
            "problems": [str(problem) for problem in sources.file.problems],
        },
        "sites": _sites(sources),
        "node_types": _node_types(sources, thought, live),
        "nodes": _nodes(thought, live),
        "gpus": _gpus(thought),
        "queue": asdict(thought.decision.depth) if thought else {"gpus": 0.0, "cpus": 0.0, "requests": 0},
        "baseline": _baseline(sources, thought),
        "spend_per_hour_micro_usd": thought.decision.spend_per_hour if thought else 0,
        "budgets": _budgets(sources),
        "refused_offers": [asdict(refused) for refused in thought.snapshot.refused] if thought else [],
        "last_decision": {
            "seq": decided.seq if decided else 0,
            "at": decided.at if decided else 0.0,
            "sentences": list(decided.data.get("sentences", [])) if decided else [],
        },
    }


def measure(sources: Sources, metrics: Metrics) -> None:
    """Bring the gauges that are counts of things up to date."""
    metrics.set(CONFIG_PROBLEMS, len(sources.file.problems))
    thought = sources.brain.thought
    if thought is None:
        return
    for gauge in (NODES, GPUS):
        metrics.forget(gauge)
    counts: dict[tuple[str, str], int] = {}
    for node in thought.snapshot.nodes:
        key = (node.node_type, str(node.phase))
        counts[key] = counts.get(key, 0) + 1
    for (node_type, phase), count in counts.items():
        metrics.set(NODES, count, node_type=node_type, phase=phase)
    for site, (total, used) in _gpus_by_site(thought).items():
        metrics.set(GPUS, used, site=site, use="used")
        metrics.set(GPUS, total - used, site=site, use="free")
    dead = sum(node.phase is NodePhase.DEAD for node in thought.snapshot.nodes)
    metrics.set(ONPREM_DEAD, dead)


def _budgets(sources: Sources) -> list[dict[str, Any]]:
    return [
        {
            "scope": state.rule.scope,
            "per": state.rule.per,
            "limit_micro_usd": state.rule.limit,
            "accrued_micro_usd": state.accrued,
            "committed_micro_usd": state.committed,
            "left_micro_usd": state.left,
            "actions": sorted(state.actions),
        }
        for state in sources.purse.states(sources.clock())
    ]


def _sites(sources: Sources) -> list[dict[str, Any]]:
    stops, watches = sources.book.stops(), sources.sites.watches()
    listed: list[dict[str, Any]] = []
    for name, site in sources.file.current.sites.items():
        told: dict[str, Any] = {"name": name, "kind": site.kind, "error": "", "listed_at": None, "offers": 0}
        if not isinstance(site, OnPremSite) and name in watches:
            watch = watches[name]
            told["error"] = watch.sweep.view.error or watch.offers_error
            told["listed_at"] = watch.sweep.view.listed_at
            told["offers"] = len(watch.offers)
        own = [stop for key, stop in stops.items() if key == name or key.startswith(f"{name}.")]
        told["stopped"] = [f"{stop.error}: {stop.sentence}" for stop in own]
        listed.append(told)
    return listed


def _node_types(sources: Sources, thought: Thought | None, live: Mapping[str, InstanceRecord]) -> list[dict[str, Any]]:
    """Plan: what should exist. Requested: launches that are not in the cluster yet. Observed: what has checked in."""
    nodes = thought.snapshot.nodes if thought else ()
    kinds: Mapping[str, NodeType] = {
        **(thought.snapshot.node_types if thought else {}),
        **node_types(sources.file.current),
    }
    seen = {node.token or node.instance_id for node in nodes}
    home = Counter(view.node.node_type for view in sources.brain.home())
    observed = Counter(node.node_type for node in nodes if node.phase in _IN_CLUSTER)
    coming = _coming(thought, live)
    requested = Counter(record.node_type for record in coming.values())
    going = Counter(record.node_type for record in live.values() if record.phase is Phase.ENDING)
    wished = _wished(thought) if thought else Counter[str]()
    # A launch that Ray has not been told of is one of those it waits for.
    wished.subtract(record.node_type for token, record in coming.items() if token not in seen)
    return [
        {
            "name": name,
            "site": kind.site,
            "launchable": kind.launchable,
            "gpus": kind.resources.gpus,
            "cpus": kind.resources.cpus,
            "minimum": kind.minimum,
            "maximum": kind.maximum,
            "plan": max(home[name], observed[name] + requested[name] + max(0, wished[name])),
            "requested": requested[name],
            "observed": observed[name],
            "ending": going[name],
        }
        for name, kind in kinds.items()
    ]


def _coming(thought: Thought | None, live: Mapping[str, InstanceRecord]) -> dict[str, InstanceRecord]:
    """Launches that have not become a Ray node, by token, whether or not they have joined the gateway.

    Until Ray has been asked, those that have joined are not among them: most likely they are in the cluster.
    """
    nodes = thought.snapshot.nodes if thought else ()
    past = {node.token for node in nodes if node.phase not in _NOT_YET}
    joined = (Phase.RUNNING, Phase.DRAINING) if thought else ()
    return {
        token: record
        for token, record in live.items()
        if token not in past and (record.phase.coming or record.phase in joined)
    }


def _wished(thought: Thought) -> Counter[str]:
    """Machines that Ray waits for without knowing which, and those just decided on, by node type."""
    cancelled = {drain.node_id for drain in thought.decision.drains}
    wished = Counter(
        node.node_type for node in thought.snapshot.nodes if _is_placeholder(node) and node.node_id not in cancelled
    )
    for launch in thought.decision.launches:
        wished[launch.node_type] += launch.count
    return wished


def _is_placeholder(node: Node) -> bool:
    """Whether Ray waits for some machine here: which one, the launches tell."""
    return node.phase in (NodePhase.PLANNED, NodePhase.REQUESTED) and not node.token and not node.instance_id


def _nodes(thought: Thought | None, live: Mapping[str, InstanceRecord]) -> list[dict[str, Any]]:
    """Every machine once. What is only wished for is none yet."""
    if thought is None:
        return []
    machines = [node for node in thought.snapshot.nodes if not _is_placeholder(node)]
    shown = {node.token or node.instance_id for node in machines}
    return [
        *(_node(node, thought, live) for node in machines),
        *(_unseen(record) for token, record in live.items() if token not in shown),
    ]


def _node(node: Node, thought: Thought, live: Mapping[str, InstanceRecord]) -> dict[str, Any]:
    kind, record = thought.snapshot.node_types.get(node.node_type), live.get(node.token)
    return {
        "id": node.node_id,
        "instance": node.instance_id,
        "token": node.token,
        "node_type": node.node_type,
        "site": kind.site if kind else "",
        "phase": str(node.phase),
        "is_head": node.is_head,
        "ray_node_id": node.ray_node_id,
        "gpus": node.total.gpus,
        "gpus_free": node.free.gpus,
        "cpus": node.total.cpus,
        "cpus_free": node.free.cpus,
        "idle_s": node.idle_s,
        "since": node.since,
        "launched_at": node.launched_at,
        "joined_at": node.joined_at,
        "offer": node.offer_id,
        "market": record.market if record else str(Market.OWNED),
        "per_hour_micro_usd": record.tariff.per_hour if record else 0,
    }


def _unseen(record: InstanceRecord) -> dict[str, Any]:
    """A launch that Ray does not hear of: its reply is outstanding, it is new, or it is being ended."""
    return {
        "id": record.token,
        "instance": record.token,
        "token": record.token,
        "node_type": record.node_type,
        "site": record.site,
        "phase": _UNSEEN.get(record.phase, str(record.phase)),
        "is_head": False,
        "ray_node_id": record.ray_node_id,
        "gpus": 0.0,
        "gpus_free": 0.0,
        "cpus": 0.0,
        "cpus_free": 0.0,
        "idle_s": 0.0,
        "since": record.ending_at or record.intended_at,
        "launched_at": record.intended_at,
        "joined_at": record.joined_at,
        "offer": record.offer,
        "market": record.market,
        "per_hour_micro_usd": record.tariff.per_hour,
    }


def _gpus(thought: Thought | None) -> dict[str, dict[str, float]]:
    totals = {"home": {"total": 0.0, "used": 0.0}, "burst": {"total": 0.0, "used": 0.0}}
    for node in thought.snapshot.nodes if thought else ():
        if node.phase in _IN_CLUSTER:
            where = totals["burst" if node.token else "home"]
            where["total"] += node.total.gpus
            where["used"] += node.total.gpus - node.free.gpus
    return totals


def _gpus_by_site(thought: Thought) -> dict[str, tuple[float, float]]:
    sites: dict[str, tuple[float, float]] = {}
    for node in thought.snapshot.nodes:
        kind = thought.snapshot.node_types.get(node.node_type)
        if node.phase in _IN_CLUSTER and kind is not None:
            total, used = sites.get(kind.site, (0.0, 0.0))
            sites[kind.site] = (total + node.total.gpus, used + node.total.gpus - node.free.gpus)
    return sites


def _baseline(sources: Sources, thought: Thought | None) -> dict[str, Any]:
    state = thought.decision.baseline if thought else None
    above: Sequence[float | None] = state.above_since if state else ()
    blocks = sources.file.current.burst.baseline
    return {
        "open": state is not None and state.open_since is not None,
        "open_since": state.open_since if state else None,
        "open_threshold": state.open_threshold if state else None,
        "thresholds": [
            {
                "gpus": block.gpus,
                "cpus": block.cpus,
                "for_s": block.for_,
                "above_since": above[index] if index < len(above) else None,
            }
            for index, block in enumerate(blocks)
        ],
    }
