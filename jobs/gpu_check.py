"""What accelerators the nodes of a cluster have, as Ray counts them and as PyTorch finds them.

    ray job submit --working-dir jobs -- python gpu_check.py

One task is pinned to every node that is alive. Exits with 1 if a node offers Ray more GPUs than PyTorch finds there,
which is expected on machines with logical GPUs and a fault on real ones; ``--logical`` says that it is expected.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


def look() -> dict[str, Any]:
    """The accelerators that PyTorch finds on this machine."""
    import torch

    found = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "devices": [{"name": device.name, "memory_bytes": device.total_memory} for device in found],
    }


def check(nodes: Sequence[Mapping[str, Any]], timeout_s: float) -> list[dict[str, Any]]:
    """One report per live node: its labels, the GPUs it offers Ray, and what PyTorch finds."""
    task = ray.remote(num_cpus=0, max_retries=0)(look)
    alive = [node for node in nodes if node["Alive"]]
    asked = [
        task.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
            runtime_env={"env_vars": {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}},
        ).remote()
        for node in alive
    ]
    answered, _ = ray.wait(asked, num_returns=len(asked), timeout=timeout_s)
    reports = []
    for node, reference in zip(alive, asked, strict=True):
        report: dict[str, Any] = {
            "node": node["NodeID"][:8],
            "site": node["Labels"].get("fabric/site", "unknown"),
            "gpus_offered": node["Resources"].get("GPU", 0.0),
        }
        if reference not in answered:
            report["error"] = f"no answer within {timeout_s:g} s"
        else:
            try:
                report.update(ray.get(reference))
            except ray.exceptions.RayError as error:
                report["error"] = str(error).splitlines()[0]
        reports.append(report)
    return reports


def sound(report: Mapping[str, Any], logical: bool) -> bool:
    """Whether a node answered and has the GPUs it offers (or offers logical ones knowingly)."""
    return "error" not in report and (logical or len(report["devices"]) >= report["gpus_offered"])


def main() -> int:
    """Print one JSON line per node; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logical", action="store_true", help="nodes may offer GPUs that PyTorch does not find")
    parser.add_argument("--timeout", type=float, default=60, help="seconds to wait for all answers (default 60)")
    options = parser.parse_args()
    ray.init(address="auto", log_to_driver=False)
    reports = check(ray.nodes(), options.timeout)
    for report in reports:
        print(json.dumps(report), flush=True)
    return 0 if all(sound(report, options.logical) for report in reports) else 1


if __name__ == "__main__":
    sys.exit(main())
