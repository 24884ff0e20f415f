"""How an admitted attempt is handed to Ray: the user's submission with placement in its runtime environment.

The command itself stays as the user wrote it. Ray starts every process of a job with the job's environment variables,
among them the name of a function that runs before any of the user's code; that function (``elastic_fabric_worker``)
adds the selectors built here to whatever the code submits, and prepares the driver and other child processes the same
way. docs/decisions/0008 says why.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from elastic_fabric_worker import HELPER_SELECTOR, RAY_HOOK, SELECTOR, USER_HOOK, both
from fabric.config.resolve import home_site
from fabric.config.schema import Config
from fabric.model.jobs import JobRequest, ray_id_of
from fabric.sovereignty.badge import ATTEMPT, BADGE, DATA_CLASS, JOB, SITES
from fabric.sovereignty.rules import allowed_sites
from fabric.sovereignty.selectors import ray_selector, selector

# Set as Ray's own variable: from the field of the runtime environment Ray makes it for workers of the job only, not for
# the process that starts the driver.
HOOK = "elastic_fabric_worker.setup"

_RESERVING = ("entrypoint_num_cpus", "entrypoint_num_gpus", "entrypoint_memory", "entrypoint_resources")


class NowhereToRunError(ValueError):
    """None of the sites that an attempt was admitted to may have data of its class."""


def ray_submission(
    request: JobRequest, attempt: int, sites: frozenset[str], config: Config, badge: str
) -> dict[str, Any]:
    """The body for Ray's ``POST /api/jobs/`` that starts one attempt in its place.

    Args:
        request: the job as it was taken in; its command, files, metadata and resources are passed on unchanged.
        attempt: the number of the attempt, from 1; Ray gets ``ray_id_of(job, attempt)`` as the id.
        sites: where it was admitted to. Sites that its data class does not allow are left out here again.
        config: the configuration in force.
        badge: proof for the node agents that this attempt was admitted (``fabric.sovereignty.badge``).

    Raises:
        NowhereToRunError: no site is left.
    """
    allowed = allowed_sites(config, request.data_class)
    chosen = sites & allowed
    if not chosen:
        named = ", ".join(sorted(sites)) or "no site"
        raise NowhereToRunError(
            f"Job {request.job} was admitted to {named}, where data of class {request.data_class} may not go; "
            "nothing was started."
        )
    near_driver = chosen | ({home_site(config)} & allowed)
    place = ray_selector(selector(config, request.data_class, chosen))
    helper_place = ray_selector(selector(config, request.data_class, near_driver))
    body = {key: value for key, value in request.submission.items() if key != "job_id" and value is not None}
    runtime_env = dict(cast("Mapping[str, Any]", body.get("runtime_env") or {}))
    user_hook = runtime_env.pop("worker_process_setup_hook", None)
    variables = {
        **(runtime_env.get("env_vars") or {}),
        JOB: request.job,
        ATTEMPT: str(attempt),
        BADGE: badge,
        DATA_CLASS: request.data_class,
        SITES: ",".join(sorted(chosen)),
        SELECTOR: json.dumps(place),
        HELPER_SELECTOR: json.dumps(helper_place),
        USER_HOOK: user_hook or "",
        RAY_HOOK: HOOK,
    }
    body["submission_id"] = ray_id_of(request.job, attempt)
    body["runtime_env"] = {**runtime_env, "env_vars": variables}
    asked = cast("dict[str, str]", body.get("entrypoint_label_selector") or {})
    if asked or any(body.get(key) for key in _RESERVING):
        body["entrypoint_label_selector"] = both(place, asked)
    elif home_site(config) not in allowed:
        # Left alone, Ray would start the driver on the head.
        body["entrypoint_label_selector"] = place
    return body
