"""What placement adds to a submission: Ray's own calls, and the same calls with the job's selector, side by side.

    python tests/bench/placement.py [--quick] [--json FILE]

One driver on a one-node cluster submits the same tasks in turn with and without, and the median round counts. Measured
is the time until ``remote()`` returns, and the time until all results are there.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

# In place of this folder, where queue.py would hide a module of the standard library.
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ["FABRIC_SELECTOR"] = json.dumps({"fabric/site": "in(home)", "fabric/market": "in(on-demand,owned)"})

import ray
from ray.remote_function import RemoteFunction
from rich.console import Console
from rich.table import Table

from elastic_fabric_worker import place_everything

OWN = {"fabric/site": "!elsewhere", "disk": "nvme"}


@ray.remote(num_cpus=1)
def nothing() -> None:
    """The cheapest task there is."""


def main() -> int:
    """Run every case and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer tasks and rounds")
    parser.add_argument("--json", metavar="FILE", help="write the figures there; - is standard output")
    arguments = parser.parse_args()
    tasks, rounds = (500, 5) if arguments.quick else (2000, 11)
    labels = {"fabric/site": "home", "fabric/market": "owned", "disk": "nvme"}
    ray.init(address="local", num_cpus=1, labels=labels, include_dashboard=False, log_to_driver=False)
    plain = RemoteFunction._remote
    place_everything()
    placed = RemoteFunction._remote
    cases = {"no selector of its own": nothing, "selector of its own": nothing.options(label_selector=OWN)}
    results = []
    for name, function in cases.items():
        times: dict[object, list[tuple[float, float]]] = {plain: [], placed: []}
        for number in range(2 * (rounds + 1)):
            way = (plain, placed)[number % 2]
            RemoteFunction._remote = way  # type: ignore[method-assign]
            # The first round of each warms up.
            measured = _round(function, tasks)
            if number > 1:
                times[way].append(measured)
        (plain_call, plain_all), (placed_call, placed_all) = (
            tuple(statistics.median(one[part] for one in times[way]) for part in (0, 1)) for way in (plain, placed)
        )
        results.append(
            {
                "case": name,
                "plain_us": round(plain_call * 1e6, 1),
                "placed_us": round(placed_call * 1e6, 1),
                "call_ratio": round(placed_call / plain_call, 3),
                "whole_ratio": round(placed_all / plain_all, 3),
            }
        )
    ray.shutdown()
    _print(results)
    if arguments.json:
        text = json.dumps(results, indent=2)
        print(text) if arguments.json == "-" else Path(arguments.json).write_text(text)
    return 0


def _round(function: object, tasks: int) -> tuple[float, float]:
    """Seconds per task until it is submitted, and until its result is there."""
    began = time.perf_counter()
    refs = [function.remote() for _ in range(tasks)]  # type: ignore[attr-defined]
    submitted = time.perf_counter()
    ray.get(refs)
    return (submitted - began) / tasks, (time.perf_counter() - began) / tasks


def _print(results: list[dict[str, object]]) -> None:
    table = Table("task", "Ray, µs", "with placement, µs", "ratio", "ratio until done", title="time of one submission")
    for result in results:
        table.add_row(*map(str, result.values()))
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
