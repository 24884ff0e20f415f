"""Fair share over time: what each team has used, where use long past counts less."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fabric.model.resources import CPU, GPU, Resources

# Charges are kept in whole parts of a GPU, so that adding and taking away leaves nothing behind.
PARTS = 10_000


@dataclass(slots=True)
class Account:
    """One team's use.

    Attributes:
        used: GPU-seconds up to ``at``, each halved for every half-life that has passed since.
        at: Unix seconds.
        rate: parts of a GPU that it holds now.
    """

    used: float = 0.0
    at: float = 0.0
    rate: int = 0

    def used_at(self, now: float, half_life_s: float) -> float:
        """Decayed GPU-seconds at ``now``: the integral of ``rate * 2^-(age / half-life)``."""
        passed = max(0.0, now - self.at)
        left = math.exp2(-passed / half_life_s)
        return self.used * left + self.rate / PARTS * (half_life_s / math.log(2)) * (1.0 - left)

    def change(self, at: float, parts: int, half_life_s: float) -> None:
        """From ``at`` on the team holds ``parts`` more (or fewer)."""
        self.used = self.used_at(at, half_life_s)
        self.at = max(self.at, at)
        self.rate += parts


def charge_of(wanted: Resources, cluster: Resources) -> float:
    """GPUs' worth that a job is charged with: its GPUs; for one without GPUs its dominant share of the cluster.

    A CPU-only job that holds a tenth of the cluster's CPUs is charged a tenth of its GPUs (of its CPUs where it has no
    GPU): the dominant share of Ghodsi et al., "Dominant Resource Fairness" (NSDI 2011).
    """
    if wanted.get(GPU):
        return wanted.gpus
    whole = cluster.gpus or cluster.cpus
    shares = (units / cluster.get(name) for name, units in wanted.items if cluster.get(name))
    return round(min(1.0, max(shares, default=0.0)) * whole, 4) if whole else wanted.get(CPU) / PARTS


def parts_of(charge: float) -> int:
    """A charge in whole parts of a GPU."""
    return round(charge * PARTS)
