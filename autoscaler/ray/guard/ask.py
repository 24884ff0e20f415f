"""Asks the agent of this node; standard library only, because it runs before every worker."""

from __future__ import annotations

import json
import os
import socket
from typing import Any

# Path of the agent's socket, in the environment of the raylet.
SOCKET = "ELASTIC_FABRIC_GUARD"
_TIMEOUT_S = 20.0
_ANSWER_LIMIT = 64 * 1024


def refusal(question: dict[str, Any]) -> str:
    """Why it may not be; ``""`` when it may. No answer is a no.

    Args:
        question: ``{"kind": "worker"}`` for this very process, or ``{"kind": "files", "ray_job_id": …, "claim": …}``.
    """
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(_TIMEOUT_S)
            line.connect(os.environ[SOCKET])
            line.sendall(json.dumps(question).encode() + b"\n")
            with line.makefile("rb") as file:
                answer = json.loads(file.readline(_ANSWER_LIMIT))
        if answer["allowed"] is True:
            return ""
        return str(answer["sentence"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"The guard of this node gives no answer ({type(error).__name__}), so nothing may start here."
