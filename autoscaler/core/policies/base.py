"""What a policy is given, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from autoscaler.core.snapshot import Snapshot
from fabric.model.decisions import QueueDepth


@dataclass(frozen=True, slots=True)
class Waiting:
    """Work that nothing which stands or is coming can hold, and that may leave home.

    Attributes:
        demands: requests waiting, by position in the snapshot's demands.
        gangs: positions of waiting gangs.
        constraints: whether ``request_resources`` asks for more than the cluster could hold.
        depth: the same as a queue depth.
        baseline_open: whether the baseline lets anything be bought.
        now: Unix seconds.
    """

    demands: Mapping[int, int]
    gangs: tuple[int, ...]
    constraints: bool
    depth: QueueDepth
    baseline_open: bool
    now: float


@dataclass(frozen=True, slots=True)
class Worth:
    """The part of the waiting work to buy for; what is not in here goes on waiting."""

    demands: Mapping[int, int] = field(default_factory=dict[int, int])
    gangs: tuple[int, ...] = ()
    constraints: bool = False

    def __bool__(self) -> bool:
        return bool(self.demands or self.gangs or self.constraints)


class Policy(Protocol):
    """A rule for spending. It must be a pure function of what it is given."""

    @property
    def name(self) -> str:
        """Its name in the configuration and in receipts."""
        ...

    def worth_buying(self, waiting: Waiting, snapshot: Snapshot) -> Worth:
        """Choose from ``waiting``; never more than it holds, and nothing while the baseline is closed."""
        ...
