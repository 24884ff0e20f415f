"""Becomes one of your own nodes on this machine: issues its join ticket, then runs the boot script of any cloud.

``python -m fabric.cli.run_node --config fabric.yaml --site home --node a``
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from autoscaler.boot.script import render
from fabric.cli.join_script import spec_for
from fabric.cli.programs import LocalNode, local_nodes
from fabric.cli.run_dir import RunDir, config_in_force, end
from fabric.config.problems import Problems
from fabric.config.schema import Config
from fabric.journal.base import JournalUnavailableError
from fabric.journal.sqlite import SqliteJournal


def main(arguments: list[str] | None = None) -> int:
    """Replace this process by the boot script; returns only when that is impossible."""
    parser = argparse.ArgumentParser(prog="python -m fabric.cli.run_node", description=__doc__)
    parser.add_argument("--config", required=True, type=Path)
    parser.add_argument("--site", required=True)
    parser.add_argument("--node", required=True)
    given = parser.parse_args(arguments)
    config = config_in_force(given.config)
    if isinstance(config, Problems):
        print(config, file=sys.stderr)
        return 2
    named = [(node.site, node.node) for node in local_nodes(config)]
    if (given.site, given.node) not in named:
        print(f"{given.config} has no local node {given.node} in site {given.site}", file=sys.stderr)
        return 2
    number = named.index((given.site, given.node))
    node, run = local_nodes(config)[number], RunDir.of(given.config)
    # A raylet whose agent was killed keeps its GPUs; two of the same node must never run.
    end(run.processes(node.program), grace_s=5)
    try:
        script = _write_script(config, node, Path(config.ray.temp_dir or run.root) / f"n{number}")
    except JournalUnavailableError as error:
        print(error, file=sys.stderr)
        return 3
    return os.execv("/bin/sh", ["/bin/sh", str(script)])  # noqa: S606 - the shell is what runs a boot script


def _write_script(config: Config, node: LocalNode, temp_dir: Path) -> Path:
    work_dir = Path(config.fabric.state) / "nodes" / node.site / node.node
    work_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    journal = SqliteJournal(config.fabric.journal.partition(":")[2], actor=node.program)
    try:
        spec = spec_for(config, journal, node, clock=time.time, work_dir=work_dir, temp_dir=temp_dir)
    finally:
        journal.close()
    script = work_dir / "boot.sh"
    script.touch(mode=0o600)
    script.write_text(render(spec))
    return script


if __name__ == "__main__":
    sys.exit(main())
