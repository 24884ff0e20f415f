"""Decision time of our scheduler and of Ray's own on the same request, and ours alone at full size.

    python tests/bench/decide.py [--quick] [--json FILE]

Ray's scheduler expands every pending request and looks at every node for each node it fills, so at 1,000 nodes
and 10,000 requests it takes minutes. ``--quick`` compares at a tenth of the size.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import random
import resource
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ray.autoscaler.v2.instance_manager.config import NodeTypeConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingReply, SchedulingRequest
from ray.autoscaler.v2.schema import AutoscalerInstance
from ray.autoscaler.v2.utils import ResourceRequestUtil
from ray.core.generated.autoscaler_pb2 import NodeState, ResourceRequestByCount
from ray.core.generated.common_pb2 import LabelSelectorOperator
from ray.core.generated.instance_manager_pb2 import Instance
from rich.console import Console
from rich.table import Table

from autoscaler.ray.scheduler import FabricScheduler

GIB = 1 << 30
ZONES = ("a", "b", "c")
MARKETS = ("spot", "on-demand")
SEED = 20260


@dataclass(frozen=True)
class Result:
    """One input, both schedulers; Ray's figures are None where it was not run."""

    name: str
    nodes: int
    requests: int
    shapes: int
    fabric_s: float
    fabric_bought: int
    fabric_left: int
    fabric_peak_mib: float | None = None
    ray_s: float | None = None
    ray_bought: int | None = None
    ray_left: int | None = None

    @property
    def times_faster(self) -> float | None:
        """Ray's time over ours."""
        return None if self.ray_s is None else self.ray_s / self.fabric_s


def node_types(limit: int) -> dict[str, NodeTypeConfig]:
    """Eight machine shapes as clouds sell them, each in two markets."""
    shapes = {
        "cpu-8": {"CPU": 8, "memory": 32 * GIB},
        "cpu-32": {"CPU": 32, "memory": 128 * GIB},
        "cpu-96": {"CPU": 96, "memory": 384 * GIB},
        "highmem-16": {"CPU": 16, "memory": 256 * GIB},
        "l4-1": {"CPU": 8, "GPU": 1, "memory": 32 * GIB},
        "l4-4": {"CPU": 48, "GPU": 4, "memory": 192 * GIB},
        "l40s-8": {"CPU": 96, "GPU": 8, "memory": 768 * GIB},
        "a100-8": {"CPU": 96, "GPU": 8, "memory": 1152 * GIB},
    }
    return {
        f"{name}-{market}": NodeTypeConfig(
            name=f"{name}-{market}",
            resources=dict(resources),
            min_worker_nodes=0,
            max_worker_nodes=limit,
            labels={"market": market, "machine": name},
        )
        for name, resources in shapes.items()
        for market in MARKETS
    }


def busy_nodes(rng: random.Random, kinds: dict[str, NodeTypeConfig], count: int) -> list[AutoscalerInstance]:
    """Running nodes, mostly busy: seven in ten are full, the others have some of everything left."""
    instances = []
    names = list(kinds)
    for number in range(count):
        name = rng.choice(names)
        total = dict(kinds[name].resources)
        used = 1.0 if rng.random() < 0.7 else rng.choice((0.25, 0.5, 0.75, 0.9))
        free = {key: float(int(value * (1 - used))) for key, value in total.items()}
        node_id = f"n{number:06d}"
        state = NodeState(
            node_id=node_id.encode(),
            ray_node_type_name=name,
            total_resources=total,
            available_resources=free,
            labels={**kinds[name].labels, "zone": rng.choice(ZONES), "ray.io/node-id": node_id},
        )
        managed = Instance(
            instance_id=node_id,
            instance_type=name,
            status=Instance.RAY_RUNNING,
            node_id=node_id,
            cloud_instance_id=node_id,
        )
        instances.append(AutoscalerInstance(im_instance=managed, ray_node=state, cloud_instance_id=node_id))
    return instances


def mixed_requests(rng: random.Random, shapes: int, total: int) -> list[ResourceRequestByCount]:
    """``total`` requests in ``shapes`` shapes: CPU and GPU work, some by memory, some picky about where it runs."""
    found: dict[bytes, ResourceRequestByCount] = {}
    while len(found) < shapes:
        wants: dict[str, float] = {"CPU": rng.choice((0.5, 1, 1, 2, 2, 3, 4, 6, 8, 12, 16))}
        if rng.random() < 0.4:
            wants["GPU"] = rng.choice((0.25, 0.5, 1, 1, 1, 2, 4, 8))
        if rng.random() < 0.5:
            wants["memory"] = rng.choice((1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96)) * GIB
        selectors = None
        if rng.random() < 0.25:
            keys = (("market", MARKETS), ("machine", ("l4-1", "l4-4", "l40s-8", "a100-8", "cpu-32")))
            key, values = rng.choice(keys)
            operator = rng.choice(
                (LabelSelectorOperator.LABEL_OPERATOR_IN, LabelSelectorOperator.LABEL_OPERATOR_NOT_IN)
            )
            selectors = [[(key, operator, [rng.choice(values)])]]
        request = ResourceRequestUtil.make(wants, label_selectors=selectors)
        found.setdefault(
            request.SerializeToString(deterministic=True), ResourceRequestByCount(request=request, count=1)
        )
    entries = list(found.values())
    for _ in range(total - shapes):
        rng.choice(entries).count += 1
    return entries


def one_shape(total: int) -> list[ResourceRequestByCount]:
    """The same request, many times."""
    request = ResourceRequestUtil.make({"CPU": 4, "GPU": 1})
    return [ResourceRequestByCount(request=request, count=total)]


def build(nodes: int, entries: Callable[[random.Random], list[ResourceRequestByCount]]) -> SchedulingRequest:
    """One scheduling request; the same arguments give the same one."""
    rng = random.Random(SEED)
    kinds = node_types(limit=nodes * 10)
    return SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs=kinds,
        idle_timeout_s=600,
        resource_requests=entries(rng),
        current_instances=busy_nodes(rng, kinds, nodes),
    )


def timed(
    schedule: Callable[[SchedulingRequest], SchedulingReply], request: SchedulingRequest, rounds: int
) -> tuple[float, SchedulingReply]:
    """The best of several rounds, in seconds, and the last reply."""
    best, reply = float("inf"), SchedulingReply()
    for _ in range(rounds):
        gc.collect()
        began = time.perf_counter()
        reply = schedule(request)
        best = min(best, time.perf_counter() - began)
    return best, reply


def measure(
    name: str, nodes: int, entries: Callable[[random.Random], list[ResourceRequestByCount]], *, against_ray: bool
) -> Result:
    """Run one input through ours and, if wanted, through Ray's."""
    request = build(nodes, entries)
    fabric_s, ours = timed(FabricScheduler().schedule, request, rounds=3)
    peak = None
    ray_s = ray_reply = None
    if against_ray:
        ray_s, ray_reply = timed(ResourceDemandScheduler().schedule, request, rounds=1)
    else:
        tracemalloc.start()
        FabricScheduler().schedule(request)
        peak = tracemalloc.get_traced_memory()[1] / (1 << 20)
        tracemalloc.stop()
    return Result(
        name=name,
        nodes=nodes,
        requests=sum(entry.count for entry in request.resource_requests),
        shapes=len(request.resource_requests),
        fabric_s=fabric_s,
        fabric_bought=bought(ours),
        fabric_left=len(ours.infeasible_resource_requests),
        fabric_peak_mib=peak,
        ray_s=ray_s,
        ray_bought=None if ray_reply is None else bought(ray_reply),
        ray_left=None if ray_reply is None else len(ray_reply.infeasible_resource_requests),
    )


def bought(reply: SchedulingReply) -> int:
    """Nodes to launch."""
    return sum(launch.count for launch in reply.to_launch)


def comparisons(quick: bool) -> list[Result]:
    """The inputs that both schedulers get."""
    nodes, requests = (100, 1_000) if quick else (1_000, 10_000)
    return [
        measure("mixed", nodes, lambda rng: mixed_requests(rng, 80, requests), against_ray=True),
        measure("one shape", nodes, lambda _: one_shape(requests), against_ray=True),
    ]


def full_size(quick: bool) -> Result:
    """Ten thousand nodes and a million requests in a thousand shapes; ours alone."""
    nodes, requests, shapes = (1_000, 100_000, 300) if quick else (10_000, 1_000_000, 1_000)
    return measure("full size", nodes, lambda rng: mixed_requests(rng, shapes, requests), against_ray=False)


def main() -> int:
    """Measure, print, and fail if a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the size")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    results = [*comparisons(options.quick), full_size(options.quick)]
    show(results)
    if options.json:
        rows = [{**asdict(result), "times_faster": result.times_faster} for result in results]
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    return 0 if kept(results, least=10 if options.quick else 100) else 1


def kept(results: list[Result], least: float) -> bool:
    """Whether ours was fast enough beside Ray's, and bought and left no more."""
    return all(
        result.times_faster >= least
        and result.fabric_bought <= (result.ray_bought or 0)
        and result.fabric_left <= (result.ray_left or 0)
        for result in results
        if result.times_faster is not None
    )


def show(results: list[Result]) -> None:
    """Print a table."""
    table = Table(title="Decision time, nodes bought, requests left over")
    for column in (
        "input",
        "nodes",
        "requests",
        "shapes",
        "fabric",
        "Ray",
        "times faster",
        "bought",
        "Ray",
        "left",
        "Ray",
        "peak",
    ):
        table.add_column(column, justify="left" if column == "input" else "right")
    for r in results:
        table.add_row(
            r.name,
            f"{r.nodes:,}",
            f"{r.requests:,}",
            f"{r.shapes:,}",
            f"{r.fabric_s:.3f} s",
            "" if r.ray_s is None else f"{r.ray_s:.1f} s",
            "" if r.times_faster is None else f"{r.times_faster:,.0f}",
            f"{r.fabric_bought:,}",
            "" if r.ray_bought is None else f"{r.ray_bought:,}",
            f"{r.fabric_left:,}",
            "" if r.ray_left is None else f"{r.ray_left:,}",
            "" if r.fabric_peak_mib is None else f"{r.fabric_peak_mib:,.0f} MiB",
        )
    console = Console(width=140)
    console.print(table)
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    console.print(f"Resident memory of this process at its highest: {resident:,.0f} MiB")


if __name__ == "__main__":
    raise SystemExit(main())
