"""A machine that its cloud no longer knows is written off at our time; the cloud's own word still replaces that."""

from __future__ import annotations

import pytest

from autoscaler.core.custody import Machine, Patience, Ruling, judge
from autoscaler.core.lifecycle import InstanceRecord, Phase, fold_instances
from fabric.journal.base import GENESIS, Entry
from fabric.model.events import Event
from fabric.model.money import Tariff, usd
from fabric.money.ledger import fold

HOURLY = usd("3.61")
PATIENCE = Patience(stranger_s=10, settle_s=10, missing_s=10, deadline_s=10, ending_s=10)
INTENDED = {"token": "t", "site": "sky", "offer": "sky.g/a/spot", "market": "spot", "per_hour": HOURLY}
ACCEPTED = {"token": "t", "instance": "i", "site": "sky", "launched_at_ms": 10_000}
GUESS = {"token": "t", "instance": "i", "site": "sky", "launched_at_ms": 10_000, "ended_at_ms": 99_000}
EXACT = {"token": "t", "instance": "i", "site": "sky", "launched_at_ms": 10_500, "ended_at_ms": 70_500}


def entries(*ends: dict[str, object]) -> list[Entry]:
    told = [(Event.LAUNCH_INTENDED, INTENDED), (Event.LAUNCH_ACCEPTED, ACCEPTED)]
    told += [(Event.INSTANCE_ENDED, end) for end in ends]
    return [
        Entry(seq=seq, at=10.0 * seq, actor="controller", kind=kind, data=data, previous=GENESIS, hash="", once=None)
        for seq, (kind, data) in enumerate(told, start=1)
    ]


def record(*ends: dict[str, object]) -> InstanceRecord:
    return fold_instances(entries(*ends))["t"]


def test_an_estimated_end_is_an_end() -> None:
    ended = record({**GUESS, "estimated": True})
    assert (ended.phase, ended.ended_at_ms, ended.estimated) == (Phase.ENDED, 99_000, True)


@pytest.mark.parametrize("ends", [[{**GUESS, "estimated": True}, EXACT], [EXACT, {**GUESS, "estimated": True}]])
def test_the_clouds_own_times_win_whichever_came_first(ends: list[dict[str, object]]) -> None:
    ended = record(*ends)
    assert (ended.launched_at_ms, ended.ended_at_ms, ended.estimated) == (10_500, 70_500, False)
    assert ended.cost(0) == fold(entries(*ends)).statement(200_000).total == Tariff(HOURLY).cost(60_000)


def test_a_machine_that_is_listed_again_after_an_estimate_has_its_end_written_anew() -> None:
    machine = Machine(launched_at_ms=10_500, ended_at_ms=70_500, first_seen_at=10.0)
    assert judge(record({**GUESS, "estimated": True}), machine, 200.0, PATIENCE).ruling is Ruling.ENDED
    assert judge(record(EXACT), machine, 200.0, PATIENCE).ruling is Ruling.NOTHING
