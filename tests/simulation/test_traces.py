"""Months of a real cluster's jobs through the queue: every job runs, no node is overcommitted, promises are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from fabric.model.jobs import JobPhase
from tests.simulation.traces import nodes_for, read, replay, traces

SMALLEST = traces()[:2]


@pytest.fixture(params=[0, 1], ids=["smallest", "next"])
def trace(request: pytest.FixtureRequest) -> Path:
    if len(SMALLEST) <= request.param:
        pytest.skip("no traces at ../shared/traces (FABRIC_SHARED names another folder)")
    return SMALLEST[request.param]


def test_every_job_of_a_real_trace_runs_and_no_head_starts_later_than_it_was_promised(trace: Path) -> None:
    jobs = read(trace, most=400)
    done = replay(jobs, nodes_for(jobs, load=0.9))
    assert {record.phase for record in done.world.queue.jobs.values()} == {JobPhase.SUCCEEDED}
    assert done.promised, "the trace never made anybody wait"
    late = {job: done.world.started[job] - at for job, at in done.promised.items()}
    assert max(late.values()) <= 1.0


def test_several_teams_share_a_real_trace_and_all_of_it_runs(trace: Path) -> None:
    jobs = read(trace, most=200)
    done = replay(jobs, nodes_for(jobs, load=1.2), teams=3)
    assert {record.phase for record in done.world.queue.jobs.values()} == {JobPhase.SUCCEEDED}
