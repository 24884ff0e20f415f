"""Ray's own libraries, told to run in the cloud: ``libraries.py NAME``."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

import ray
import ray.data
from ray import serve, tune
from ray.train.v2.api.config import RunConfig, ScalingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.tune import PlacementGroupFactory

SKY = {"fabric/site": "sky"}
NAME = sys.argv[1]
ray.init(logging_level="error", log_to_driver=False)


def data() -> Any:
    return ray.data.range(2).map_batches(lambda batch: batch, num_cpus=1, label_selector=SKY).take_all()


def train() -> Any:
    scaling = ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1}, label_selector=SKY)
    run = RunConfig(storage_path=tempfile.mkdtemp())
    return DataParallelTrainer(lambda: None, scaling_config=scaling, run_config=run).fit()


def trial(_: dict[str, Any]) -> dict[str, Any]:
    return {"done": 1}


def tuner() -> Any:
    bundles = PlacementGroupFactory([{"CPU": 1}], bundle_label_selector=[SKY])
    run = tune.RunConfig(storage_path=tempfile.mkdtemp(), verbose=0)
    return tune.Tuner(tune.with_resources(trial, bundles), run_config=run).fit().errors


def serving() -> Any:

    @serve.deployment(ray_actor_options={"num_cpus": 1, "label_selector": SKY})
    class Model:
        def __call__(self) -> str:
            return "here"

    serve.start(http_options={"location": None})
    return serve.run(Model.bind(), name=NAME).remote().result(timeout_s=30)


outcomes: dict[str, str] = {}


def attempt(name: str, attack: Callable[[], Any]) -> None:
    try:
        outcomes[name] = f"ran: {attack()}"[:300]
    except Exception as error:
        outcomes[name] = f"failed: {type(error).__name__}: {str(error)[-300:]}"


for attack in (data, tuner, train, serving):
    threading.Thread(target=attempt, args=(attack.__name__, attack), daemon=True).start()
deadline = time.monotonic() + float(os.environ.get("PATIENCE", "20"))
while time.monotonic() < deadline and len(outcomes) < 4:
    time.sleep(0.2)
for attack in (data, tuner, train, serving):
    print("OUTCOME", json.dumps([NAME, attack.__name__, outcomes.get(attack.__name__, "waits")]), flush=True)
os._exit(0)
