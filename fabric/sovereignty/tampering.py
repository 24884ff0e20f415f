"""Environment variables by which a submission would speak for the fabric: refused before anything is stored.

The door refuses them so that the user learns about it. Nothing rests on that: the fabric sets its own variables after
the user's, and a node's guard believes only a badge.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

# Ours; and Ray's own names for what runs before a worker's code and for what a child's ray.init goes on as.
_PREFIXES = ("FABRIC_", "ELASTIC_FABRIC_")
_NAMES = frozenset(
    {
        "__RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR",
        "RAY_JOB_CONFIG_JSON_ENV_VAR",
        "RAY_JOB_ID",
        "RAY_OVERRIDE_JOB_RUNTIME_ENV",
    }
)


def forbidden_environment(runtime_env: object) -> str | None:
    """Why a runtime environment may not be submitted; None for one that may.

    Args:
        runtime_env: as submitted; anything that is no mapping has no variables and is left to Ray's own checks.
    """
    if not isinstance(runtime_env, Mapping):
        return None
    variables = cast("Mapping[str, object]", runtime_env).get("env_vars")
    if not isinstance(variables, Mapping):
        return None
    names = sorted(str(name) for name in cast("Mapping[object, object]", variables))
    taken = [name for name in names if name.upper().startswith(_PREFIXES) or name in _NAMES]
    if not taken:
        return None
    are = "is" if len(taken) == 1 else "are"
    return (
        f"The environment variable{'' if len(taken) == 1 else 's'} {', '.join(taken)} in the runtime environment "
        f"{are} set by the fabric and cannot be submitted; choose another name."
    )
