"""Started by the raylet in place of Ray's runtime environment agent: fetches nothing for a job that may not be here.

Ray fetches the code and files of a job on every node before it asks for a worker of it there; those are the job's data
as well.
"""

from __future__ import annotations

import asyncio
import json
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# Python puts this folder first, where Ray must not find our files by short names; what it needs is further up.
sys.path[:] = [path for path in sys.path if path != str(Path(__file__).parent)]
sys.path.append(str(Path(__file__).parents[3]))

from autoscaler.ray.guard.ask import refusal  # noqa: E402 - needs the path above


def guard_fetching(agent_class: Any, messages: Any) -> None:
    """Put the question before everything that ``agent_class`` (Ray's ``RuntimeEnvAgent``) would fetch."""
    fetch = agent_class.GetOrCreateRuntimeEnv

    async def ask_first(self: Any, request: Any) -> Any:
        sentence = await asyncio.to_thread(refusal, question(request))
        if sentence:
            return messages.GetOrCreateRuntimeEnvReply(
                status=messages.AgentRpcStatus.AGENT_RPC_STATUS_FAILED, error_message=f"fabric guard: {sentence}"
            )
        return await fetch(self, request)

    agent_class.GetOrCreateRuntimeEnv = ask_first


def question(request: Any) -> dict[str, Any]:
    """What to ask about one of Ray's requests."""
    job = request.job_id.decode() if isinstance(request.job_id, bytes) else str(request.job_id)
    try:
        variables = json.loads(request.serialized_runtime_env or "{}").get("env_vars") or {}
    except (ValueError, AttributeError):
        variables = {}
    claim = {str(name): str(value) for name, value in variables.items() if str(name).startswith("FABRIC_")}
    return {"kind": "files", "ray_job_id": job, "claim": claim}


if __name__ == "__main__":
    ray = find_spec("ray")
    if ray is None or ray.origin is None:
        sys.exit("fabric guard: there is no Ray here")
    folder = Path(ray.origin).parent / "_private" / "runtime_env" / "agent"
    # Under the name by which Ray's own program imports it from its folder.
    sys.path[:0] = [str(folder), str(folder / "thirdparty_files")]
    from ray.core.generated import runtime_env_agent_pb2
    from runtime_env_agent import RuntimeEnvAgent  # pyright: ignore[reportMissingImports]

    guard_fetching(RuntimeEnvAgent, runtime_env_agent_pb2)
    sys.argv[0] = str(folder / "main.py")
    runpy.run_path(sys.argv[0], run_name="__main__")
