"""What one decision of the queue came to. It is a snapshot: it may be read from any thread while the queue goes on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from fabric.admission.values import Admission, Doomed, Preemption, Waiting
from fabric.model.demand import Demand, Gang


@dataclass(frozen=True, slots=True)
class BurstDemand:
    """Waiting work that may leave home and that no room here has place for, as the burst engine's snapshot takes it.

    Attributes:
        demands: jobs of one worker, grouped by shape.
        gangs: jobs of several workers; each bundle names the one site that the gang is to be placed in.
    """

    demands: tuple[Demand, ...] = ()
    gangs: tuple[Gang, ...] = ()


class Waiters(Protocol):
    """Everybody who waits, as the decision saw it."""

    def waiting(self, job: str) -> Waiting | None:
        """Why a job waits; None where it does not."""
        ...

    def everyone(self) -> Iterator[Waiting]:
        """The line in order, then those who are aside."""
        ...

    @property
    def length(self) -> int:
        """Jobs in the line."""
        ...


@dataclass(frozen=True)
class Outcome:
    """One decision.

    Attributes:
        at: Unix seconds.
        admissions: what may start, in the order in which it was decided.
        preemptions: running attempts to stop. The job they make room for is admitted by a later decision; their
            ``job.preempted`` entries keep that one from choosing again.
        doomed: waiting jobs to fail.
        head: the first job of the line that has no room; ``""`` for none.
        burst: what the burst engine is told of.
        line: everybody who waits.
    """

    at: float
    admissions: tuple[Admission, ...] = ()
    preemptions: tuple[Preemption, ...] = ()
    doomed: tuple[Doomed, ...] = ()
    head: str = ""
    burst: BurstDemand = BurstDemand()
    line: Waiters | None = field(default=None, repr=False, compare=False)

    def waiting(self, job: str) -> Waiting | None:
        """Why ``job`` waits; None where it does not (it was admitted, is over, or is not known)."""
        return self.line.waiting(job) if self.line else None

    def everyone(self) -> Iterator[Waiting]:
        """Every waiting job: the line in order, then those aside (dependency, back-off, never fits)."""
        if self.line:
            yield from self.line.everyone()


def burst_demand(outcome: Outcome) -> BurstDemand:
    """The waiting work that the burst engine may buy for."""
    return outcome.burst
