"""Ray's view of the machines: one provider for all sites, over a small protocol that the shell implements."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ray.autoscaler.v2.instance_manager.node_provider import (
    CloudInstance,
    CloudInstanceProviderError,
    ICloudInstanceProvider,
    LaunchNodeError,
)
from ray.core.generated.instance_manager_pb2 import NodeKind  # pyright: ignore[reportAttributeAccessIssue]

from autoscaler.core.configured import HOME_PREFIX
from fabric.config.resolve import HEAD

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FleetNode:
    """One machine as Ray is told of it.

    Attributes:
        node_id: our token, ``onprem/<site>/<name>`` or ``head``; Ray's cloud instance id.
        node_type: name of its node type.
        running: the machine runs; a Ray node may be expected on it.
    """

    node_id: str
    node_type: str
    running: bool


@dataclass(frozen=True, slots=True)
class LaunchFailure:
    """``count`` machines of a request that will not come, and why."""

    request_id: str
    node_type: str
    count: int
    sentence: str


@dataclass(frozen=True, slots=True)
class Listing:
    """The machines and the failures since the last listing, at one instant.

    A launch that failed over appears as a failure of the type that was asked for and as a machine of the type
    that was got, in the same listing; so there is no moment at which it looks as if nothing were coming.
    """

    nodes: Sequence[FleetNode]
    failures: Sequence[LaunchFailure] = ()


class Fleet(Protocol):
    """What the shell does for Ray. Nothing here blocks on a network."""

    def listing(self) -> Listing:
        """Every machine that exists or is on its way, home and head included, and every failure since last time."""
        ...

    def launch(self, node_type: str, count: int, request_id: str) -> None:
        """Begin to buy; the outcome appears in a later listing."""
        ...

    def end(self, token: str) -> None:
        """Begin to end a burst machine; repeated calls for the same one change nothing."""
        ...


class FabricProvider(ICloudInstanceProvider):
    """Ray's ``ICloudInstanceProvider`` over a ``Fleet``.

    Args:
        fleet: does the work.
        refused: called with the id whenever somebody asks to end a machine that is not ours to end.
    """

    def __init__(self, fleet: Fleet, refused: Callable[[str], None] = lambda _: None) -> None:
        self._fleet = fleet
        self._refused = refused
        self._failures: list[LaunchFailure] = []

    def get_non_terminated(self) -> dict[str, CloudInstance]:
        """List every machine; also takes the failures that belong to the same instant."""
        listing = self._fleet.listing()
        self._failures.extend(listing.failures)
        return {node.node_id: _as_ray_lists_it(node) for node in listing.nodes}

    def poll_errors(self) -> list[CloudInstanceProviderError]:
        """Failures up to the last listing. Ray asks for the listing first, in the same tick."""
        failures, self._failures = self._failures, []
        return [
            LaunchNodeError(
                node_type=failure.node_type,
                count=failure.count,
                request_id=failure.request_id,
                timestamp_ns=time.time_ns(),
                details=failure.sentence,
            )
            for failure in failures
        ]

    def launch(self, shape: Mapping[str, int], request_id: str) -> None:
        """Begin to buy ``shape``, node types with counts."""
        for node_type, count in shape.items():
            self._fleet.launch(node_type, count, request_id)

    def terminate(self, ids: Sequence[str], request_id: str) -> None:
        """Begin to end burst machines. The head and on-prem machines are refused, whoever asks.

        Ray's reconciler asks for them by itself when their raylet has died. That is a fact to show, not a machine
        to end, so the refusal must not stop the tick either.
        """
        for node_id in ids:
            if node_id == HEAD or node_id.startswith(HOME_PREFIX):
                logger.error("refused to end %s (request %s): it is not a burst machine", node_id, request_id)
                self._refused(node_id)
                continue
            self._fleet.end(node_id)


def _as_ray_lists_it(node: FleetNode) -> CloudInstance:
    kind = NodeKind.HEAD if node.node_id == HEAD else NodeKind.WORKER
    return CloudInstance(node.node_id, node.node_type, kind, node.running)
