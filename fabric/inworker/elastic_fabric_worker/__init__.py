"""What runs inside users' processes: every task, actor and placement group gets its job's label selector.

A package of its own, without dependencies and with a name nobody takes by accident: a user's ``working_dir`` comes
before installed packages on Ray's workers, and may well hold a folder ``fabric``. What the environment variables hold
is said in ``fabric/sovereignty/dress.py``, which sets them; docs/decisions/0008 says why it is done this way.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

SELECTOR, HELPER_SELECTOR, USER_HOOK = "FABRIC_SELECTOR", "FABRIC_HELPER_SELECTOR", "FABRIC_USER_HOOK"
# Ray's own names (ray_constants.WORKER_PROCESS_SETUP_HOOK_ENV_VAR, runtime_env.constants.RAY_JOB_CONFIG_JSON_ENV_VAR).
RAY_HOOK, RAY_JOB_CONFIG = "__RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR", "RAY_JOB_CONFIG_JSON_ENV_VAR"
# A label value that no node carries: names of sites and markets are lower case.
NOWHERE = "NOWHERE"
STARTUP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "startup")  # noqa: PTH118, PTH120, PTH100

_placed = False


def setup() -> None:
    """What Ray runs in every worker process of a job, and in the one that starts its driver, before the user's code.

    Raises:
        RuntimeError: the process has no selector to go by, or the user's own hook failed. Ray then ends the worker.
    """
    if not os.environ.get(SELECTOR):
        raise RuntimeError(f"{SELECTOR} is not set: this process does not know where its work may run")
    place_everything()
    _prepare_children()
    _run_user_hook()


def place_everything() -> None:
    """Add the selector in the environment to whatever this process submits to Ray from now on."""
    global _placed
    if _placed:
        return
    _placed = True
    import sys

    ray = _ray()
    place = _Place(_selector(SELECTOR), _selector(HELPER_SELECTOR))
    for submitter in (ray.remote_function.RemoteFunction, ray.actor.ActorClass):
        submitter._remote = _with_options(submitter._remote, place)
    groups = sys.modules["ray.util.placement_group"]
    # Modules all over Ray hold this function by name, so its inside is exchanged rather than the name.
    _inside(groups.placement_group).cell_contents = _with_bundles(groups.placement_group.__wrapped__, place)
    worker = ray._private.worker
    worker.upload_worker_process_setup_hook_if_needed = _as_placed(worker.upload_worker_process_setup_hook_if_needed)


class _Place:
    """Where the job's work may run, and where work that reserves nothing may run as well: beside the driver."""

    def __init__(self, work: dict[str, str], helpers: dict[str, str]) -> None:
        self.work, self.helpers = work, helpers

    def options(self, options: dict[str, Any]) -> dict[str, Any]:
        """Options of a task or actor, with every way to place it narrowed."""
        ours = self.helpers if _reserves_nothing(options) else self.work
        placed = {**options, "label_selector": both(ours, options.get("label_selector"))}
        if options.get("fallback_strategy"):
            placed["fallback_strategy"] = [
                {**way, "label_selector": both(ours, way.get("label_selector"))} for way in options["fallback_strategy"]
            ]
        return placed


def _reserves_nothing(options: dict[str, Any]) -> bool:
    """Whether this is a helper, such as a controller that libraries pin to the driver's node or the head."""
    others = [name for name in options.get("resources") or {} if not name.startswith("node:")]
    return options.get("num_cpus") == 0 and not (
        options.get("num_gpus") or options.get("memory") or options.get("accelerator_type") or others
    )


def _with_options(submit: Callable[..., Any], place: _Place) -> Callable[..., Any]:
    def placed(self: Any, *args: Any, **options: Any) -> Any:
        return submit(self, *args, **place.options(options))

    return placed


def _with_bundles(create: Callable[..., Any], place: _Place) -> Callable[..., Any]:
    import inspect

    signature = inspect.signature(create)

    def placed(*args: Any, **kwargs: Any) -> Any:
        call = signature.bind(*args, **kwargs)
        theirs: Sequence[Any] = call.arguments.get("bundle_label_selector") or [None] * len(call.arguments["bundles"])
        call.arguments["bundle_label_selector"] = [both(place.work, selector) for selector in theirs]
        return create(*call.args, **call.kwargs)

    return placed


def _inside(wrapper: Any) -> Any:
    """The closure cell in which ``wrapper`` keeps the function it wraps."""
    return next(cell for cell in wrapper.__closure__ if cell.cell_contents is wrapper.__wrapped__)


def _as_placed(upload: Callable[..., Any]) -> Callable[..., Any]:
    """The last change that ``ray.init`` makes to the job's runtime environment, and two of ours."""

    def placed(runtime_env: Any, worker: Any) -> Any:
        # By default Ray brings the job's files to every node as soon as it starts, wherever its work may run.
        runtime_env["config"] = {**(runtime_env.get("config") or {}), "eager_install": False}
        variables = runtime_env.get("env_vars") or {}
        if runtime_env.get("worker_process_setup_hook") is None or RAY_HOOK not in variables:
            return upload(runtime_env, worker)
        # Ray knows only one hook; the user's own takes its place behind ours.
        ours = variables.pop(RAY_HOOK)
        runtime_env["env_vars"] = variables
        uploaded = upload(runtime_env, worker)
        variables = uploaded["env_vars"]
        variables[USER_HOOK], variables[RAY_HOOK] = variables[RAY_HOOK], ours
        uploaded["env_vars"] = variables
        return uploaded

    return placed


def _prepare_children() -> None:
    """Python processes that this one starts, the driver above all, place their work as well."""
    import json

    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path != STARTUP]
    os.environ["PYTHONPATH"] = os.pathsep.join([STARTUP, *others])
    # The driver gets Ray's own; a child that calls ray.init by itself goes on as part of the job.
    # Without the user's hook, whose module only the job's own files may have.
    names = [name for name in os.environ if name.startswith("FABRIC_") and name != USER_HOOK]
    ours = {name: os.environ[name] for name in (*names, RAY_HOOK) if name in os.environ}
    os.environ.setdefault(RAY_JOB_CONFIG, json.dumps({"runtime_env": {"env_vars": ours}}))


def _run_user_hook() -> None:
    ray, hook = _ray(), os.environ.get(USER_HOOK)
    # The process that starts the driver is Ray's, and would not run the user's hook either.
    if not hook or ray._private.worker.global_worker.namespace == ray._raylet.RAY_INTERNAL_DASHBOARD_NAMESPACE:
        return
    error = ray._private.runtime_env.setup_hook.load_and_execute_setup_hook(hook)
    if error is not None:
        raise RuntimeError(error)


def _ray() -> Any:
    """Ray, whose inside has no types."""
    import ray

    return ray


def _selector(variable: str) -> dict[str, str]:
    import json

    return json.loads(os.environ.get(variable) or os.environ[SELECTOR])


def both(ours: dict[str, str], theirs: dict[str, str] | None) -> dict[str, str]:
    """The label selector that matches exactly the nodes which ``ours`` and ``theirs`` both match.

    Args:
        ours: the job's selector, in Ray's syntax: ``in(a,b)``, ``!in(a,b)``, ``a`` or ``!a`` by label key.
        theirs: the selector that the user's code asks for, the same way.

    Returns:
        One expression per key. Where the two contradict each other no node matches.
    """
    if not theirs:
        return ours
    merged = {**theirs, **ours}
    for key in theirs.keys() & ours.keys():
        merged[key] = _and(ours[key], theirs[key])
    return merged


@lru_cache(maxsize=1024)
def _and(one: str, other: str) -> str:
    (allows, values), (also_allows, others) = _read(one), _read(other)
    if allows and also_allows:
        return _write(True, values & others)
    if not allows and not also_allows:
        return _write(False, values | others)
    return _write(True, values - others if allows else others - values)


def _read(expression: str) -> tuple[bool, set[str]]:
    """Whether the expression allows (or excludes) what it lists, and the list."""
    allows, plain = not expression.startswith("!"), expression.removeprefix("!")
    if plain.endswith(")"):
        plain = plain.removeprefix("in").removeprefix("(").removesuffix(")")
    return allows, {value.strip() for value in plain.split(",")}


def _write(allows: bool, values: set[str]) -> str:
    listed = ",".join(sorted(values)) or NOWHERE
    return f"in({listed})" if allows else f"!in({listed})"
