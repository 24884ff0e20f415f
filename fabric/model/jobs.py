"""Jobs as the queue sees them: who submitted what, what it needs, and where each attempt stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from fabric.model.money import MicroUSD
from fabric.model.resources import Resources

NOTHING = Resources()


class Role(StrEnum):
    """What a person may do."""

    USER = "user"  # submit; see and stop the jobs of the own team
    OPERATOR = "operator"  # see and stop every job, see the dashboard
    AUDITOR = "auditor"  # see every job and its evidence, change nothing


class JobPhase(StrEnum):
    """Where a job stands. Ray's clients see ``ray_status`` of it."""

    WAITING = "waiting"  # in the queue, or between two attempts
    ADMITTED = "admitted"  # may run; being handed to Ray
    RUNNING = "running"  # Ray has it
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen to the job."""
        return self in (JobPhase.SUCCEEDED, JobPhase.FAILED, JobPhase.STOPPED)

    @property
    def ray_status(self) -> str:
        """The word Ray's Jobs API has for it (``JobStatus``)."""
        return {JobPhase.WAITING: "PENDING", JobPhase.ADMITTED: "PENDING"}.get(self, self.value.upper())


class AttemptEnd(StrEnum):
    """How one attempt came to its end."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"  # the job's own doing: not tried again
    STOPPED = "stopped"  # a person asked
    LOST = "lost"  # the node, or Ray's head, was lost under it: tried again
    RECLAIMED = "reclaimed"  # the cloud took a spot machine back: tried again
    PREEMPTED = "preempted"  # gave way to higher priority: tried again
    REFUSED = "refused"  # Ray would not take the submission


@dataclass(frozen=True, slots=True)
class Needs:
    """What a job declared.

    Attributes:
        declared: False where it declared no resources: it runs as plain Ray does, under its team's cap.
        bundle: what one of its workers needs.
        count: workers, all placed or none; 1 for a job on one machine.
        entrypoint: what the driver itself needs from Ray; zero for most.
        runtime_s: how long the user thinks it runs; None where not said.
        priority: higher first; 0 where not said.
        max_cost: the most its paid capacity may cost in micro-USD; None for no limit.
        deadline: Unix seconds by which it should be done; None for none.
        restartable: it may be stopped at any moment and started again.
        datasets: names of the data it reads.
        after: submission ids of jobs that must succeed first.
    """

    declared: bool = False
    bundle: Resources = NOTHING
    count: int = 1
    entrypoint: Resources = NOTHING
    runtime_s: float | None = None
    priority: int = 0
    max_cost: MicroUSD | None = None
    deadline: float | None = None
    restartable: bool = False
    datasets: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JobRequest:
    """One submission as it was taken in.

    Attributes:
        job: the submission id; unique for ever.
        user, team: who submitted it.
        data_class: the strictest of what the team, the data sets and the user asked for.
        at: Unix seconds when it was taken in.
        needs: what it declared.
        submission: the body of Ray's own submit request (``entrypoint``, ``runtime_env``, ``metadata``, …), which is
            handed to Ray once the job is admitted.
        code: URI of each uploaded package to its SHA-256 in hex.
    """

    job: str
    user: str
    team: str
    data_class: str
    at: float
    needs: Needs = Needs()
    submission: Mapping[str, object] = field(default_factory=dict[str, object])
    code: Mapping[str, str] = field(default_factory=dict[str, str])


def ray_id_of(job: str, attempt: int) -> str:
    """The submission id under which Ray runs one attempt: the user's own for the first."""
    return job if attempt == 1 else f"{job}.{attempt}"
