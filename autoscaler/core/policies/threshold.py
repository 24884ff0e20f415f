"""The plain policy: once the baseline is exceeded, everything that waits is worth buying for."""

from __future__ import annotations

from dataclasses import dataclass

from autoscaler.core.policies.base import Waiting, Worth
from autoscaler.core.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class ThresholdPolicy:
    """Buy for all waiting work while the baseline is open, for none while it is closed."""

    name: str = "threshold"

    def worth_buying(self, waiting: Waiting, snapshot: Snapshot) -> Worth:
        """Everything or nothing."""
        del snapshot  # the baseline is all this policy looks at
        if not waiting.baseline_open:
            return Worth()
        return Worth(waiting.demands, waiting.gangs, waiting.constraints)
