"""Ray's scheduling request as a snapshot. Repeated resources, labels and selectors are read once and shared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ray.autoscaler.v2 import scheduler as ray_scheduler
from ray.autoscaler.v2.instance_manager.config import NodeTypeConfig
from ray.autoscaler.v2.scheduler import SchedulingRequest
from ray.autoscaler.v2.schema import AutoscalerInstance
from ray.autoscaler.v2.utils import ResourceRequestUtil
from ray.core.generated import common_pb2, instance_manager_pb2

from autoscaler.core.snapshot import BurstRules, Snapshot
from fabric.model.decisions import BaselineState
from fabric.model.demand import AntiAffinity, Demand, Gang, Shape, Strategy
from fabric.model.labels import Constraint, Operator, Selector
from fabric.model.nodes import NO_LABELS, Node, NodePhase, NodeType
from fabric.model.resources import Resources

# Generated protobuf modules have no types.
_common: Any = common_pb2
_im: Any = instance_manager_pb2

_PHASES: Mapping[int, NodePhase] = {
    _im.Instance.QUEUED: NodePhase.PLANNED,
    _im.Instance.REQUESTED: NodePhase.REQUESTED,
    _im.Instance.ALLOCATED: NodePhase.BOOTING,
    _im.Instance.RAY_INSTALLING: NodePhase.BOOTING,
    _im.Instance.RAY_RUNNING: NodePhase.RUNNING,
    _im.Instance.RAY_STOP_REQUESTED: NodePhase.DRAINING,
    _im.Instance.RAY_STOPPING: NodePhase.ENDING,
    _im.Instance.RAY_STOPPED: NodePhase.ENDING,
    _im.Instance.TERMINATING: NodePhase.ENDING,
    _im.Instance.TERMINATION_FAILED: NodePhase.ENDING,
}

_OPERATORS = {
    _common.LabelSelectorOperator.LABEL_OPERATOR_IN: Operator.IN,
    _common.LabelSelectorOperator.LABEL_OPERATOR_NOT_IN: Operator.NOT_IN,
}
_NS = 1e-9
# Read at every call, where Ray's own scheduler reads it.
CONSERVE_GPU_NODES = "AUTOSCALER_CONSERVE_GPU_NODES"


class Translation:
    """One request, read.

    Attributes:
        snapshot: what the brain sees.
        instances: Ray's instance behind each node of the snapshot, by node id.
        requests: Ray's request behind each demand of the snapshot.
        gangs: Ray's gang behind each gang id.
    """

    def __init__(
        self, request: SchedulingRequest, baseline: BaselineState, unneeded_since: Mapping[str, float]
    ) -> None:
        self.instances: dict[str, AutoscalerInstance] = {}
        self.requests: list[Any] = list(request.resource_requests)
        self.gangs: dict[str, Any] = {}
        self._reader = _Reader()
        self.snapshot = self._read(request, baseline, unneeded_since)

    def _read(
        self, request: SchedulingRequest, baseline: BaselineState, unneeded_since: Mapping[str, float]
    ) -> Snapshot:
        reader = self._reader
        node_types = {
            name: reader.node_type(name, config, request) for name, config in request.node_type_configs.items()
        }
        nodes: list[Node] = []
        for instance in request.current_instances:
            node = self._node(instance, node_types, request.disable_launch_config_check)
            if node is not None:
                nodes.append(node)
                self.instances[node.node_id] = instance
        return Snapshot(
            node_types=node_types,
            nodes=tuple(nodes),
            demands=tuple(Demand(reader.shape(entry.request), entry.count) for entry in self.requests),
            gangs=tuple(self._gangs(request.gang_resource_requests)),
            constraints=tuple(
                Demand(reader.shape(entry.request), entry.count)
                for constraint in request.cluster_resource_constraints
                for entry in constraint.resource_requests
            ),
            rules=BurstRules(
                idle_s=request.idle_timeout_s,
                pending_idle_s=request.pending_idle_timeout_s,
                maximum_nodes=request.max_num_nodes,
                terminate_outdated=not request.disable_launch_config_check,
                conserve_gpus=bool(getattr(ray_scheduler, CONSERVE_GPU_NODES)),
            ),
            baseline=baseline,
            unneeded_since=unneeded_since,
        )

    def _node(
        self, instance: AutoscalerInstance, node_types: Mapping[str, NodeType], keep_outdated: bool
    ) -> Node | None:
        """The node behind an instance; None for what Ray's instance manager does not manage or has done with."""
        managed: Any = instance.im_instance
        ray_node: Any = instance.ray_node
        if managed is None:
            return None
        phase = _PHASES.get(managed.status)
        if phase is None or (phase is NodePhase.RUNNING and ray_node is None):
            return None
        kind = node_types.get(managed.instance_type)
        node_id = managed.instance_id
        if not node_id or node_id in self.instances:
            node_id = f"{node_id}#{len(self.instances)}"
        common: dict[str, Any] = {
            "node_id": node_id,
            "node_type": managed.instance_type,
            "phase": phase,
            "instance_id": managed.cloud_instance_id,
            "is_head": managed.node_kind == _im.NodeKind.HEAD,
            "config_hash": managed.launch_config_hash,
            **_times(managed.status_history),
        }
        if phase is NodePhase.RUNNING:
            return Node(
                total=self._reader.resources(ray_node.total_resources),
                free=self._reader.resources(ray_node.available_resources),
                labels=dict(ray_node.labels),
                marks=tuple(sorted(ray_node.dynamic_labels.items())),
                ray_node_id=managed.node_id,
                idle_s=ray_node.idle_duration_ms / 1000,
                **common,
            )
        if kind is None:
            return None if keep_outdated else Node(total=Resources(), free=Resources(), **common)
        return Node(total=kind.resources, free=kind.resources, labels=kind.labels, **common)

    def _gangs(self, gangs: Iterable[Any]) -> Iterable[Gang]:
        # Ray's _sort_gang_resource_requests: it looks at the older field only.
        ordered = sorted(
            gangs,
            key=lambda gang: (sum(len(r.placement_constraints) for r in gang.requests), len(gang.requests)),
            reverse=True,
        )
        for position, gang in enumerate(ordered):
            # Of the alternatives, Ray 2.60 plans for the first only.
            bundles = gang.bundle_selectors[0].resource_requests if gang.bundle_selectors else gang.requests
            name, strategy = _gang_details(gang.details)
            gang_id = name if name and name not in self.gangs else f"{name}#{position}"
            self.gangs[gang_id] = gang
            combined = ResourceRequestUtil.combine_requests_with_affinity(list(bundles))
            yield Gang(gang_id, tuple(self._reader.shape(bundle) for bundle in combined), strategy)


class _Reader:
    """Protobuf maps to values, each distinct one made once."""

    def __init__(self) -> None:
        self._resources: dict[tuple[tuple[str, float], ...], Resources] = {}
        self._shapes: dict[bytes, Shape] = {}

    def resources(self, quantities: Mapping[str, float]) -> Resources:
        key = tuple(quantities.items())
        known = self._resources.get(key)
        if known is None:
            known = self._resources[key] = Resources.of({name: max(0.0, value) for name, value in key})
        return known

    def shape(self, request: Any) -> Shape:
        key = request.SerializeToString(deterministic=True)
        known = self._shapes.get(key)
        if known is None:
            known = self._shapes[key] = Shape(
                resources=self.resources(request.resources_bundle),
                selectors=tuple(_selector(selector) for selector in request.label_selectors),
                anti_affinity=tuple(
                    AntiAffinity(constraint.anti_affinity.label_name, constraint.anti_affinity.label_value)
                    for constraint in request.placement_constraints
                    if constraint.HasField("anti_affinity")
                ),
            )
        return known

    def node_type(self, name: str, config: NodeTypeConfig, request: SchedulingRequest) -> NodeType:
        return NodeType(
            name=name,
            site="",
            resources=self.resources(config.resources),
            labels=dict(config.labels) or NO_LABELS,
            minimum=config.min_worker_nodes,
            maximum=config.max_worker_nodes,
            idle_timeout_s=config.idle_timeout_s,
            priority=config.priority,
            availability=request.cloud_resource_availabilities.get(name, 1.0),
            recovering=request.recoverable_resource_availabilities.get(name, 1.0),
            config_hash=config.launch_config_hash,
        )


def _selector(selector: Any) -> Selector:
    """A selector; an operator that Ray's own scheduler does not know matches nothing there and nothing here."""
    return Selector(
        tuple(
            Constraint(c.label_key, _OPERATORS[c.operator], tuple(sorted(c.label_values)))
            if c.operator in _OPERATORS
            else Constraint(c.label_key, Operator.IN, ())
            for c in selector.label_constraints
        )
    )


def _times(history: Iterable[Any]) -> dict[str, float]:
    """When an instance was asked for, when it joined, and since when it is in its status, from Ray's history."""
    times: dict[str, float] = {}
    for entry in history:
        at = entry.timestamp_ns * _NS
        times.setdefault("launched_at", at)
        if entry.instance_status == _im.Instance.RAY_RUNNING:
            times.setdefault("joined_at", at)
        times["since"] = at
    return times


def _gang_details(details: str) -> tuple[str, Strategy]:
    """Placement group id and strategy from Ray's ``<id>:<strategy>|<state>``; anything else has neither."""
    name, _, rest = details.partition(":")
    strategy = rest.partition("|")[0]
    return (name, Strategy(strategy)) if strategy in set(Strategy) else ("", Strategy.PACK)
