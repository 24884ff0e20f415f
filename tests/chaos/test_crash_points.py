"""The controller is killed between every two statements in turn: nothing is orphaned, nothing is bought twice."""

from __future__ import annotations

import pytest

from autoscaler.shell.crashpoints import POINTS
from fabric.model.events import Event
from tests.chaos.bench import Bench

WANTED = 3
TIMEOUT_S = 90


@pytest.mark.parametrize("point", POINTS)
def test_a_crash_at_any_point_loses_nothing(point: str, bench: Bench) -> None:
    made_and_unheard, stranger = f"{bench.owner}-unheard", f"{bench.owner}-stranger"
    bench.intend(f"{bench.owner}-never-asked")
    bench.intend(made_and_unheard)
    bench.launch_behind_our_back(made_and_unheard)
    bench.launch_behind_our_back(stranger)
    mark = bench.crash_at(point)
    bench.want(WANTED)
    bench.start()
    bench.supervised(lambda: len(bench.known()) == WANTED, TIMEOUT_S, f"{WANTED} machines")
    bench.want(0)
    bench.supervised(bench.over, TIMEOUT_S, "the end of every machine and every launch")
    assert mark.read_text() == point, "the controller never got there"
    assert bench.starts == 2
    bench.check()
    made = {instance["token"] for instance in bench.instances()}
    assert len(made - {stranger}) == WANTED, "as many machines as were needed, the adopted one among them"
    kinds = {entry.kind for entry in bench.entries()}
    assert {Event.INSTANCE_ADOPTED, Event.LAUNCH_CANCELLED, Event.ORPHAN_FOUND} <= kinds
