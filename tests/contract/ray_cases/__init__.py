"""Small words for describing a Ray cluster to a scheduler, and for reading its answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ray.autoscaler.v2.instance_manager.config import NodeTypeConfig
from ray.autoscaler.v2.scheduler import (
    IResourceScheduler,
    ResourceDemandScheduler,
    SchedulingReply,
    SchedulingRequest,
)
from ray.autoscaler.v2.schema import AutoscalerInstance
from ray.autoscaler.v2.utils import ResourceRequestUtil
from ray.core.generated.autoscaler_pb2 import (
    BundleSelector,
    ClusterResourceConstraint,
    GangResourceRequest,
    NodeState,
    ResourceRequest,
)
from ray.core.generated.common_pb2 import LabelSelectorOperator
from ray.core.generated.instance_manager_pb2 import Instance, NodeKind, TerminationRequest

from autoscaler.ray.scheduler import FabricScheduler

IN = LabelSelectorOperator.LABEL_OPERATOR_IN
NOT_IN = LabelSelectorOperator.LABEL_OPERATOR_NOT_IN
Cause = TerminationRequest.Cause
SCHEDULERS: Mapping[str, type[IResourceScheduler]] = {"ray": ResourceDemandScheduler, "fabric": FabricScheduler}
Quantities = Mapping[str, float]


def kind(
    resources: Quantities, low: int = 0, high: int = 10, labels: Mapping[str, str] | None = None, **more: Any
) -> NodeTypeConfig:
    """A node type; it gets its name from the cluster it is put into."""
    return NodeTypeConfig(
        name="",
        resources=dict(resources),
        min_worker_nodes=low,
        max_worker_nodes=high,
        labels=dict(labels or {}),
        **more,
    )


def ask(
    resources: Quantities,
    *alternatives: Sequence[tuple[str, int, Sequence[str]]],
    together: str = "",
    apart: str = "",
) -> ResourceRequest:
    """One request; ``alternatives`` are label selectors, ``together`` and ``apart`` name a placement group."""
    kinds = ResourceRequestUtil.PlacementConstraintType
    constraints = [(kinds.AFFINITY, together, "")] if together else []
    constraints += [(kinds.ANTI_AFFINITY, apart, "1")] if apart else []
    selectors = [[(key, operator, list(values)) for key, operator, values in one] for one in alternatives]
    return ResourceRequestUtil.make(dict(resources), constraints, selectors or None)


def gang(*bundles: ResourceRequest, older: bool = False) -> GangResourceRequest:
    """A placement group; ``older`` puts the bundles where Ray used to."""
    if older:
        return GangResourceRequest(requests=bundles)
    return GangResourceRequest(bundle_selectors=[BundleSelector(resource_requests=bundles)])


@dataclass
class Cluster:
    """A cluster and what is asked of it."""

    kinds: Mapping[str, NodeTypeConfig]
    instances: list[AutoscalerInstance] = field(default_factory=list)
    requests: Sequence[ResourceRequest] = ()
    gangs: Sequence[GangResourceRequest] = ()
    constraints: Sequence[ResourceRequest] = ()
    most: int | None = None
    idle_s: float | None = None
    pending_idle_s: float | None = None
    keep_outdated: bool = False
    availability: Mapping[str, float] = field(default_factory=dict)
    recovering: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, config in self.kinds.items():
            config.name = name

    def running(
        self,
        node_type: str,
        free: Quantities | None = None,
        *,
        total: Quantities | None = None,
        idle_s: float = 0,
        head: bool = False,
        config_hash: str = "",
        labels: Mapping[str, str] | None = None,
        marks: Mapping[str, str] | None = None,
        count: int = 1,
    ) -> Cluster:
        """Add running nodes; free and total are those of the type unless told."""
        config = self.kinds.get(node_type)
        total = dict(total if total is not None else config.resources)
        for _ in range(count):
            name = f"i{len(self.instances)}"
            state = NodeState(
                node_id=name.encode(),
                ray_node_type_name=node_type,
                total_resources=total,
                available_resources=dict(total if free is None else free),
                idle_duration_ms=int(idle_s * 1000),
                labels=dict(labels if labels is not None else config.labels if config else {}),
                dynamic_labels=dict(marks or {}),
            )
            managed = Instance(
                instance_id=name,
                instance_type=node_type,
                status=Instance.RAY_RUNNING,
                node_id=f"r-{name}",
                launch_config_hash=config_hash,
                node_kind=NodeKind.HEAD if head else NodeKind.WORKER,
            )
            self.instances.append(
                AutoscalerInstance(im_instance=managed, ray_node=state, cloud_instance_id=f"c-{name}")
            )
        return self

    def coming(self, node_type: str, status: int = Instance.ALLOCATED, count: int = 1, head: bool = False) -> Cluster:
        """Add nodes that do not run Ray yet."""
        for _ in range(count):
            name = f"i{len(self.instances)}"
            managed = Instance(
                instance_id=name,
                instance_type=node_type,
                status=status,
                node_kind=NodeKind.HEAD if head else NodeKind.WORKER,
            )
            self.instances.append(AutoscalerInstance(im_instance=managed))
        return self

    def request(self) -> SchedulingRequest:
        """The question to a scheduler."""
        grouped = ResourceRequestUtil.group_by_count(list(self.constraints))
        return SchedulingRequest(
            disable_launch_config_check=self.keep_outdated,
            node_type_configs=dict(self.kinds),
            max_num_nodes=self.most,
            idle_timeout_s=self.idle_s,
            pending_idle_timeout_s=self.pending_idle_s,
            resource_requests=ResourceRequestUtil.group_by_count(list(self.requests)),
            gang_resource_requests=list(self.gangs),
            cluster_resource_constraints=[ClusterResourceConstraint(resource_requests=grouped)] if grouped else [],
            current_instances=self.instances,
            cloud_resource_availabilities=dict(self.availability),
            recoverable_resource_availabilities=dict(self.recovering),
        )

    def ask(self, scheduler: str) -> Answer:
        """Put the question to one of ``SCHEDULERS``."""
        return Answer(SCHEDULERS[scheduler]().schedule(self.request()))


@dataclass
class Answer:
    """A scheduler's reply in plain values."""

    reply: SchedulingReply

    @property
    def launches(self) -> dict[str, int]:
        """Nodes to launch, by type."""
        counts: Counter[str] = Counter()
        for launch in self.reply.to_launch:
            counts[launch.instance_type] += launch.count
        return dict(counts)

    @property
    def ends(self) -> dict[str, int]:
        """Cause of every termination, by instance id."""
        return {request.instance_id: request.cause for request in self.reply.to_terminate}

    @property
    def infeasible(self) -> Counter[tuple[tuple[str, float], ...]]:
        """Infeasible requests by resources."""
        return Counter(
            tuple(sorted(request.resources_bundle.items())) for request in self.reply.infeasible_resource_requests
        )

    def summary(self) -> tuple[Any, ...]:
        """All that two schedulers should agree on."""
        return (
            self.launches,
            self.ends,
            self.infeasible,
            len(self.reply.infeasible_gang_resource_requests),
            len(self.reply.infeasible_cluster_resource_constraints),
        )
