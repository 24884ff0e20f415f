"""``ray`` with the guard built in: ``python -m autoscaler.ray.guard.start start --address=…``.

The command by which the raylet starts workers is fixed when the raylet starts; here it is written so that every
worker of any language passes the guard. A raylet whose command cannot be changed is not started.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray._private import services
from ray.scripts import scripts

WORKER = str(Path(__file__).with_name("worker.py"))
ENVIRONMENTS = str(Path(__file__).with_name("environments.py"))
OWN_NODE = str(Path(__file__).with_name("own_node.py"))
_PRIVATE = Path(services.__file__).parent
# What Ray starts, what has to stand in its place, and whether Ray may leave it out.
_REPLACED = (
    ("--python_worker_command=", str(_PRIVATE / "workers" / "setup_worker.py"), WORKER, False),
    ("--java_worker_command=", str(_PRIVATE / "workers" / "setup_worker.py"), WORKER, True),
    ("--cpp_worker_command=", str(_PRIVATE / "workers" / "setup_worker.py"), WORKER, True),
    ("--runtime_env_agent_command=", str(_PRIVATE / "runtime_env" / "agent" / "main.py"), ENVIRONMENTS, False),
    ("--dashboard_agent_command=", str(_PRIVATE.parent / "dashboard" / "agent.py"), OWN_NODE, True),
)
# Worker processes that may be starting at once. Denied ones hold their place for a while, and others must not wait.
_STARTING = "--maximum_startup_concurrency="
_MOST_STARTING = 16


class NoGuardError(Exception):
    """The guard cannot be put before the workers of this Ray."""


def guarded(command: Sequence[str]) -> list[str]:
    """The raylet's command line with the guard before everything it starts for jobs.

    Raises:
        NoGuardError: it does not have the form that the pinned Ray gives it.
    """
    changed = list(command)
    for flag, theirs, ours, optional in _REPLACED:
        places = [index for index, argument in enumerate(changed) if argument.startswith(flag)]
        if len(places) != 1:
            raise NoGuardError(f"the raylet's command line has {flag} {len(places)} times, not once")
        argument = changed[places[0]]
        if optional and argument == flag:
            continue
        if argument.count(theirs) != 1:
            raise NoGuardError(f"{flag} of the raylet's command line does not start {theirs}; another version of Ray?")
        changed[places[0]] = argument.replace(theirs, ours)
    return [_with_room(argument) for argument in changed]


def _with_room(argument: str) -> str:
    if not argument.startswith(_STARTING):
        return argument
    return f"{_STARTING}{max(_MOST_STARTING, int(float(argument.removeprefix(_STARTING))))}"


def main() -> Any:
    """Run Ray's command line with guarded raylets."""
    start = services.start_ray_process

    def start_guarded(command: list[str], *rest: Any, **options: Any) -> Any:
        if command and command[0] == services.RAYLET_EXECUTABLE:
            command = guarded(command)
        return start(command, *rest, **options)

    services.start_ray_process = start_guarded
    return scripts.main()


if __name__ == "__main__":
    sys.exit(main())
