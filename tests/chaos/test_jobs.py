"""Jobs under faults, on a real Ray head: whatever dies or goes unheard, every attempt runs once and no job is lost."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator

import pytest

from autoscaler.shell.crashpoints import JOB_POINTS
from fabric.admission.records import JobRecord
from fabric.model.jobs import AttemptEnd, JobPhase
from tests.chaos.lossy import LossyLine
from tests.conftest import wait_until
from tests.fabrics import Fabric
from tests.sandboxes import unused_port

pytestmark = pytest.mark.cluster


class Line:
    """A fabric with a head and no other node, reached over a line that can lose replies."""

    def __init__(self) -> None:
        self.fabric = Fabric()
        port = unused_port()
        self.line = LossyLine(port, self.fabric.ports["dashboard"])
        text = self.fabric.path.read_text()
        self.fabric.path.write_text(
            text.replace(f'"127.0.0.1:{self.fabric.ports["dashboard"]}"', f'"127.0.0.1:{port}"')
        )

    def run_controller(self, *crash_at: str) -> None:
        """Start the controller anew; it is to die once at each of these points."""
        if "controller" in self.fabric.processes:
            self.fabric.kill("controller")
        self._environment = (
            {"FABRIC_CRASH_AT": ",".join(crash_at), "FABRIC_CRASH_MARK": str(self.fabric.directory / "crashed")}
            if crash_at
            else {}
        )
        self.fabric.start("controller", **self._environment)

    def revive(self) -> None:
        """What a supervisor does."""
        if not self.fabric.alive("controller"):
            self.fabric.launch("controller", **self._environment)

    def submit(self, name: str, more: str = "true") -> None:
        """A job that writes a line each time it is run."""
        self.fabric.submit(f"echo $FABRIC_ATTEMPT >> {self.fabric.directory}/{name}.ran; {more}", submission_id=name)

    def ran(self, name: str) -> list[str]:
        """The attempt, for each time the job was run."""
        path = self.fabric.directory / f"{name}.ran"
        return path.read_text().split() if path.exists() else []

    def await_end(self, *names: str, timeout: float = 60) -> list[JobRecord]:
        """Wait until the jobs are over, reviving the controller."""

        def over() -> bool:
            self.revive()
            return self.fabric.over(*names)

        wait_until(over, timeout, f"the end of {names} ({self.fabric.log('controller')})")
        jobs = self.fabric.jobs()
        return [jobs[name] for name in names]


@pytest.fixture(scope="module")
def bench() -> Iterator[Line]:
    made = Line()
    try:
        made.fabric.start_head()
        made.fabric.start("gateway")
        made.run_controller()
        wait_until(lambda: not made.fabric.status()["tick_error"], 60, "the head to answer")
        yield made
    finally:
        made.line.close()
        made.fabric.close()


def test_a_kill_at_any_point_runs_every_attempt_once(bench: Line) -> None:
    names = [f"killed-{number}" for number in range(3)]
    bench.run_controller(*JOB_POINTS)
    for name in names:
        bench.submit(name, "sleep 1")
    records = bench.await_end(*names, timeout=120)
    crashed = {path.name.removeprefix("crashed.") for path in bench.fabric.directory.glob("crashed.*")}
    assert crashed == set(JOB_POINTS), "the controller never got to some of them"
    assert [bench.ran(name) for name in names] == [["1"]] * 3
    assert all((record.phase, len(record.attempts)) == (JobPhase.SUCCEEDED, 1) for record in records)


def test_a_submission_whose_reply_is_lost_again_and_again_runs_once(bench: Line) -> None:
    bench.run_controller()
    lost = bench.line.lost
    bench.line.lose_replies_to(b"POST /api/jobs/ ")
    try:
        bench.submit("unheard")
        (record,) = bench.await_end("unheard")
    finally:
        bench.line.lose_replies_to(b"")
    assert bench.line.lost > lost
    assert bench.ran("unheard") == ["1"]
    assert (record.phase, len(record.attempts)) == (JobPhase.SUCCEEDED, 1)


def test_an_id_that_somebody_else_took_at_rays_own_port_is_passed_over(bench: Line) -> None:
    fabric = bench.fabric
    fabric.at_ray("POST", "/api/jobs/", json={"entrypoint": "sleep 1", "submission_id": "taken"})
    bench.submit("taken")
    (record,) = bench.await_end("taken")
    assert [attempt.end for attempt in record.attempts] == [AttemptEnd.LOST, AttemptEnd.SUCCEEDED]
    assert bench.ran("taken") == ["2"], "under an id that is its own"


def test_a_journal_that_another_process_has_locked_starts_nothing_and_loses_nothing(bench: Line) -> None:
    bench.submit("patient")
    (first,) = bench.await_end("patient")
    path = bench.fabric.config.fabric.journal.removeprefix("sqlite:")
    bench.submit("locked-out", "sleep 3")
    wait_until(lambda: bench.ran("locked-out"), 20, "the job to run")
    other = sqlite3.connect(path, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        time.sleep(8)
    finally:
        other.execute("ROLLBACK")
        other.close()
    (record,) = bench.await_end("locked-out")
    assert first.phase is record.phase is JobPhase.SUCCEEDED
    assert bench.ran("locked-out") == ["1"]


def test_a_head_that_comes_back_empty_costs_what_ran_an_attempt_and_what_waits_nothing(bench: Line) -> None:
    fabric = bench.fabric
    bench.submit("cut-off", "sleep 600")
    wait_until(lambda: bench.ran("cut-off") and fabric.jobs()["cut-off"].phase is JobPhase.RUNNING, 30, "it to run")
    fabric.kill_tree("head")
    bench.submit("meanwhile")
    wait_until(lambda: fabric.get("controller", "/queue")["trouble"], 20, "the head's death to be noticed")
    assert fabric.as_user("GET", "/api/jobs/meanwhile").json()["status"] == "PENDING"
    fabric.start_head()
    wait_until(lambda: fabric.jobs()["cut-off"].attempts[0].end is AttemptEnd.LOST, 60, "the attempt to be lost")
    (ended,) = [entry for entry in fabric.entries() if entry.data.get("job") == "cut-off" and "retry_at" in entry.data]
    assert ended.data["cause"] == "head_replaced"
    assert ended.data["retry_at"] - ended.at > 60, "processes of it may live for that long"
    (waited,) = bench.await_end("meanwhile")
    assert (waited.phase, bench.ran("meanwhile")) == (JobPhase.SUCCEEDED, ["1"])
    fabric.stop("cut-off")
    (stopped,) = bench.await_end("cut-off")
    assert (stopped.phase, bench.ran("cut-off")) == (JobPhase.STOPPED, ["1"])
