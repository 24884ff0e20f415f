"""The controller is killed between every two statements in turn: nothing is orphaned, nothing is bought twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from autoscaler.shell.crashpoints import POINTS
from fabric.model.events import Event
from tests.chaos.bench import Bench
from tests.chaos.cloud import Cloud
from tests.sandboxes import unused_port

WANTED = 3
STRANGER = "of-nobody"
TIMEOUT_S = 90


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    made = Cloud(tmp_path_factory.mktemp("cloud"), unused_port())
    made.start()
    yield made
    made.close()


@pytest.mark.parametrize("point", POINTS)
def test_a_crash_at_any_point_loses_nothing(point: str, cloud: Cloud, tmp_path: Path) -> None:
    bench = Bench(tmp_path, cloud.port, f"at-{point.replace('.', '-').replace('_', '-')}")
    try:
        bench.intend("lost-before-the-call")
        bench.intend("lost-after-the-call")
        bench.launch_behind_our_back("lost-after-the-call")
        bench.launch_behind_our_back(STRANGER)
        mark = bench.crash_at(point)
        bench.want(WANTED)
        bench.start()
        bench.supervised(lambda: len(bench.known()) == WANTED, TIMEOUT_S, f"{WANTED} machines")
        bench.want(0)
        bench.supervised(lambda: not bench.living(), TIMEOUT_S, "the end of every machine")
        bench.supervised(
            lambda: all(record.phase == "ended" for record in bench.records().values()),
            TIMEOUT_S,
            "the end of every launch",
        )
        assert mark.read_text() == point, "the controller never got there"
        assert bench.starts == 2
        bench.check()
        made = {instance["token"] for instance in bench.instances()}
        assert len(made - {STRANGER}) == WANTED, "as many machines as were needed, the adopted one among them"
        kinds = {entry.kind for entry in bench.entries()}
        assert {Event.INSTANCE_ADOPTED, Event.LAUNCH_CANCELLED, Event.ORPHAN_FOUND} <= kinds
    finally:
        bench.close()
