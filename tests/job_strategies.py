"""Hypothesis strategies for jobs, teams and clusters, small enough that everything is in the way of everything."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import strategies as st

from fabric.admission.values import QueueRules, TeamRules
from fabric.model.jobs import Needs
from fabric.model.resources import Resources
from tests.virtual_queue import CLASSES, HOME, OPEN, STAY

TEAMS = ("red", "blue", "green")


@dataclass(frozen=True)
class Submission:
    """One job and when it comes in."""

    at: float
    job: str
    team: str
    needs: Needs
    data_class: str = OPEN


@st.composite
def needs(draw: st.DrawFn, *, gpus: int = 4, workers: int = 3, declared_runtimes: bool = False) -> Needs:
    """A declared job: a few GPUs or none, a few workers, with or without a runtime."""
    runtimes = st.sampled_from((30.0, 60.0, 90.0, 300.0, 1000.0))
    wanted_gpus = draw(st.integers(0, gpus))
    return Needs(
        declared=True,
        bundle=Resources.of({"GPU": wanted_gpus, "CPU": draw(st.integers(0 if wanted_gpus else 1, 8))}),
        count=draw(st.integers(1, workers)),
        entrypoint=Resources.of({"CPU": draw(st.sampled_from((0, 0, 0, 1, 4)))}),
        runtime_s=draw(runtimes if declared_runtimes else st.one_of(st.none(), runtimes)),
        priority=draw(st.sampled_from((0, 0, 5, 9))),
        restartable=draw(st.booleans()),
    )


@st.composite
def submissions(
    draw: st.DrawFn,
    *,
    most: int = 12,
    teams: tuple[str, ...] = TEAMS,
    undeclared: bool = True,
    priorities: bool = True,
) -> list[Submission]:
    """Jobs in order of time; several come at the same moment."""
    found: list[Submission] = []
    at = 0.0
    for number in range(draw(st.integers(1, most))):
        at += draw(st.sampled_from((0.0, 0.0, 1.0, 40.0, 400.0)))
        mine = Needs() if undeclared and draw(st.integers(0, 5)) == 0 else draw(needs())
        if not priorities:
            mine = replace(mine, priority=0)
        data_class = draw(st.sampled_from((OPEN, STAY)))
        found.append(Submission(at, f"j{number:02d}", draw(st.sampled_from(teams)), mine, data_class))
    return found


@st.composite
def queue_rules(draw: st.DrawFn, *, preemption: bool | None = None) -> QueueRules:
    """Teams with quotas and weights; some without either."""
    teams = {
        name: TeamRules(
            weight=draw(st.sampled_from((0.5, 1.0, 3.0))),
            gpus=draw(st.sampled_from((None, 4.0, 6.0, 12.0))),
            running=draw(st.sampled_from((None, 1, 3))),
            undeclared=draw(st.sampled_from((0, 1, 2))),
            max_priority=draw(st.sampled_from((5, 100))),
        )
        for name in TEAMS
    }
    give_way = draw(st.booleans()) if preemption is None else preemption
    return QueueRules(home=frozenset({HOME}), teams=teams, classes=CLASSES, preemption=give_way)
