"""The controller is killed between every two statements in turn: nothing is orphaned, nothing is bought twice."""

from __future__ import annotations

import pytest

from autoscaler.shell.crashpoints import POINTS
from fabric.model.events import Event
from tests.chaos.bench import Bench

WANTED = 3
TIMEOUT_S = 90

# Points that one thread passes share a run, which then crashes at each of them once. Across threads that would not
# do: one may die right after it has done what another point comes after, and that point is then never reached.
GROUPS = (
    ("decision.before_entry", "launch.before_intent", "end.before_intent"),
    ("decision.after_entry", "launch.after_intent", "end.after_intent"),
    ("adopt.before_entry", "orphan.before_entry", "end.before_call", "ended.before_entry"),
    ("adopt.after_entry", "orphan.after_entry", "end.after_call", "ended.after_entry"),
    ("cancel.before_entry", "cancel.after_entry"),
    ("launch.after_call",),
    ("launch.after_accepted",),
)


def test_every_point_is_crashed_at() -> None:
    assert sorted(point for points in GROUPS for point in points) == sorted(POINTS)


@pytest.mark.parametrize("points", GROUPS, ids=lambda points: ", ".join(points))
def test_a_crash_at_any_point_loses_nothing(points: tuple[str, ...], bench: Bench) -> None:
    made_and_unheard, stranger = f"{bench.owner}-unheard", f"{bench.owner}-stranger"
    bench.intend(f"{bench.owner}-never-asked")
    bench.intend(made_and_unheard)
    bench.launch_behind_our_back(made_and_unheard)
    bench.launch_behind_our_back(stranger)
    bench.crash_at(points)
    bench.want(WANTED)
    bench.start()
    bench.supervised(lambda: len(bench.known()) == WANTED, TIMEOUT_S, f"{WANTED} machines")
    bench.want(0)
    bench.supervised(bench.over, TIMEOUT_S, "the end of every machine and every launch")
    assert bench.crashed_at() == set(points), "the controller never got to some of them"
    assert bench.starts == 1 + len(points)
    bench.check()
    made = {instance["token"] for instance in bench.instances()}
    assert len(made - {stranger}) == WANTED, "as many machines as were needed, the adopted one among them"
    kinds = {entry.kind for entry in bench.entries()}
    assert {Event.INSTANCE_ADOPTED, Event.LAUNCH_CANCELLED, Event.ORPHAN_FOUND} <= kinds
