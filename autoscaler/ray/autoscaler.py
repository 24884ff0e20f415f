"""Ray's autoscaler v2 with our scheduler, provider and configuration, and the link to the head it works on."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray._raylet import GcsClient  # pyright: ignore[reportAttributeAccessIssue]
from ray.autoscaler.v2.autoscaler import Autoscaler
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig, IConfigReader
from ray.autoscaler.v2.instance_manager.node_provider import ICloudInstanceProvider
from ray.autoscaler.v2.instance_manager.reconciler import Reconciler
from ray.autoscaler.v2.instance_manager.subscribers.ray_stopper import RayStopError, RayStopper
from ray.autoscaler.v2.scheduler import IResourceScheduler
from ray.autoscaler.v2.sdk import get_cluster_resource_state
from ray.core.generated import autoscaler_pb2, instance_manager_pb2

from fabric.model.decisions import DRAIN_DEADLINE_S

_pb: Any = autoscaler_pb2
_im: Any = instance_manager_pb2

_FORGET_AFTER_S = 3600.0
_RPC_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class RayNode:
    """One Ray node as the head reports it.

    Attributes:
        ray_node_id: Ray's id, hex.
        instance_id: the cloud instance id it joined with; ``""`` on a node nobody gave one.
        node_type: its Ray node type.
        alive: running, idle or draining.
        idle_s: seconds without work.
    """

    ray_node_id: str
    instance_id: str
    node_type: str
    alive: bool
    idle_s: float


class HeadUnreachableError(Exception):
    """The Ray head did not answer, or not as the cluster this process belongs to."""


class HeadReplacedError(HeadUnreachableError):
    """Another cluster answers where the head was: it was started anew without its state."""


class HeadLink:
    """The connection to the Ray head's control store.

    Args:
        address: ``host:port`` of the head.
        token_path: file with the cluster token; it is handed to Ray through the environment of this process.
            ``RAY_AUTH_MODE=token`` must have been there already when Ray was imported.

    Raises:
        HeadUnreachableError: nothing answers there, or it refuses the token.
    """

    def __init__(self, address: str, token_path: Path) -> None:
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(token_path)
        os.environ.setdefault("RAY_enable_autoscaler_v2", "1")
        self.address = address
        try:
            self.client = GcsClient(address=address)
            self.session: str = self._state().cluster_session_name
        except Exception as error:
            raise HeadUnreachableError(f"the Ray head at {address} does not answer: {error}") from error

    def pulse(self) -> bytes:
        """A digest of what should trigger a tick: unplaced requests, and which nodes are up.

        Cheap: one call to the head and no work on it (0.4 ms on a small cluster, measured).
        """
        state = self._state()
        told = _pb.ClusterResourceState()
        told.pending_resource_requests.extend(state.pending_resource_requests)
        told.pending_gang_resource_requests.extend(state.pending_gang_resource_requests)
        told.cluster_resource_constraints.extend(state.cluster_resource_constraints)
        nodes = sorted(node.node_id + bytes([_liveness(node.status)]) for node in state.node_states)
        return told.SerializeToString(deterministic=True) + b"".join(nodes)

    def nodes(self) -> tuple[RayNode, ...]:
        """Every node the head knows, lately dead ones included."""
        return _nodes(self._state())

    def report(self, state: Any) -> None:
        """Tell the head what the autoscaler is doing; ``ray status`` reads it there."""
        self.client.report_autoscaling_state(state.SerializeToString())

    def _state(self) -> Any:
        return get_cluster_resource_state(self.client)


class FabricAutoscaler(Autoscaler):
    """Ray's ``Autoscaler``, installed the way KubeRay installs it, with everything of ours plugged in.

    Args:
        link: the head.
        config_reader: node types and time-outs.
        provider: the machines.
        scheduler: the brain.
        observed: told the Ray nodes of each tick, before the provider is asked for its listing.
    """

    def __init__(
        self,
        link: HeadLink,
        config_reader: IConfigReader,
        provider: ICloudInstanceProvider,
        scheduler: IResourceScheduler,
        observed: Callable[[Sequence[RayNode]], None] = lambda _: None,
    ) -> None:
        self._link = link
        self._provider = provider
        self._observed = observed
        super().__init__(session_name=link.session, config_reader=config_reader, gcs_client=link.client)
        self._scheduler = scheduler

    def update_autoscaling_state(self) -> Any:
        """One tick: reconcile Ray's instance table with the head and the machines, decide, act, report.

        Ray's own version logs every exception and returns None. Here they are raised, so that a tick that failed
        is counted as one; what was in flight is found again by the next.

        Raises:
            HeadReplacedError: make a new link, and a new autoscaler: this one's table of nodes is of another cluster.
        """
        state = get_cluster_resource_state(self._gcs_client)
        if state.cluster_session_name != self._link.session:
            raise HeadReplacedError(
                f"the Ray head at {self._link.address} was replaced: its session is {state.cluster_session_name}, "
                f"no longer {self._link.session}"
            )
        self._observed(_nodes(state))
        self._config_reader.refresh_cached_autoscaling_config()
        machines = self._provider.get_non_terminated()
        result = Reconciler.reconcile(
            instance_manager=self._instance_manager,  # pyright: ignore[reportArgumentType]
            scheduler=self._scheduler,
            cloud_provider=self._provider,
            cloud_resource_monitor=self._cloud_resource_monitor,  # pyright: ignore[reportArgumentType]
            ray_cluster_resource_state=state,
            non_terminated_cloud_instances=machines,
            cloud_provider_errors=self._provider.poll_errors(),
            ray_install_errors=[],
            ray_stop_errors=self._stop_errors(),
            autoscaling_config=self._config_reader.get_cached_autoscaling_config(),
        )
        self._forget_the_ended({node.node_id.hex() for node in state.node_states})
        self._link.report(result)
        return result

    def _init_cloud_instance_provider(self, config: AutoscalingConfig, config_reader: IConfigReader) -> None:  # noqa: ARG002
        self._cloud_instance_provider = self._provider

    def _init_instance_manager(self, *args: Any, **kwargs: Any) -> None:
        super()._init_instance_manager(*args, **kwargs)
        subscribers = self._instance_manager._status_update_subscribers  # pyright: ignore
        subscribers[:] = [
            GentleStopper(self._gcs_client, self._ray_stop_errors_queue) if isinstance(one, RayStopper) else one
            for one in subscribers
        ]

    def _stop_errors(self) -> list[RayStopError]:
        errors: list[RayStopError] = []
        while not self._ray_stop_errors_queue.empty():
            errors.append(self._ray_stop_errors_queue.get())
        return errors

    def _forget_the_ended(self, known_to_head: set[str]) -> None:
        """Drop old rows of Ray's instance table: it keeps every machine there ever was, and is read many times a tick.

        A row whose node the head still lists as dead must stay: Ray would take that node for a new machine.
        """
        storage = self._instance_manager._instance_storage  # pyright: ignore
        rows, _ = storage.get_instances(status_filter={_im.Instance.TERMINATED, _im.Instance.ALLOCATION_FAILED})
        before_ns = time.time_ns() - int(_FORGET_AFTER_S * 1e9)
        old = [
            row.instance_id
            for row in rows.values()
            if row.node_id not in known_to_head and all(step.timestamp_ns < before_ns for step in row.status_history)
        ]
        if old:
            storage.batch_delete_instances(old)


class GentleStopper(RayStopper):
    """Ray's stopper, but work on a node that is given back is let finish until a deadline.

    Ray's own kills the raylet at once for every cause but idleness.
    """

    def __init__(self, gcs_client: Any, error_queue: Any) -> None:
        super().__init__(gcs_client, error_queue)
        self._executor.shutdown(wait=False)
        self._executor = ThreadPoolExecutor(max_workers=4, thread_name_prefix="drain")

    @staticmethod
    def _stop_ray_node(gcs_client: Any, error_queue: Any, ray_node_id: str, instance_id: str) -> None:
        try:
            accepted, _ = gcs_client.drain_node(
                node_id=ray_node_id,
                reason=_pb.DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION,
                reason_message="the fabric gives this node back",
                deadline_timestamp_ms=int((time.time() + DRAIN_DEADLINE_S) * 1000),
            )
        except Exception:
            error_queue.put_nowait(RayStopError(im_instance_id=instance_id))
            raise
        if not accepted:
            error_queue.put_nowait(RayStopError(im_instance_id=instance_id))


def _nodes(state: Any) -> tuple[RayNode, ...]:
    return tuple(
        RayNode(
            ray_node_id=node.node_id.hex(),
            instance_id=node.instance_id,
            node_type=node.ray_node_type_name,
            alive=node.status != _pb.NodeStatus.DEAD,
            idle_s=node.idle_duration_ms / 1000,
        )
        for node in state.node_states
    )


def _liveness(status: int) -> int:
    """RUNNING and IDLE are the same here: becoming idle is noticed by the clock, not by a wake-up."""
    return int(_pb.NodeStatus.RUNNING) if status == _pb.NodeStatus.IDLE else int(status)
