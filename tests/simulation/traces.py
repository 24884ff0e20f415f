"""Real traces of GPU clusters, replayed through the queue in virtual time."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fabric.admission.outcome import Outcome
from fabric.admission.values import Capacity
from fabric.model.jobs import Needs
from fabric.model.resources import Resources
from tests.virtual_queue import RULES, World, rooms

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("FABRIC_SHARED") or ROOT.parent / "shared")
NODE_GPUS = 8


@dataclass(frozen=True)
class Job:
    """One line of a trace."""

    job: str
    at: float
    gpus: int
    duration: float


@dataclass
class Replayed:
    """What a replay came to.

    Attributes:
        jobs: how many.
        promised: the start that each head was promised when it first was the head.
        waits: seconds each job waited.
        decisions: how many were made.
    """

    world: World
    jobs: int
    promised: dict[str, float] = field(default_factory=dict)
    waits: list[float] = field(default_factory=list)
    decisions: int = 0


def traces() -> list[Path]:
    """Every job trace there is, smallest first; none where the traces are not at hand."""
    return sorted((SHARED / "traces").glob("philly_vc_*.csv"), key=lambda path: (path.stat().st_size, path.name))


def read(path: Path, most: int | None = None) -> list[Job]:
    """The first jobs of a trace."""
    with path.open() as lines:
        rows = [
            Job(f"{int(row['job_id']):06d}", float(row["submit_s"]), int(row["gpus"]), float(row["duration_s"]))
            for row in csv.DictReader(lines)
        ]
    return rows[:most]


def needs(job: Job) -> Needs:
    """Up to eight GPUs on one node, more on whole nodes."""
    workers = -(-job.gpus // NODE_GPUS)
    bundle = Resources.of({"GPU": job.gpus if workers == 1 else NODE_GPUS})
    return Needs(declared=True, bundle=bundle, count=workers, runtime_s=max(1.0, job.duration))


def nodes_for(jobs: list[Job], load: float) -> int:
    """How many nodes see such a load, and at least what the largest job needs."""
    span = max(job.at + job.duration for job in jobs) - jobs[0].at
    work = sum(job.gpus * job.duration for job in jobs)
    return max(*(needs(job).count for job in jobs), round(work / span / load / NODE_GPUS), 1)


def replay(jobs: list[Job], nodes: int, teams: int = 1) -> Replayed:
    """Submit a trace at its own times and let it run out; each decision is checked against what the nodes have."""
    world = World(Capacity(rooms(nodes, gpus=NODE_GPUS, cpus=0)), RULES)
    done = Replayed(world, len(jobs))
    held: dict[str, int] = {}

    def watch(world: World, outcome: Outcome) -> None:
        done.decisions += 1
        if outcome.head and outcome.head not in done.promised:
            waiting = outcome.waiting(outcome.head)
            assert waiting is not None and waiting.start_at is not None
            done.promised[outcome.head] = waiting.start_at
        if outcome.admissions:
            held.clear()
            for record, attempt in world.queue.live_attempts():
                hold(record.request.needs, attempt.nodes)
        for admission in outcome.admissions:
            request = world.queue.jobs[admission.job].request
            assert sum(admission.nodes.values()) == request.needs.count
            hold(request.needs, admission.nodes)
            done.waits.append(world.now - request.at)

    def hold(wanted: Needs, placed: Mapping[str, int]) -> None:
        for node, workers in placed.items():
            held[node] = held.get(node, 0) + round(wanted.bundle.gpus) * workers
            assert held[node] <= NODE_GPUS, node

    world.watch = watch
    for number, job in enumerate(jobs):
        world.until(job.at)
        world.submit(job.job, needs(job), team=f"team{number % teams}")
        world.settle()
    world.drain()
    return done
