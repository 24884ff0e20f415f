"""Started by the raylet in place of Ray's ``setup_worker.py``: asks the agent, then becomes what Ray meant to start.

What Ray's own script does next is to apply the job's runtime environment and become the worker by ``exec``.
"""

from __future__ import annotations

import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

# Python puts this folder first, where Ray must not find our files by short names; what it needs is further up.
sys.path[:] = [path for path in sys.path if path != str(Path(__file__).parent)]
sys.path.append(str(Path(__file__).parents[3]))

from autoscaler.ray.guard.ask import refusal  # noqa: E402 - needs the path above

if __name__ == "__main__":
    sentence = refusal({"kind": "worker"})
    if sentence:
        # Ray shows what a worker prints before it has registered to whoever runs the job.
        sys.exit(f"fabric guard: {sentence}")
    ray = find_spec("ray")
    if ray is None or ray.origin is None:
        sys.exit("fabric guard: there is no Ray here")
    sys.argv[0] = str(Path(ray.origin).parent / "_private" / "workers" / "setup_worker.py")
    runpy.run_path(sys.argv[0], run_name="__main__")
