"""Ray's resource scheduler, with our brain in it.

Ray's reconciler asks a scheduler what the cluster should look like and carries the answer out. Bare, this one
follows the rules of Ray's own ``ResourceDemandScheduler``: always open to buy, no prices, nothing on-prem. The
controller gives it a brain that knows the rest.
"""

from __future__ import annotations

import itertools
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from ray.autoscaler.v2.event_logger import AutoscalerEventLogger
from ray.autoscaler.v2.scheduler import IResourceScheduler, SchedulingReply, SchedulingRequest
from ray.core.generated import instance_manager_pb2

from autoscaler.core.decide import decide
from autoscaler.core.policies import policy_named
from autoscaler.core.snapshot import Snapshot
from autoscaler.ray.translate import Translation
from fabric.model.decisions import BaselineState, Decision, Drain, DrainMethod
from fabric.model.nodes import NodePhase
from fabric.model.resources import UNITS
from fabric.telemetry.reasons import sentences

# Generated protobuf modules have no types.
_im: Any = instance_manager_pb2

logger = logging.getLogger(__name__)

Brain = Callable[[Snapshot], Decision]

# Ray groups the infeasible requests it is told of by shape again. More copies of one shape than this say
# nothing more, and a million protobuf messages would be copied for each tick.
COPIES_OF_A_SHAPE = 10_000

_ENDABLE = frozenset(
    {_im.Instance.QUEUED, _im.Instance.ALLOCATED, _im.Instance.RAY_INSTALLING, _im.Instance.RAY_RUNNING}
)
_STANDING = frozenset({NodePhase.PLANNED, NodePhase.REQUESTED, NodePhase.BOOTING, NodePhase.RUNNING})


class FabricScheduler(IResourceScheduler):
    """Decides through a brain, and speaks Ray's language on both sides.

    Args:
        event_logger: Ray's event logger, told of every change; None for none.
        brain: makes the decision; None for Ray's own rules.
    """

    def __init__(self, event_logger: AutoscalerEventLogger | None = None, brain: Brain | None = None) -> None:
        self._event_logger = event_logger
        self._brain = brain or _stock_brain
        self._baseline = BaselineState()
        self._unneeded_since: Mapping[str, float] = {}

    def schedule(self, request: SchedulingRequest) -> SchedulingReply:
        """Say what to launch, what to terminate and what will never fit."""
        read = Translation(request, self._baseline, self._unneeded_since)
        decision = self._brain(read.snapshot)
        self._baseline, self._unneeded_since = decision.baseline, decision.unneeded_since
        drains = [drain for drain in decision.drains if _can_be_ended(read, drain)]
        reply = SchedulingReply(
            to_launch=[_launch_request(launch.node_type, launch.count) for launch in decision.launches],
            to_terminate=[_termination(read, drain) for drain in drains],
            cluster_resources=_cluster_resources(read.snapshot, decision, drains),
            infeasible_resource_requests=_infeasible_requests(read, decision),
            # The brain also plans for work that Ray has not been given yet; Ray is told of its own only.
            infeasible_gang_resource_requests=[
                read.gangs[gang_id] for gang_id in decision.infeasible_gangs if gang_id in read.gangs
            ],
            infeasible_cluster_resource_constraints=(
                list(request.cluster_resource_constraints) if decision.infeasible_constraints else []
            ),
        )
        self._log(reply)
        return reply

    def _log(self, reply: SchedulingReply) -> None:
        if self._event_logger is None:
            return
        try:
            self._event_logger.log_cluster_scheduling_update(
                launch_requests=reply.to_launch,
                terminate_requests=reply.to_terminate,
                infeasible_requests=reply.infeasible_resource_requests,
                infeasible_gang_requests=reply.infeasible_gang_resource_requests,
                infeasible_cluster_resource_constraints=reply.infeasible_cluster_resource_constraints,
                cluster_resources=reply.cluster_resources,
            )
        except Exception:  # whatever Ray's logger trips over, scaling goes on
            logger.exception("Ray's event logger failed")


def _stock_brain(snapshot: Snapshot) -> Decision:
    return decide(snapshot, policy_named("threshold"), time.time())


def _can_be_ended(read: Translation, drain: Drain) -> bool:
    """Whether Ray can end the instance now: not while its launch call is under way, not once it is on its way out."""
    instance: Any = read.instances.get(drain.node_id)
    return instance is not None and instance.im_instance.status in _ENDABLE


def _launch_request(node_type: str, count: int) -> Any:
    return _im.LaunchRequest(
        instance_type=node_type, count=count, id=str(uuid.uuid4()), request_ts_ms=time.time_ns() // 1_000_000
    )


def _termination(read: Translation, drain: Drain) -> Any:
    managed: Any = read.instances[drain.node_id].im_instance
    request = _im.TerminationRequest(
        id=str(uuid.uuid4()),
        instance_id=managed.instance_id,
        ray_node_id=managed.node_id if managed.status == _im.Instance.RAY_RUNNING else "",
        instance_type=managed.instance_type,
        instance_status=managed.status,
        details=" ".join(sentences(drain.reasons)),
    )
    facts = drain.reasons[0].facts if drain.reasons else {}
    if drain.method in (DrainMethod.IDLE, DrainMethod.CANCEL):
        request.cause = _im.TerminationRequest.Cause.IDLE
        request.idle_duration_ms = int(float(str(facts.get("idle_s") or facts.get("unneeded_s") or 0)) * 1000)
    elif drain.method is DrainMethod.OVER_MAXIMUM and "node_type" in facts:
        request.cause = _im.TerminationRequest.Cause.MAX_NUM_NODE_PER_TYPE
        request.max_num_nodes_per_type = int(str(facts["maximum"]))
    elif drain.method is DrainMethod.OVER_MAXIMUM:
        request.cause = _im.TerminationRequest.Cause.MAX_NUM_NODES
        request.max_num_nodes = int(str(facts["maximum"]))
    else:
        # Ray has no word for the others; it drains a node with this cause also while it is busy.
        request.cause = _im.TerminationRequest.Cause.OUTDATED
    return request


def _cluster_resources(snapshot: Snapshot, decision: Decision, drains: list[Drain]) -> dict[str, float]:
    """What all nodes together have once the decision is carried out."""
    ended = {drain.node_id for drain in drains}
    bags = [(node.total, 1) for node in snapshot.nodes if node.phase in _STANDING and node.node_id not in ended]
    bags += [(snapshot.node_types[launch.node_type].resources, launch.count) for launch in decision.launches]
    units: dict[str, int] = {}
    for bag, count in bags:
        for name, value in bag.items:
            units[name] = units.get(name, 0) + value * count
    return {name: value / UNITS for name, value in units.items()}


def _infeasible_requests(read: Translation, decision: Decision) -> list[Any]:
    return list(
        itertools.chain.from_iterable(
            itertools.repeat(read.requests[index].request, min(left, COPIES_OF_A_SHAPE))
            for index, left in decision.infeasible_demands
            if index < len(read.requests)
        )
    )
