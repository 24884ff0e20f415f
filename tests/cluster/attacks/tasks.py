"""Every way to place a task, an actor or a group in the cloud: ``tasks.py NAME``; what came of each is printed."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import ray
from ray.exceptions import GetTimeoutError
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import (
    In,
    NodeAffinitySchedulingStrategy,
    NodeLabelSchedulingStrategy,
    PlacementGroupSchedulingStrategy,
)

SKY = {"fabric/site": "sky"}
NAME = sys.argv[1]
PATIENCE_S = float(os.environ.get("PATIENCE", "20"))
options: dict[str, Any] = json.loads(os.environ.get("ATTACK_INIT", "{}"))
if options.get("address", "").startswith("ray://"):
    os.environ.pop("RAY_ADDRESS", None)
for left in (2, 1, 0):
    try:
        ray.init(**options, logging_level="error", log_to_driver=False)
        break
    except Exception:
        # Ray's server for ray:// gives up early on a busy machine.
        if not left:
            raise


@ray.remote(num_cpus=1, max_retries=0)
def where(*_: object) -> str:
    return os.environ.get("FABRIC_SITE", "unknown")


@ray.remote(num_cpus=1)
class Actor:
    def where(self, *_: object) -> str:
        return os.environ.get("FABRIC_SITE", "unknown")


@ray.remote(num_cpus=1)
def nested(depth: int) -> str:
    below = where if depth == 0 else nested
    return ray.get(below.options(label_selector=SKY).remote(*([depth - 1] if depth else [])), timeout=PATIENCE_S)


def sky_node() -> str:
    return next(node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Labels"].get("fabric/site") == "sky")


def grouped(**more: Any) -> Any:
    group = placement_group([{"CPU": 1}], lifetime="detached", name=f"{NAME}-{len(more)}", **more)
    return where.options(
        scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_capture_child_tasks=True)
    ).remote()


def tampered(**variables: str) -> Any:
    return where.options(label_selector=SKY, runtime_env={"env_vars": {"CANARY": "SOVEREIGN", **variables}}).remote()


node = sky_node()
ATTACKS: dict[str, Any] = {
    "no label": lambda: where.remote(),
    "label of the cloud": lambda: where.options(label_selector=SKY).remote(),
    "label that is not home": lambda: where.options(label_selector={"fabric/site": "!home"}).remote(),
    "market of the cloud": lambda: where.options(label_selector={"fabric/market": "!owned"}).remote(),
    "node affinity": lambda: where.options(
        scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
    ).remote(),
    "soft node affinity": lambda: where.options(
        scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=True)
    ).remote(),
    "node label strategy": lambda: where.options(
        scheduling_strategy=NodeLabelSchedulingStrategy(hard={"fabric/site": In("sky")})
    ).remote(),
    "spread": lambda: where.options(scheduling_strategy="SPREAD").remote(),
    "fallback strategy": lambda: where.options(
        label_selector={"fabric/site": "nowhere"}, fallback_strategy=[{"label_selector": SKY}]
    ).remote(),
    "nested": lambda: nested.remote(1),
    "actor": lambda: Actor.options(label_selector=SKY).remote().where.remote(),
    "detached actor": lambda: (
        Actor.options(label_selector=SKY, lifetime="detached", name=f"{NAME}-d", namespace="x").remote().where.remote()
    ),
    "actor in another job's namespace": lambda: (
        Actor.options(label_selector=SKY, name=f"{NAME}-n", namespace="vision", get_if_exists=True)
        .remote()
        .where.remote()
    ),
    "actor that restarts": lambda: (
        Actor.options(label_selector=SKY, max_restarts=-1, max_task_retries=-1).remote().where.remote()
    ),
    "placement group": lambda: grouped(bundle_label_selector=[SKY]),
    "placement group, spread": lambda: grouped(strategy="SPREAD", bundle_label_selector=[SKY]),
    "another selector in the environment": lambda: tampered(FABRIC_SELECTOR=json.dumps(SKY)),
    "no hook in the environment": lambda: tampered(__RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR=""),
    "another job in the environment": lambda: tampered(FABRIC_JOB="open", FABRIC_ATTEMPT="1", FABRIC_BADGE="0" * 64),
    "another class in the environment": lambda: tampered(FABRIC_DATA_CLASS="open", FABRIC_SITES="sky"),
    "another socket in the environment": lambda: tampered(ELASTIC_FABRIC_GUARD="/nowhere", RAY_JOB_ID="01000000"),
    "another interpreter": lambda: where.options(
        label_selector=SKY, runtime_env={"py_executable": f"{sys.executable} -I"}
    ).remote(),
}

tried: dict[str, Any] = {}
for name in os.environ["ONLY"].split("|") if "ONLY" in os.environ else ATTACKS:
    attack = ATTACKS[name]
    try:
        tried[name] = attack()
    except Exception as error:
        tried[name] = f"refused: {type(error).__name__}: {str(error)[:200]}"
deadline = time.monotonic() + PATIENCE_S
for name, made in tried.items():
    outcome = made
    if not isinstance(made, str):
        try:
            outcome = f"ran: {ray.get(made, timeout=max(deadline - time.monotonic(), 0.1))}"
        except GetTimeoutError:
            outcome = "waits"
        except Exception as error:
            outcome = f"failed: {type(error).__name__}: {str(error)[-300:]}"
    print("OUTCOME", json.dumps([NAME, name, outcome]), flush=True)
os._exit(0)
