"""Started by the raylet in place of Ray's dashboard agent, which hands out the logs of drivers: it serves its own node.

Ray's agent connects to whichever raylet it finds running on the machine, the head's first. Where a machine has several
nodes it would look for a driver's log among the files of another node.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

# Python puts this folder first, where Ray must not find our files by short names.
sys.path[:] = [path for path in sys.path if path != str(Path(__file__).parent)]

_NODE_ID = "--node-id="


def keep_to(services: Any, arguments: list[str]) -> None:
    """Have this process find no raylet but that of its own node.

    Args:
        services: Ray's module of that name.
        arguments: the agent's command line.
    """
    (node,) = [item.removeprefix(_NODE_ID) for item in arguments if item.startswith(_NODE_ID)]
    services.find_node_ids = lambda: {node}


if __name__ == "__main__":
    from ray._private import services

    keep_to(services, sys.argv)
    sys.argv[0] = str(Path(services.__file__).parents[1] / "dashboard" / "agent.py")
    runpy.run_path(sys.argv[0], run_name="__main__")
