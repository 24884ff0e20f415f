"""A real Ray cluster in a burst, and every process of the fabric killed at random moments (seeded) and restarted."""

from __future__ import annotations

import json
import random
import time

import pytest

from autoscaler.core.lifecycle import Phase
from fabric.journal.sqlite import SqliteJournal
from fabric.money.ledger import fold
from tests.cluster.test_controller import WORK, node
from tests.conftest import wait_until
from tests.fabrics import Fabric

pytestmark = pytest.mark.cluster

SEED = 20260
VICTIMS = ("controller", "gateway", "reaper", "sandbox", "raylet")
TASKS, SECONDS = 36, 2.5


def test_whatever_is_killed_the_job_ends_well_and_nothing_is_left() -> None:
    chance = random.Random(SEED)
    victims = list(VICTIMS)
    chance.shuffle(victims)
    fabric = Fabric(maximum=2, lease="40s")
    try:
        fabric.start_head()
        fabric.start("sandbox", "gateway", "reaper", "controller")
        fabric.start_home()
        wait_until(lambda: node(fabric, "onprem/home/a").get("phase") == "running", 150, "the on-prem node to join")
        driver = fabric.run_driver(WORK, str(TASKS), str(SECONDS))
        wait_until(lambda: len(fabric.bill()["lines"]) >= 1, 60, "the burst to begin")
        for victim in victims:
            time.sleep(chance.uniform(0.5, 2.5))
            if victim == "raylet":
                wait_until(fabric.kill_a_burst_raylet, 60, "a burst raylet to kill")
            else:
                fabric.kill(victim)
                fabric.start(victim)
        wait_until(lambda: driver.poll() is not None, 150, "the work to be done")
        assert driver.returncode == 0, fabric.log("driver").read_text()[-2000:]
        printed = fabric.log("driver").read_text().splitlines()
        assert len(next(json.loads(line) for line in printed if line.startswith('["'))) == TASKS
        wait_until(lambda: fabric.bill()["open_instances"] == 0, 120, "everything to be given back")
        wait_until(lambda: all(r.phase is Phase.ENDED for r in fabric.records().values()), 30, "its end to be written")
        bill = fabric.bill()
        made = [line["token"] for line in bill["lines"]]
        assert len(made) == len(set(made)), "nothing was launched twice"
        assert set(made) <= set(fabric.records()), "nothing without an owner"
        assert fold(fabric.entries()).statement(bill["at_ms"]).total == bill["total_micro_usd"]
        journal = SqliteJournal(fabric.config.fabric.journal.removeprefix("sqlite:"), "test")
        try:
            assert journal.verify() is None
        finally:
            journal.close()
    finally:
        fabric.close()
