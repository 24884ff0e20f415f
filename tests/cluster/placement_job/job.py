"""A user's job that knows nothing of the fabric: it does everything people do with Ray and prints where each piece ran.

``python job.py [KIND...]`` runs all kinds, or the named ones, and prints one JSON object: kind to the sites it ran on.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

import ray
import ray_tools
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import (
    In,
    NodeAffinitySchedulingStrategy,
    NodeLabelSchedulingStrategy,
    PlacementGroupSchedulingStrategy,
)

import fabric as the_users_fabric

NEVER = ["never"]
KINDS = {}


def kind(function):
    KINDS[function.__name__] = function
    return function


def site():
    return ray.get_runtime_context().get_node_labels()["fabric/site"]


def burst_node():
    return next(node["NodeID"] for node in ray.nodes() if node["Labels"]["fabric/site"] == "burst")


def unless_it_waits(ref):
    ready, waiting = ray.wait([ref], timeout=0.7)
    if waiting:
        ray.cancel(ref, force=True)
        return NEVER
    try:
        return [ray.get(ready[0])]
    except ray.exceptions.RayError:
        return NEVER


@ray.remote
def where():
    return site()


@ray.remote
def slowly():
    time.sleep(0.5)
    return site()


@ray.remote
class Actor:
    def where(self):
        return site()

    def from_a_task(self):
        return ray.get(where.remote())


@ray.remote
class AsyncActor:
    async def where(self):
        return site()

    async def from_a_task(self):
        return await where.remote()


@kind
def task():
    return ray.get([where.remote() for _ in range(4)])


@kind
def task_with_options():
    return [ray.get(where.options(num_cpus=0.5, name="mine", max_retries=1).remote())]


@kind
def task_that_reserves_nothing():
    return ray.get([where.options(num_cpus=0).remote() for _ in range(4)])


@kind
def task_submitted_without_options():
    return [ray.get(where._remote())]


@kind
def task_with_a_runtime_env_of_its_own():
    return [ray.get(where.options(runtime_env={"env_vars": {"MINE": "1"}}).remote())]


@kind
def selector_of_its_own():
    return [ray.get(where.options(label_selector={"fabric/site": "!elsewhere", "fabric/market": "owned"}).remote())]


@kind
def selector_that_contradicts():
    return unless_it_waits(where.options(label_selector={"fabric/site": "burst"}).remote())


@kind
def fallback_strategy():
    anywhere = [{"label_selector": {"fabric/site": "in(burst,home)"}}]
    options = {"label_selector": {"fabric/site": "burst"}, "fallback_strategy": anywhere}
    return [ray.get(where.options(**options).remote())]


@kind
def fallback_strategy_that_contradicts():
    to_burst = {"label_selector": {"fabric/site": "burst"}}
    return unless_it_waits(where.options(**to_burst, fallback_strategy=[to_burst]).remote())


@kind
def spread():
    return ray.get([slowly.options(scheduling_strategy="SPREAD", num_cpus=0.5).remote() for _ in range(4)])


@kind
def node_affinity_soft():
    return [
        ray.get(where.options(scheduling_strategy=NodeAffinitySchedulingStrategy(burst_node(), soft=True)).remote())
    ]


@kind
def node_affinity_hard():
    strategy = NodeAffinitySchedulingStrategy(burst_node(), soft=False)
    return unless_it_waits(where.options(scheduling_strategy=strategy).remote())


@kind
def node_label_strategy():
    strategy = NodeLabelSchedulingStrategy(hard={"fabric/site": In("burst")})
    return unless_it_waits(where.options(scheduling_strategy=strategy).remote())


@kind
def nested_three_deep():
    @ray.remote(num_cpus=0.1)
    def deeper(levels):
        return [site(), *(ray.get(deeper.remote(levels - 1)) if levels else [])]

    return ray.get(deeper.remote(3))


@kind
def function_passed_to_a_task():
    @ray.remote(num_cpus=0.1)
    def call(function):
        return ray.get(function.remote())

    return [ray.get(call.remote(where))]


@kind
def generator():
    @ray.remote
    def parts():
        for _ in range(2):
            yield site()

    return [ray.get(ref) for ref in parts.remote()]


@kind
def thread_of_the_driver():
    found = []
    thread = threading.Thread(target=lambda: found.append(ray.get(where.remote())))
    thread.start()
    thread.join()
    return found


@kind
def dag():
    return [ray.get(where.bind().execute())]


@kind
def actor():
    mine = Actor.options(num_cpus=0.5, max_restarts=1).remote()
    return ray.get([mine.where.remote(), mine.from_a_task.remote()])


@kind
def async_actor():
    mine = AsyncActor.remote()
    return ray.get([mine.where.remote(), mine.from_a_task.remote()])


@kind
def named_actor():
    options = {"name": "named", "get_if_exists": True, "num_cpus": 0}
    ours = [Actor.options(**options).remote() for _ in range(2)]
    return [ray.get(actor.from_a_task.remote()) for actor in [*ours, ray.get_actor("named")]]


@kind
def detached_actor():
    mine = Actor.options(name="detached", lifetime="detached", num_cpus=0).remote()
    try:
        return ray.get([mine.where.remote(), mine.from_a_task.remote()])
    finally:
        ray.kill(mine)


@kind
def actor_pinned_to_the_burst_node():
    strategy = NodeAffinitySchedulingStrategy(burst_node(), soft=False)
    return unless_it_waits(Actor.options(scheduling_strategy=strategy).remote().where.remote())


@kind
def actor_pool():
    from ray.util import ActorPool

    pool = ActorPool([Actor.options(num_cpus=0.1).remote()])
    return list(pool.map(lambda one, _: one.where.remote(), range(2)))


@kind
def queue():
    from ray.util.queue import Queue

    mine = Queue(actor_options={"num_cpus": 0})
    mine.put(site())
    owner = ray.get(mine.actor.__ray_call__.remote(lambda _: ray.get_runtime_context().get_node_labels()))
    return [mine.get(), owner["fabric/site"]]


def in_group(group):
    try:
        if not group.wait(1):
            return NEVER
        strategies = [
            PlacementGroupSchedulingStrategy(group, number, placement_group_capture_child_tasks=True)
            for number in range(group.bundle_count)
        ]
        inside = [where.options(scheduling_strategy=strategy, num_cpus=0.1).remote() for strategy in strategies]
        return ray.get(inside)
    finally:
        remove_placement_group(group)


@kind
def placement_group_by_hand():
    return in_group(placement_group([{"CPU": 1}, {"CPU": 1}]))


@kind
def actor_in_a_placement_group():
    group = placement_group([{"CPU": 1}])
    try:
        strategy = PlacementGroupSchedulingStrategy(group)
        return [ray.get(Actor.options(scheduling_strategy=strategy).remote().where.remote())]
    finally:
        remove_placement_group(group)


@kind
def placement_group_spread_by_position():
    return in_group(ray.util.placement_group([{"CPU": 0.5}] * 3, "SPREAD"))


@kind
def placement_group_with_selectors():
    selectors = [{"fabric/site": "in(home,burst)"}, {"fabric/market": "!spot"}]
    return in_group(placement_group(bundles=[{"CPU": 0.5}] * 2, bundle_label_selector=selectors))


@kind
def placement_group_that_contradicts():
    return in_group(placement_group([{"CPU": 1}], bundle_label_selector=[{"fabric/site": "burst"}]))


@kind
def placement_group_across_strictly():
    return in_group(placement_group([{"CPU": 1}] * 2, strategy="STRICT_SPREAD"))


@kind
def multiprocessing_pool():
    from ray.util.multiprocessing import Pool

    with Pool(1, ray_remote_args={"num_cpus": 0.5}) as pool:
        return pool.map(lambda _: site(), range(2))


@kind
def joblib():
    import joblib
    from ray.util.joblib import register_ray

    register_ray()
    with joblib.parallel_backend("ray", n_jobs=1, ray_remote_args={"num_cpus": 0.5}):
        return joblib.Parallel()(joblib.delayed(site)() for _ in range(2))


@kind
def child_process_with_a_ray_of_its_own():
    @ray.remote
    def start():
        code = "import job, json, ray; ray.init(log_to_driver=False); print(json.dumps(job.task()))"
        address = ray.get_runtime_context().gcs_address
        environment = {**os.environ, "RAY_ADDRESS": address}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else [done.stderr]

    return ray.get(start.remote())


@kind
def data():
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False

    class Model:
        def __call__(self, batch):
            return {**batch, "site": [site()] * len(batch["id"])}

    rows = ray.data.range(4, override_num_blocks=2).map_batches(
        lambda batch: {**batch, "task": [site()] * len(batch["id"])}
    )
    rows = rows.map_batches(Model, compute=ray.data.ActorPoolStrategy(size=1), num_cpus=0.5)
    return sorted({row[column] for row in rows.take_all() for column in ("task", "site")})


@kind
def train():
    from ray.train.v2.api.config import RunConfig, ScalingConfig
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    ran = Path(tempfile.mkdtemp(), "ran")

    def loop():
        ran.write_text(f"{site()} {ray.get(where.options(num_cpus=0).remote())}")

    scaling = ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1})
    DataParallelTrainer(loop, scaling_config=scaling, run_config=RunConfig(storage_path=str(ran.parent))).fit()
    return ran.read_text().split()


@kind
def tune():
    # Loggers that import torch are no part of what is tested.
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    from ray import tune

    ran = Path(tempfile.mkdtemp(), "ran")
    run = tune.RunConfig(storage_path=str(ran.parent), verbose=0)

    def trial(_):
        ran.write_text(site())
        return {"done": 1}

    tune.Tuner(trial, run_config=run).fit()
    return [ran.read_text()]


@kind
def serve():
    from ray import serve

    @serve.deployment(ray_actor_options={"num_cpus": 0.1})
    class Alone:
        def __call__(self):
            return site()

    @serve.deployment(
        placement_group_bundles=[{"CPU": 0.2}], placement_group_strategy="PACK", ray_actor_options={"num_cpus": 0.1}
    )
    class InAGroup:
        def __call__(self):
            return [site(), ray.get(where.options(num_cpus=0.1).remote())]

    serve.start(proxy_location="Disabled")
    alone = serve.run(Alone.bind(), name="alone", route_prefix=None)
    grouped = serve.run(InAGroup.bind(), name="grouped", route_prefix=None)
    return [alone.remote().result(), *grouped.remote().result()]


@ray.remote(num_cpus=0)
def what_of_the_user_ran():
    names = ("SITECUSTOMIZE_OF_THE_USER", "HOOK_OF_THE_SUBMISSION", "HOOK_OF_RAY_INIT")
    return {
        **{name: os.environ.get(name) for name in names},
        "fabric": the_users_fabric.WHOSE,
        "ray_tools": ray_tools.WHOSE,
    }


def run(name):
    began = time.monotonic()
    try:
        ran = KINDS[name]()
    except Exception:
        ran = [traceback.format_exc()]
    print(f"{time.monotonic() - began:5.1f} s {name}: {' '.join(ran)}", flush=True)
    return name, ran


def main():
    hook = {"worker_process_setup_hook": "hooks.of_ray_init"} if os.environ.get("WITH_A_HOOK_IN_RAY_INIT") else {}
    ray.init(log_to_driver=False, runtime_env={"env_vars": {"OF_RAY_INIT": "1"}, **hook})
    ran = dict(run(name) for name in sys.argv[1:] or KINDS)
    driver = {
        "driver": site(),
        "fabric": the_users_fabric.WHOSE,
        "ray_tools": ray_tools.WHOSE,
        "sitecustomize": os.environ.get("SITECUSTOMIZE_OF_THE_USER"),
        "argv": sys.argv,
    }
    print("RESULT " + json.dumps({"ran": ran, "driver": driver, "worker": ray.get(what_of_the_user_ran.remote())}))


if __name__ == "__main__":
    main()
