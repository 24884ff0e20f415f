"""Time from demand being visible in Ray to the launch at the cloud: our controller and Ray's stock monitor.

    python tests/bench/react.py [--rounds N] [--json FILE]

Both drive the same real head and buy at the same sandbox cloud, one after the other. A round begins at a random
moment (seeded): a task asks for a GPU that nobody has; the clock starts when the head's own report shows it, and
stops at the time stamp the cloud gives the machine. The stock side is Ray's own ``Autoscaler`` and scheduler in the
loop of ``ray/autoscaler/v2/monitor.py``, with Ray's default interval (``AUTOSCALER_UPDATE_INTERVAL_S``) between ticks.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import httpx
from rich.console import Console
from rich.table import Table

from tests.conftest import wait_until
from tests.fabrics import Fabric

SEED = 20260
STOCK_TOKEN = "stock-"
SEEN_BY_ALL_S = 6.0
DRIVER = """
import os, sys, ray
ray.init(address=os.environ["ADDRESS"], log_to_driver=False)

@ray.remote(num_gpus=1, num_cpus=0)
def work():
    pass

for line in sys.stdin:
    if line.strip() == "ask":
        asked = work.remote()
    else:
        ray.cancel(asked, force=True)
        del asked
"""


@dataclass(frozen=True)
class Result:
    """Seconds from visible demand to the launch, over all rounds of one side."""

    name: str
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.seconds)


def main() -> int:
    """Run both sides and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--config", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        SIDES[options.side](options.config)
        return 0
    # Ray reads this once, when it is imported.
    os.environ["RAY_AUTH_MODE"] = "token"
    fabric = Fabric(maximum=1, home_gpus=0)
    try:
        fabric.start_head()
        fabric.start("sandbox")
        link = wait_until(lambda: _link(fabric), 60, "the head")
        results = [measure(side, options.rounds, fabric, link) for side in SIDES]
    finally:
        fabric.close()
    show(results)
    if options.json:
        figures = {result.name: {**asdict(result), "median": result.median} for result in results}
        options.json.write_text(json.dumps(figures, indent=2))
    return 0


def measure(side: str, rounds: int, fabric: Fabric, link: Any) -> Result:
    """``rounds`` launches by one side's controller."""
    command = [sys.executable, __file__, "--side", side, "--config", str(fabric.path)]
    with fabric.log(side).open("ab") as log:
        controller = subprocess.Popen(command, env=fabric.environment, stdout=log, stderr=log)
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER],
        env={**fabric.environment, "ADDRESS": fabric.ray_address},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert driver.stdin is not None
    chance, seconds = random.Random(SEED), []
    try:
        # The first round warms both up and is not counted.
        for number in range(rounds + 1):
            time.sleep(chance.uniform(0.0, 5.0))
            print("ask", file=driver.stdin, flush=True)
            wait_until(lambda: _demand(link), 30, "the demand to be visible")
            visible_at = time.time()
            wait_until(lambda: _living(fabric), 30, f"the launch ({fabric.log(side)})")
            launched_at = _living(fabric)[0]["launched_at_ms"] / 1000
            print("cancel", file=driver.stdin, flush=True)
            wait_until(lambda: not _demand(link), 30, "the demand to be gone")
            # The stock loop looks every 5 s; a machine that it never saw would stay requested for it.
            time.sleep(SEEN_BY_ALL_S)
            _end_all(fabric)
            if number:
                seconds.append(max(0.0, launched_at - visible_at))
    except BaseException:
        print(fabric.log(side).read_text()[-5000:], file=sys.stderr)
        raise
    finally:
        driver.kill()
        driver.wait()
        controller.kill()
        controller.wait()
        _end_all(fabric)
    return Result(side, tuple(seconds))


def show(results: Sequence[Result]) -> None:
    """Print the table."""
    table = Table(title="demand visible in Ray → launch at the cloud")
    for column in ("", "median", "best", "worst", "rounds"):
        table.add_column(column, justify="left" if not column else "right")
    for result in results:
        times = (result.median, min(result.seconds), max(result.seconds))
        table.add_row(result.name, *(f"{value * 1000:,.0f} ms" for value in times), str(len(result.seconds)))
    console = Console()
    console.print(table)
    ours, stock = results
    if ours.median > 0:
        console.print(f"stock / ours: {stock.median / ours.median:.1f} times at the median")


def ours(path: Path) -> None:
    """The controller as it is; only the machines do nothing but sleep."""
    import autoscaler.shell.controller as controller_module
    from autoscaler.providers.registry import provider_for
    from autoscaler.shell.main import main as controller
    from tests.chaos.rig import Sleeping

    controller_module.provider_for = lambda name, site, owner: Sleeping(provider_for(name, site, owner))
    controller(["--config", str(path)])


def stock(path: Path) -> None:
    """Ray's monitor loop on Ray's own autoscaler, with a provider that does nothing but buy."""
    from ray.autoscaler._private.constants import AUTOSCALER_UPDATE_INTERVAL_S
    from ray.autoscaler.v2.autoscaler import Autoscaler
    from ray.autoscaler.v2.instance_manager.node_provider import CloudInstance, ICloudInstanceProvider
    from ray.core.generated.instance_manager_pb2 import NodeKind

    from autoscaler.providers.base import TAG_OWNER, TAG_TOKEN, LaunchSpec, ProviderError
    from autoscaler.providers.registry import provider_for
    from autoscaler.ray.autoscaler import HeadLink
    from autoscaler.ray.config import AutoscalerTerms, FabricConfigReader
    from fabric.config.reload import read
    from fabric.config.resolve import HEAD, node_types

    config: Any = read(path)
    site = provider_for("sky", config.sites["sky"], config.fabric.name)
    offer = min(site.offers(), key=lambda offer: offer.tariff.per_hour)

    class Buying(ICloudInstanceProvider):
        made = 0

        def get_non_terminated(self) -> dict[str, CloudInstance]:
            living = [instance for instance in site.list() if instance.ended_at_ms is None]
            machines = {i.token: CloudInstance(i.token, offer.node_type, NodeKind.WORKER, False) for i in living}
            return {HEAD: CloudInstance(HEAD, HEAD, NodeKind.HEAD, True), **machines}

        def launch(self, shape: Mapping[str, int], request_id: str) -> None:  # noqa: ARG002
            for _ in range(sum(shape.values())):
                self.made += 1
                token = f"{STOCK_TOKEN}{self.made}"
                tags = {TAG_OWNER: config.fabric.name, TAG_TOKEN: token}
                made = site.launch([LaunchSpec(token, offer, "#!/bin/sh\nexec sleep 600\n", tags)])[0]
                if isinstance(made, ProviderError):
                    raise made

        def terminate(self, ids: Sequence[str], request_id: str) -> None:
            pass

        def poll_errors(self) -> list[Any]:
            return []

    class Stock(Autoscaler):
        def _init_cloud_instance_provider(self, *_: Any) -> None:
            self._cloud_instance_provider = Buying()

    link = HeadLink(f"{config.ray.address}:{config.ray.port}", Path(os.environ["RAY_AUTH_TOKEN_PATH"]))
    reader = FabricConfigReader(lambda: AutoscalerTerms(node_types(config), idle_s=3600.0))
    autoscaler = Stock(session_name=link.session, config_reader=reader, gcs_client=link.client)
    while True:
        state = autoscaler.update_autoscaling_state()
        if state:
            link.report(state)
        time.sleep(AUTOSCALER_UPDATE_INTERVAL_S)


SIDES: Mapping[str, Callable[[Path], None]] = {"ours": ours, "stock": stock}


def _link(fabric: Fabric) -> Any:
    """The link to the head, once the head is a node of its own cluster."""
    from autoscaler.ray.autoscaler import HeadLink, HeadUnreachableError

    try:
        link = HeadLink(fabric.ray_address, fabric.token_path)
    except HeadUnreachableError:
        return None
    return link if link.nodes() else None


def _demand(link: Any) -> bool:
    from ray.autoscaler.v2.sdk import get_cluster_resource_state

    return bool(get_cluster_resource_state(link.client).pending_resource_requests)


def _living(fabric: Fabric) -> list[dict[str, Any]]:
    query = {"owner": "test", "page": "0", "limit": "500"}
    url = f"http://127.0.0.1:{fabric.ports['sandbox']}/v1/instances"
    instances = httpx.get(url, params=query, trust_env=False).json()["instances"]
    return [instance for instance in instances if instance["state"] != "ended"]


def _end_all(fabric: Fabric) -> None:
    for instance in _living(fabric):
        httpx.delete(f"http://127.0.0.1:{fabric.ports['sandbox']}/v1/instances/{instance['id']}", trust_env=False)
    wait_until(lambda: not _living(fabric), 30, "the machine to end")


if __name__ == "__main__":
    sys.exit(main())
