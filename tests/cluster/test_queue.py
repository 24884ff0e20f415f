"""Jobs through the queue on a real Ray cluster: submitted to the gateway, started once, moved, tried again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from fabric.model.events import Event
from fabric.model.jobs import AttemptEnd, JobPhase
from tests.conftest import wait_until
from tests.fabrics import Fabric

pytestmark = pytest.mark.cluster

GPU_TASK = """
import os, ray, sys, time
ray.init(log_to_driver=False)

@ray.remote(num_gpus=1, num_cpus=0, max_retries=0)
def work(ran, go):
    with open(ran, "a") as file:
        file.write(os.environ["FABRIC_ATTEMPT"] + " " + os.environ["RAY_CLOUD_INSTANCE_ID"] + "\\n")
    while not os.path.exists(go):
        time.sleep(0.1)
    return os.environ["RAY_CLOUD_INSTANCE_ID"]

print("ran on", ray.get(work.remote(*sys.argv[1:])))
"""


@pytest.fixture(scope="module")
def fabric() -> Iterator[Fabric]:
    made = Fabric(maximum=1)
    try:
        made.start_head()
        made.start("sandbox", "gateway", "controller")
        made.start_home()
        wait_until(lambda: node(made, "onprem/home/a").get("phase") == "running", 150, "the on-prem node to join")
        yield made
        # Shown only where a test has failed.
        print(*((entry.at, entry.kind, entry.data) for entry in made.entries() if "job" in entry.data), sep="\n")
        print(*(path.read_text()[-2000:] for path in (made.directory / "state" / "jobs").glob("*/*.log")))
        print(made.log("controller").read_text()[-4000:])
    finally:
        made.close()


def node(fabric: Fabric, instance: str) -> dict[str, Any]:
    return next((node for node in fabric.status()["nodes"] if node["instance"] == instance), {})


class GpuJob:
    """A job of one GPU that notes where each attempt runs, and goes on until it is let go."""

    def __init__(self, fabric: Fabric, name: str) -> None:
        self.name = name
        self._fabric = fabric
        self._ran, self._go = fabric.directory / f"{name}.ran", fabric.directory / f"{name}.go"
        script = fabric.directory / "work.py"
        script.write_text(GPU_TASK)
        fabric.submit(f"python {script} {self._ran} {self._go}", submission_id=name, metadata={"fabric.gpus": "1"})

    def ran(self) -> list[str]:
        """Attempt and machine of each time its work began."""
        return self._ran.read_text().splitlines() if self._ran.exists() else []

    def let_go(self) -> None:
        """Let its work end."""
        self._go.touch()


def where(fabric: Fabric, job: str) -> set[tuple[int, str]]:
    """Attempt and machine, as read back from Ray."""
    return {
        (entry.data["attempt"], entry.data["instance"])
        for entry in fabric.entries()
        if entry.kind == Event.JOB_RAN_ON and entry.data["job"] == job
    }


def shown(fabric: Fabric, job: str) -> tuple[str, str]:
    """Id and status as the gateway tells them."""
    told = fabric.as_user("GET", f"/api/jobs/{job}").json()
    return told["submission_id"], told["status"]


def test_a_job_of_rays_own_command_line_runs_once_and_its_log_and_places_are_kept(fabric: Fabric) -> None:
    done = fabric.ray_job("submit", "--submission-id", "plain", "--", "echo", "hello", "from", "the", "job")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "hello from the job" in done.stdout
    record = fabric.jobs()["plain"]
    assert (record.phase, len(record.attempts)) == (JobPhase.SUCCEEDED, 1)
    assert "hello from the job" in fabric.kept_log("plain")
    assert where(fabric, "plain") == {(1, "head")}, "it had a driver only"


def test_a_failing_job_fails_as_it_does_at_ray_and_is_not_tried_again(fabric: Fabric) -> None:
    fabric.submit("echo to no avail; exit 3", submission_id="failing")
    wait_until(lambda: fabric.over("failing"), 30, "its end")
    record = fabric.jobs()["failing"]
    assert (record.phase, [attempt.end for attempt in record.attempts]) == (JobPhase.FAILED, [AttemptEnd.FAILED])
    assert "failed with exit code 3" in record.message
    assert "to no avail" in record.message


def test_a_queue_that_home_cannot_hold_buys_and_a_lost_machine_is_made_good_under_the_same_id(fabric: Fabric) -> None:
    at_home = GpuJob(fabric, "at-home")
    wait_until(at_home.ran, 40, "the first job to run")
    away = GpuJob(fabric, "away")
    waits = wait_until(lambda: waiting(fabric, "away"), 10, "the second to wait")
    assert waits["position"] == 1
    assert waits["sentence"]
    wait_until(away.ran, 60, "a machine to be bought for the waiting job, and the job to run there")
    assert at_home.ran() == ["1 onprem/home/a"]
    (token,) = fabric.records()
    assert away.ran() == [f"1 {token}"]
    wait_until(lambda: (1, token) in where(fabric, "away"), 15, "Ray to tell where it runs")

    assert fabric.kill_a_burst_raylet()
    wait_until(lambda: len(fabric.jobs()["away"].attempts) == 2, 60, "the job to be tried again")
    first = fabric.jobs()["away"].attempts[0]
    assert first.end in (AttemptEnd.LOST, AttemptEnd.RECLAIMED), first
    at_home.let_go()
    away.let_go()
    wait_until(lambda: fabric.over("at-home", "away"), 60, "both to end")
    jobs = fabric.jobs()
    assert jobs["away"].phase is JobPhase.SUCCEEDED
    assert [line.split()[0] for line in away.ran()] == ["1", "2"], "each attempt began its work once"
    assert "ran on" in fabric.kept_log("away", 2)
    assert (2, away.ran()[1].split()[1]) in where(fabric, "away")
    wait_until(lambda: shown(fabric, "away") == ("away", "SUCCEEDED"), 10, "the user to be told, under the same id")


def test_a_waiting_job_is_stopped_without_ray_hearing_of_it_and_a_running_one_by_ray(fabric: Fabric) -> None:
    first = GpuJob(fabric, "runs")
    wait_until(first.ran, 60, "the first job to run")
    fabric.submit("echo never", submission_id="waits", metadata={"fabric.gpus": "1", "fabric.data_class": "home-only"})
    wait_until(lambda: waiting(fabric, "waits"), 10, "the second to wait")
    fabric.stop("waits")
    fabric.stop("runs")
    wait_until(lambda: fabric.over("waits", "runs"), 30, "both to be over")
    jobs = fabric.jobs()
    assert jobs["waits"].phase is jobs["runs"].phase is JobPhase.STOPPED
    assert not jobs["waits"].attempts
    assert [attempt.end for attempt in jobs["runs"].attempts] == [AttemptEnd.STOPPED]


def test_the_controller_counts_what_the_queue_did(fabric: Fabric) -> None:
    page = fabric.metrics("controller")
    assert 'fabric_attempts_ended_total{end="succeeded"}' in page
    assert 'fabric_jobs{phase="waiting"} 0.0' in page
    with fabric.journal() as journal:
        assert journal.verify() is None
    assert json.loads(json.dumps(fabric.get("controller", "/queue")))["counts"] == {"waiting": 0, "running": 0}


def waiting(fabric: Fabric, job: str) -> dict[str, Any]:
    return next((one for one in fabric.get("controller", "/queue")["waiting"] if one["job"] == job), {})
