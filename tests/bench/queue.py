"""The queue at scale: one decision over 100,000 waiting jobs beside a plain scheduler, and months of real traces.

    python tests/bench/queue.py [--quick] [--traces] [--http] [--json FILE]

The peer is what one would write first: sort all waiting jobs, walk the whole list, look at every node for each job
(FCFS with EASY backfilling), explain nothing. Both get the same jobs and nodes and start from an empty cluster, then
decide again over what is left, when nothing more fits. ``--traces`` replays every trace of ``../shared/traces`` in
virtual time (``FABRIC_SHARED`` names another folder). ``--http`` goes on with ``tests/bench/submissions.py --ray``: the
way of a submission over HTTP, beside Ray's own endpoint and under 1,000 clients who poll.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from rich.console import Console
from rich.table import Table

from fabric.admission.decide import admit
from fabric.admission.queue import Queue
from fabric.admission.values import Capacity, QueueRules, TeamRules
from fabric.admission.wire import admission_data
from fabric.model.events import Event
from fabric.model.jobs import Needs
from fabric.model.resources import UNITS, Resources
from tests.simulation.traces import nodes_for, read, replay, traces
from tests.virtual_queue import CLASSES, HOME, entry, rooms, submitted

SEED = 20260
TEAMS = 20
RUNTIMES = (None, 600.0, 1800.0, 3600.0, 7200.0, 14400.0, 86400.0)


@dataclass(frozen=True)
class Waits:
    """One waiting job of the benchmark."""

    job: str
    at: float
    team: str
    needs: Needs


@dataclass(frozen=True)
class Decided:
    """One input, both schedulers. Seconds of CPU time of this process, which other load does not change."""

    name: str
    jobs: int
    nodes: int
    fold_us: float
    first_s: float
    first_admitted: int
    again_s: float
    why_us: float
    peer_first_s: float
    peer_first_admitted: int
    peer_again_s: float

    @property
    def times_faster(self) -> float:
        """The peer's time over ours, where nothing more fits: what a tick of a full cluster costs."""
        return self.peer_again_s / self.again_s


def mixed(count: int, *, exact_runtimes: bool) -> list[Waits]:
    """Jobs of every size; with ``exact_runtimes`` hardly two of them declare the same one."""
    rng = random.Random(SEED)
    found = []
    for number in range(count):
        runtime = rng.uniform(60, 86400) if exact_runtimes else rng.choice(RUNTIMES)
        needs = Needs(
            declared=True,
            bundle=Resources.of({"GPU": rng.choice((1, 1, 1, 2, 4, 8)), "CPU": rng.choice((1, 2, 4, 8))}),
            count=rng.choice((1, 1, 1, 1, 2, 4)),
            runtime_s=runtime,
            priority=rng.choice((0, 0, 0, 5, 10)),
        )
        found.append(Waits(f"j{number:06d}", number * 0.1, f"team{rng.randrange(TEAMS):02d}", needs))
    return found


def cpu_time(work: Callable[[], object]) -> float:
    """Seconds of CPU time that ``work`` takes, without the garbage of whatever came before."""
    gc.collect()
    gc.disable()
    began = time.process_time()
    work()
    seconds = time.process_time() - began
    gc.enable()
    return seconds


def measure(name: str, jobs: list[Waits], nodes: int) -> Decided:
    """Both schedulers on one input."""
    teams = {f"team{number:02d}": TeamRules(weight=1.0 + number % 3) for number in range(TEAMS)}
    rules = QueueRules(home=frozenset({HOME}), classes=CLASSES, teams=teams)
    capacity = Capacity(rooms(nodes, gpus=8, cpus=96))
    queue = Queue(rules)
    entries = [submitted(each.job, each.at, each.needs, each.team) for each in jobs]
    fold_s = cpu_time(lambda: [queue.take(each) for each in entries])
    now = jobs[-1].at + 1.0
    first, admitted = fill(queue, capacity, rules, now)
    outcome = admit(queue, capacity, rules, now)
    again = min(cpu_time(lambda: admit(queue, capacity, rules, now)) for _ in range(3))
    some = [each.job for each in jobs[:: max(1, len(jobs) // 1000)]]
    outcome.waiting(some[0])
    why_s = cpu_time(lambda: [outcome.waiting(job) for job in some])
    peer = Peer(jobs, nodes)
    peer_first = cpu_time(lambda: peer.decide(now))
    peer_admitted = len(peer.running)
    peer_again = cpu_time(lambda: peer.decide(now))
    return Decided(
        name=name,
        jobs=len(jobs),
        nodes=nodes,
        fold_us=fold_s / len(jobs) * 1e6,
        first_s=first,
        first_admitted=admitted,
        again_s=again,
        why_us=why_s / len(some) * 1e6,
        peer_first_s=peer_first,
        peer_first_admitted=peer_admitted,
        peer_again_s=peer_again,
    )


def fill(queue: Queue, capacity: Capacity, rules: QueueRules, now: float) -> tuple[float, int]:
    """Decide until nothing more fits; CPU seconds of all decisions together, and jobs admitted."""
    seconds, admitted = 0.0, 0
    while True:
        gc.disable()
        began = time.process_time()
        outcome = admit(queue, capacity, rules, now)
        seconds += time.process_time() - began
        gc.enable()
        if not outcome.admissions:
            return seconds, admitted
        admitted += len(outcome.admissions)
        for admission in outcome.admissions:
            queue.take(entry(Event.JOB_ADMITTED, admission_data(admission), now))


class Peer:
    """FCFS by priority with EASY backfilling, without an index: every decision looks at every job and every node."""

    def __init__(self, jobs: list[Waits], nodes: int) -> None:
        self.waiting = list(jobs)
        self.running: list[tuple[float, list[tuple[int, int, int]]]] = []
        self.free = [(8 * UNITS, 96 * UNITS) for _ in range(nodes)]

    def decide(self, now: float) -> None:
        """Start what fits."""
        order = sorted(self.waiting, key=lambda each: (-each.needs.priority, each.at, each.job))
        left: list[Waits] = []
        shadow: tuple[float, list[tuple[int, int]]] | None = None
        for each in order:
            runtime = each.needs.runtime_s
            place = self._place(each.needs, self.free)
            if place is not None and shadow is not None:
                at, late = shadow
                if runtime is None or now + runtime > at:
                    spare = [(min(f[0], s[0]), min(f[1], s[1])) for f, s in zip(self.free, late, strict=True)]
                    place = self._place(each.needs, spare)
                    if place is not None:
                        shadow = (at, taken(late, place))
            if place is None:
                if shadow is None:
                    shadow = self._reserve(each.needs)
                left.append(each)
                continue
            self.free = taken(self.free, place)
            self.running.append((now + (runtime or 3600.0), place))
        self.waiting = left

    def _place(self, needs: Needs, free: list[tuple[int, int]]) -> list[tuple[int, int, int]] | None:
        """First fit."""
        gpus, cpus = needs.bundle.get("GPU"), needs.bundle.get("CPU")
        place, left = [], needs.count
        for node, (free_gpus, free_cpus) in enumerate(free):
            fits = min(free_gpus // gpus, free_cpus // cpus, left)
            if fits > 0:
                place.append((node, gpus * fits, cpus * fits))
                left -= fits
                if not left:
                    return place
        return None

    def _reserve(self, needs: Needs) -> tuple[float, list[tuple[int, int]]]:
        free = list(self.free)
        for end, held in sorted(self.running):
            free = taken(free, held, sign=-1)
            place = self._place(needs, free)
            if place is not None:
                return end, taken(free, place)
        raise AssertionError("a job of the benchmark never fits")


def taken(free: list[tuple[int, int]], place: list[tuple[int, int, int]], sign: int = 1) -> list[tuple[int, int]]:
    """What is left of ``free``."""
    left = list(free)
    for node, gpus, cpus in place:
        left[node] = (left[node][0] - sign * gpus, left[node][1] - sign * cpus)
    return left


@dataclass(frozen=True)
class Trace:
    """One trace through the queue, and the same without backfill (each job waits for all before it)."""

    name: str
    jobs: int
    nodes: int
    decisions: int
    mean_wait_h: float
    fcfs_wait_h: float
    heads: int
    latest_s: float
    seconds: float


def replay_all(quick: bool) -> list[Trace]:
    """Every trace at a load of 0.9."""
    found = []
    for path in traces():
        jobs = read(path, most=300 if quick else None)
        nodes = nodes_for(jobs, load=0.9)
        began = time.process_time()
        done = replay(jobs, nodes)
        seconds = time.process_time() - began
        late = [done.world.started[job] - at for job, at in done.promised.items()]
        found.append(
            Trace(
                name=path.stem,
                jobs=len(jobs),
                nodes=nodes,
                decisions=done.decisions,
                mean_wait_h=sum(done.waits) / len(done.waits) / 3600,
                fcfs_wait_h=fcfs_wait([(each.at, each.gpus, each.duration) for each in jobs], nodes) / 3600,
                heads=len(late),
                latest_s=max(late, default=0.0),
                seconds=seconds,
            )
        )
    return found


def fcfs_wait(jobs: list[tuple[float, int, float]], nodes: int) -> float:
    """Mean wait in seconds if no job may pass another, packed like ours: fullest node first, whole nodes for gangs."""
    free = [8] * nodes
    running: list[tuple[float, list[tuple[int, int]]]] = []
    clock, waited = 0.0, 0.0
    for at, gpus, duration in jobs:
        clock = max(clock, at)
        while True:
            for end, held in [each for each in running if each[0] <= clock]:
                running.remove((end, held))
                for node, count in held:
                    free[node] += count
            place = whole(free, gpus)
            if place is not None:
                break
            clock = min(end for end, _ in running)
        for node, count in place:
            free[node] -= count
        running.append((clock + max(1.0, duration), place))
        waited += clock - at
    return waited / len(jobs)


def whole(free: list[int], gpus: int) -> list[tuple[int, int]] | None:
    """Nodes for a job, or None."""
    if gpus <= 8:
        fits = [(count, node) for node, count in enumerate(free) if count >= gpus]
        return [(min(fits)[1], gpus)] if fits else None
    empty = [node for node, count in enumerate(free) if count == 8]
    needed = -(-gpus // 8)
    return [(node, 8) for node in empty[:needed]] if len(empty) >= needed else None


def main() -> int:
    """Measure, print, and fail if a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the size")
    parser.add_argument("--traces", action="store_true", help="replay the traces as well")
    parser.add_argument("--http", action="store_true", help="measure submissions over HTTP as well; starts a Ray head")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    count, nodes = (10_000, 32) if options.quick else (100_000, 128)
    decided = [
        measure("usual runtimes", mixed(count, exact_runtimes=False), nodes),
        measure("every runtime different", mixed(count, exact_runtimes=True), nodes),
    ]
    replayed = replay_all(options.quick) if options.traces else []
    show(decided, replayed)
    if options.json:
        rows = [{**asdict(each), "times_faster": each.times_faster} for each in decided]
        options.json.write_text(json.dumps({"decided": rows, "traces": [asdict(t) for t in replayed]}, indent=2) + "\n")
    if options.http:
        command = [sys.executable, "-m", "tests.bench.submissions", "--ray"]
        subprocess.run(command, cwd=Path(__file__).resolve().parents[2], check=True)
    kept = all(each.times_faster >= (3 if options.quick else 10) for each in decided)
    return 0 if kept and all(each.latest_s <= 1.0 for each in replayed) else 1


def show(decided: list[Decided], replayed: list[Trace]) -> None:
    """Print tables."""
    console = Console(width=150)
    table = Table(title="One decision: CPU seconds, ours and a plain sort with first fit")
    for column in (
        "input",
        "jobs",
        "nodes",
        "fold",
        "fill",
        "jobs in",
        "peer",
        "jobs in",
        "again",
        "peer",
        "times faster",
        "why",
    ):
        table.add_column(column, justify="left" if column == "input" else "right")
    for each in decided:
        table.add_row(
            each.name,
            f"{each.jobs:,}",
            f"{each.nodes:,}",
            f"{each.fold_us:.0f} us/job",
            f"{each.first_s:.2f} s",
            f"{each.first_admitted:,}",
            f"{each.peer_first_s:.2f} s",
            f"{each.peer_first_admitted:,}",
            f"{each.again_s:.3f} s",
            f"{each.peer_again_s:.2f} s",
            f"{each.times_faster:.0f}",
            f"{each.why_us:.0f} us",
        )
    console.print(table)
    if not replayed:
        return
    table = Table(title="Real traces at load 0.9: mean wait, and how late any head started against its first promise")
    for column in ("trace", "jobs", "nodes", "decisions", "mean wait", "in order only", "heads", "latest", "CPU"):
        table.add_column(column, justify="left" if column == "trace" else "right")
    for each in replayed:
        table.add_row(
            each.name,
            f"{each.jobs:,}",
            f"{each.nodes:,}",
            f"{each.decisions:,}",
            f"{each.mean_wait_h:.2f} h",
            f"{each.fcfs_wait_h:.2f} h",
            f"{each.heads:,}",
            f"{each.latest_s:.0f} s",
            f"{each.seconds:.0f} s",
        )
    console.print(table)


if __name__ == "__main__":
    raise SystemExit(main())
