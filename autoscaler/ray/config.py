"""Our node types in the shape Ray's autoscaler reads its configuration in."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ray.autoscaler.v2.instance_manager.config import (
    AutoscalingConfig,
    IConfigReader,
    InstanceReconcileConfig,
)

from fabric.config.resolve import HEAD
from fabric.model.nodes import NodeType

# Ray wants these keys to exist, even where nothing is started through SSH.
_EMPTY_LISTS = (
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "initialization_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
    "cluster_synced_files",
)
_NO_LIMIT = 1_000_000
_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class AutoscalerTerms:
    """What Ray's reconciler has to know.

    Attributes:
        node_types: by name, ``head`` among them.
        maximum_nodes: most nodes together, head included; None: no limit of its own.
        idle_s: idle time-out; None: never.
        pending_idle_s: time-out of launches nobody needs; None: never.
        join_deadline_s: after this a node that has not joined is given up.
    """

    node_types: Mapping[str, NodeType]
    maximum_nodes: int | None = None
    idle_s: float | None = None
    pending_idle_s: float | None = None
    join_deadline_s: float = 480.0


class FabricAutoscalingConfig(AutoscalingConfig):
    """Ray's ``AutoscalingConfig`` with our limits instead of environment variables.

    How many to launch at once, and when, is the brain's decision: Ray's own brakes are off.
    """

    def __init__(self, terms: AutoscalerTerms) -> None:
        self._terms = terms
        super().__init__(_as_ray_reads_it(terms), skip_content_hash=True)

    def get_max_concurrent_launches(self) -> int:
        """No limit: the planner has already decided how many."""
        return _NO_LIMIT

    def get_idle_timeout_s(self) -> float | None:
        """Seconds a burst node may idle; None: for ever."""
        return self._terms.idle_s

    def get_pending_idle_timeout_s(self) -> float | None:
        """Seconds a launch may be unneeded before it is cancelled; None: for ever."""
        return self._terms.pending_idle_s

    def get_instance_reconcile_config(self) -> InstanceReconcileConfig:
        """Time-outs of Ray's instance table.

        A request is resolved by our provider, always: Ray must not ask a second time for the same machine. The
        join deadline is the brain's; Ray's own comes a little later, in case the brain is held up. Ends are
        repeated by our provider until the cloud says they happened.
        """
        return InstanceReconcileConfig(
            request_status_timeout_s=_DAY_S,
            max_num_retry_request_to_allocate=0,
            allocate_status_timeout_s=round(self._terms.join_deadline_s) + 30,
            terminating_status_timeout_s=30,
            ray_stop_requested_status_timeout_s=30,
            transient_status_warn_interval_s=300,
        )


class FabricConfigReader(IConfigReader):
    """Gives Ray the current terms, and never drops a node type that was there before.

    Ray's scheduler stops with a KeyError when a live node has a type it does not know. A type that is gone from
    the configuration stays, with no room for another node.

    Args:
        terms: the current terms; asked once a tick.
        live_types: names of types that nodes still have, whatever the configuration says.
    """

    def __init__(
        self,
        terms: Callable[[], AutoscalerTerms],
        live_types: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        self._terms = terms
        self._live_types = live_types
        self._known: dict[str, NodeType] = {}
        self._read: AutoscalerTerms | None = None
        self.refresh_cached_autoscaling_config()

    def get_cached_autoscaling_config(self) -> AutoscalingConfig:
        """Return the configuration as of the last refresh."""
        return self._cached

    def refresh_cached_autoscaling_config(self) -> None:
        """Take over the current terms; cheap when they have not changed."""
        given = self._terms()
        gone = {
            name: _without_room(self._known.get(name) or NodeType(name, "", given.node_types[HEAD].resources))
            for name in (self._live_types() | self._known.keys()) - given.node_types.keys()
        }
        merged = AutoscalerTerms(
            node_types={**given.node_types, **gone},
            maximum_nodes=given.maximum_nodes,
            idle_s=given.idle_s,
            pending_idle_s=given.pending_idle_s,
            join_deadline_s=given.join_deadline_s,
        )
        if merged == self._read:
            return
        self._known.update(given.node_types)
        self._read = merged
        self._cached = FabricAutoscalingConfig(merged)


def _without_room(node_type: NodeType) -> NodeType:
    return NodeType(
        name=node_type.name,
        site=node_type.site,
        resources=node_type.resources,
        labels=node_type.labels,
        launchable=node_type.launchable,
    )


def _as_ray_reads_it(terms: AutoscalerTerms) -> dict[str, Any]:
    types = {
        name: {
            "resources": _whole_where_possible(node_type.resources.to_dict()),
            "labels": dict(node_type.labels),
            "min_workers": min(node_type.minimum, node_type.maximum),
            # Ray adds one to the head's own maximum.
            "max_workers": 0 if name == HEAD else node_type.maximum,
            "node_config": {},
        }
        for name, node_type in terms.node_types.items()
    }
    workers = _NO_LIMIT if terms.maximum_nodes is None else max(terms.maximum_nodes - 1, 0)
    # Ray warns about two empty keys that it adds by itself.
    logging.getLogger("ray.autoscaler._private.util").setLevel(logging.ERROR)
    return {
        "cluster_name": "fabric",
        "max_workers": workers,
        "upscaling_speed": float(_NO_LIMIT),
        "provider": {"type": "external", "disable_node_updaters": True, "disable_launch_config_check": True},
        "head_node_type": HEAD,
        "available_node_types": types,
        "auth": {},
        "file_mounts": {},
        **{key: [] for key in _EMPTY_LISTS},
    }


def _whole_where_possible(quantities: Mapping[str, float]) -> dict[str, float]:
    return {name: int(value) if value == int(value) else value for name, value in quantities.items()}
