"""What one decision of the queue came to. It is a snapshot: it may be read from any thread while the queue goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from fabric.admission.values import Admission, Doomed, Preemption, Waiting
from fabric.model.demand import Demand, Gang

Explain = Callable[[str], Waiting | None]


@dataclass(frozen=True, slots=True)
class BurstDemand:
    """Waiting work that may leave home and that no room here has place for, as the burst engine's snapshot takes it.

    Attributes:
        demands: jobs of one worker, grouped by shape.
        gangs: jobs of several workers; each bundle names the one site that the gang is to be placed in.
    """

    demands: tuple[Demand, ...] = ()
    gangs: tuple[Gang, ...] = ()


def _nobody_waits(job: str) -> None:
    del job


@dataclass(frozen=True)
class Outcome:
    """One decision.

    Attributes:
        at: Unix seconds.
        admissions: what may start, in the order in which it was decided.
        preemptions: running attempts to stop. The job they make room for is admitted by a later decision.
        doomed: waiting jobs to fail.
        head: the first job of the line that has no room; ``""`` for none.
        burst: what the burst engine is told of.
        line: waiting jobs that could run, in order; ``waiting`` explains each.
        aside: waiting jobs that are not in the line: dependency, back-off, never fits.
    """

    at: float
    admissions: tuple[Admission, ...] = ()
    preemptions: tuple[Preemption, ...] = ()
    doomed: tuple[Doomed, ...] = ()
    head: str = ""
    burst: BurstDemand = BurstDemand()
    explain: Explain = field(default=_nobody_waits, repr=False, compare=False)
    line: Callable[[], tuple[str, ...]] = field(default=tuple, repr=False, compare=False)
    aside: Mapping[str, Waiting] = field(default_factory=dict[str, Waiting], repr=False, compare=False)

    def waiting(self, job: str) -> Waiting | None:
        """Why ``job`` waits; None where it does not (it was admitted, is over, or is not known)."""
        return self.aside.get(job) or self.explain(job)

    def everyone(self) -> Iterator[Waiting]:
        """Every waiting job: the line in order, then those aside."""
        for job in self.line():
            waiting = self.waiting(job)
            if waiting is not None:
                yield waiting
        yield from self.aside.values()


def burst_demand(outcome: Outcome) -> BurstDemand:
    """The waiting work that the burst engine may buy for."""
    return outcome.burst
