"""A job whose driver itself belongs on a rented machine: it waits, it runs there, and its log comes home."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fabric.model.events import Event
from fabric.model.jobs import JobPhase
from tests.conftest import wait_until
from tests.fabrics import Fabric

pytestmark = pytest.mark.cluster

DRIVER = """
import os, ray
ray.init(log_to_driver=False)
print("the driver is on", os.environ["RAY_CLOUD_INSTANCE_ID"], flush=True)

@ray.remote(num_cpus=1)
def work():
    return os.environ["RAY_CLOUD_INSTANCE_ID"]

print("its work is on", ray.get(work.remote()))
"""


@pytest.fixture(scope="module")
def fabric() -> Iterator[Fabric]:
    made = Fabric(maximum=1, home_gpus=0)
    try:
        made.start_head()
        made.start("sandbox", "gateway", "controller")
        # A second node on this machine: each has to find ports of its own.
        made.start_home()
        wait_until(lambda: "onprem/home/a" in running(made), 150, "the on-prem node to join")
        yield made
        # Shown only where a test has failed.
        print(*((entry.at, entry.kind, entry.data) for entry in made.entries() if "job" in entry.data), sep="\n")
        print(made.log("controller").read_text()[-4000:])
    finally:
        made.close()


def running(fabric: Fabric) -> set[str]:
    return {node["instance"] for node in fabric.status()["nodes"] if node["phase"] == "running"}


@pytest.mark.parametrize(
    ("job", "asked"),
    [
        ("needs-a-gpu", {"entrypoint_num_gpus": 1}),
        ("names-the-site", {"entrypoint_num_gpus": 1, "entrypoint_label_selector": {"fabric/site": "sky"}}),
    ],
)
def test_a_driver_runs_on_a_rented_machine_and_its_log_comes_home(
    fabric: Fabric, job: str, asked: dict[str, Any]
) -> None:
    script = fabric.directory / "train.py"
    script.write_text(DRIVER)
    fabric.submit(f"python {script}", submission_id=job, **asked)
    wait_until(lambda: fabric.over(job), 60, "its end")

    record = fabric.jobs()[job]
    assert (record.phase, len(record.attempts)) == (JobPhase.SUCCEEDED, 1), record.message
    ran_on = [entry.data for entry in fabric.entries() if entry.kind == Event.JOB_RAN_ON and entry.data["job"] == job]
    (rented,) = {entry["instance"] for entry in ran_on if entry["site"] == "sky"}
    printed = fabric.kept_log(job)
    assert f"the driver is on {rented}\nits work is on " in printed
    assert fabric.as_user("GET", f"/api/jobs/{job}/logs").json()["logs"] == printed
