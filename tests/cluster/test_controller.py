"""A whole burst on a real Ray cluster: demand opens it, the work runs on both sides, and everything is given back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from autoscaler.core.lifecycle import Phase
from fabric.journal.sqlite import SqliteJournal
from fabric.model.events import Event
from fabric.money.ledger import fold
from tests.conftest import wait_until
from tests.fabrics import Fabric

pytestmark = pytest.mark.cluster

WORK = """
import json, os, ray, sys, time
count, seconds = int(sys.argv[1]), float(sys.argv[2])
ray.init(address=os.environ["ADDRESS"], log_to_driver=False)

@ray.remote(num_gpus=1, num_cpus=0, max_retries=-1)
def work():
    time.sleep(seconds)
    return os.environ["RAY_CLOUD_INSTANCE_ID"]

ran = ray.get([work.remote() for _ in range(count)])
print(json.dumps(ran), flush=True)
"""


@pytest.fixture(scope="module")
def fabric() -> Iterator[Fabric]:
    made = Fabric(maximum=2)
    try:
        made.start_head()
        made.start("sandbox", "gateway", "reaper", "controller")
        made.start_home()
        wait_until(lambda: node(made, "onprem/home/a").get("phase") == "running", 150, "the on-prem node to join")
        yield made
    finally:
        made.close()


def node(fabric: Fabric, instance: str) -> dict[str, Any]:
    return next((node for node in fabric.status()["nodes"] if node["instance"] == instance), {})


def test_a_burst_begins_runs_on_both_sides_and_ends_with_the_ledger_equal_to_the_bill(fabric: Fabric) -> None:
    assert not fabric.records(), "an idle cluster buys nothing"
    driver = fabric.run_driver(WORK, "12", "3")
    wait_until(lambda: len(fabric.bill()["lines"]) == 2, 30, "the burst to begin")
    wait_until(lambda: driver.poll() is not None, 90, "the work to be done")
    assert driver.returncode == 0, fabric.log("driver").read_text()[-2000:]
    printed = fabric.log("driver").read_text().splitlines()
    ran = next(json.loads(line) for line in printed if line.startswith('["'))
    assert len(ran) == 12
    tokens = set(fabric.records())
    assert "onprem/home/a" in ran, "home is used"
    assert set(ran) - {"onprem/home/a"} <= tokens, "and nothing ran anywhere else"
    assert set(ran) & tokens, "and so is the burst"
    wait_until(lambda: fabric.bill()["open_instances"] == 0, 60, "everything to be given back")
    wait_until(
        lambda: all(record.phase is Phase.ENDED for record in fabric.records().values()), 20, "its end to be written"
    )
    bill = fabric.bill()
    assert {line["token"] for line in bill["lines"]} == tokens, "every launch was intended, and none was made twice"
    assert fold(fabric.entries()).statement(bill["at_ms"]).total == bill["total_micro_usd"]


def test_ray_status_tells_the_truth(fabric: Fabric) -> None:
    report = fabric.ray("status")
    assert "1 home.box" in report
    assert "1 head" in report
    assert "(no pending nodes)" in report
    assert "(no resource demands)" in report


def test_a_dead_on_prem_node_is_a_fact_and_no_purchase_and_may_come_back(fabric: Fabric) -> None:
    launches = len(fabric.records())
    fabric.kill_tree("home")
    wait_until(lambda: node(fabric, "onprem/home/a").get("phase") == "dead", 40, "the death to be seen")
    kinds = [entry.kind for entry in fabric.entries()]
    assert Event.ONPREM_NODE_DEAD in kinds
    fabric.start_home()
    wait_until(lambda: node(fabric, "onprem/home/a").get("phase") == "running", 60, "the node to come back")
    assert len(fabric.records()) == launches, "nothing was bought for it"
    assert not fabric.status()["tick_error"]
    assert "fabric_refused_to_end_total" not in fabric.metrics("controller"), "and nobody tried to end it"


def test_the_journal_of_all_this_verifies(fabric: Fabric) -> None:
    journal = SqliteJournal(fabric.config.fabric.journal.removeprefix("sqlite:"), "test")
    try:
        assert journal.verify() is None
    finally:
        journal.close()
