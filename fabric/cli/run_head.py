"""Becomes the Ray head, the way KubeRay runs it: without Ray's own autoscaler, because our controller is it.

``python -m fabric.cli.run_head --config fabric.yaml``
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from fabric.cli.ports import free_port
from fabric.cli.programs import HEAD
from fabric.cli.run_dir import RunDir, config_in_force, end
from fabric.config.problems import Problems
from fabric.config.resolve import HEAD as HEAD_TYPE
from fabric.config.resolve import node_types
from fabric.config.schema import Config


def main(arguments: list[str] | None = None) -> int:
    """Replace this process by ``ray start --head``; returns only when that is impossible."""
    parser = argparse.ArgumentParser(prog="python -m fabric.cli.run_head", description=__doc__)
    parser.add_argument("--config", required=True, type=Path)
    given = parser.parse_args(arguments)
    config = config_in_force(given.config)
    if isinstance(config, Problems):
        print(config, file=sys.stderr)
        return 2
    run = RunDir.of(given.config)
    # A head whose parent was killed may have left its GCS behind, on the port this one needs.
    end(run.processes(HEAD), grace_s=3)
    os.environ.update(environment())
    return os.execv(sys.executable, [sys.executable, *command(config, run)])  # noqa: S606 - there is no shell


def command(config: Config, run: RunDir) -> list[str]:
    """Arguments for the Python interpreter that start the head and stay in the foreground."""
    host, _, dashboard_port = config.ray.dashboard.rpartition(":")
    labels = node_types(config)[HEAD_TYPE].labels
    arguments = {
        "--node-ip-address": config.ray.address,
        "--port": config.ray.port,
        "--include-dashboard": "true",
        "--dashboard-host": host.strip("[]"),
        "--dashboard-port": dashboard_port,
        "--dashboard-agent-listen-port": 0,
        "--dashboard-agent-grpc-port": 0,
        "--runtime-env-agent-port": 0,
        "--metrics-export-port": 0,
        # Ray starts a Ray Client server on every head; nobody here uses it, so it may have any port.
        "--ray-client-server-port": free_port(),
        "--num-cpus": config.ray.cpus,
        "--num-gpus": 0,
        "--labels": ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
        "--temp-dir": config.ray.temp_dir or run.ray,
    }
    if config.ray.object_store is not None:
        arguments["--object-store-memory"] = config.ray.object_store
    flags = [f"{name}={value}" for name, value in arguments.items()]
    return ["-m", "ray.scripts.scripts", "start", "--head", "--no-monitor", "--block", *flags]


def environment() -> dict[str, str]:
    """What makes the head known to the autoscaler as itself."""
    return {"RAY_CLOUD_INSTANCE_ID": HEAD_TYPE, "RAY_NODE_TYPE_NAME": HEAD_TYPE, "RAY_enable_autoscaler_v2": "1"}


if __name__ == "__main__":
    sys.exit(main())
