"""Ray's own table of jobs, line by line: ``python -m autoscaler.ray.job_table --address HOST:PORT``.

A process of its own, because Ray's client ends the process it lives in when the head stays away. One line in, the hex
id of a Ray job; one line out, what the head knows of it as JSON, ``null`` when there is none.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from ray._raylet import GcsClient  # pyright: ignore[reportAttributeAccessIssue]

_RPC_TIMEOUT_S = 5.0


def main() -> int:
    """Answer until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m autoscaler.ray.job_table", description=__doc__)
    parser.add_argument("--address", required=True)
    client = GcsClient(address=parser.parse_args().address)
    for line in sys.stdin:
        print(json.dumps(find(client, line.strip())), flush=True)
    return 0


def find(client: Any, ray_job_id: str) -> dict[str, Any] | None:
    """One Ray job: its driver's metadata, runtime environment and namespace."""
    rows = client.get_all_job_info(
        job_or_submission_id=ray_job_id,
        skip_submission_job_info_field=True,
        skip_is_running_tasks_field=True,
        timeout=_RPC_TIMEOUT_S,
    )
    for key, row in rows.items():
        if key.hex() == ray_job_id:
            return {
                "metadata": dict(row.config.metadata),
                "runtime_env": json.loads(row.config.runtime_env_info.serialized_runtime_env or "{}"),
                "namespace": row.config.ray_namespace,
            }
    return None


if __name__ == "__main__":
    sys.exit(main())
