"""When the burst opens and when it closes."""

from __future__ import annotations

from dataclasses import dataclass, field

from autoscaler.core.baseline import advance, exceeds
from autoscaler.core.snapshot import Threshold
from fabric.model.decisions import BaselineState, QueueDepth

LADDER = (Threshold(300, gpus=4), Threshold(60, gpus=16), Threshold(0, gpus=64))


@dataclass
class Queue:
    """A baseline that watches a queue tick by tick."""

    close_for_s: float = 0.0
    thresholds: tuple[Threshold, ...] = LADDER
    state: BaselineState = field(default_factory=BaselineState)

    def at(self, now: float, gpus: float, cpus: float = 0.0) -> bool:
        """Whether the burst is open once the queue had this depth at ``now``."""
        depth = QueueDepth(gpus=gpus, cpus=cpus, requests=int(gpus + cpus > 0))
        self.state = advance(self.state, self.thresholds, self.close_for_s, depth, now)
        return self.state.open_since is not None


def test_a_shallow_queue_opens_after_its_time_and_not_before() -> None:
    queue = Queue()
    assert [queue.at(now, 4) for now in (0, 100, 299.9, 300)] == [False, False, False, True]
    assert queue.state.open_threshold == 0


def test_a_deeper_queue_opens_sooner_and_the_deepest_at_once() -> None:
    queue = Queue()
    assert [queue.at(now, 20) for now in (0, 59, 60)] == [False, False, True]
    assert queue.state.open_threshold == 1
    assert Queue().at(0, 64)


def test_a_queue_that_dips_starts_its_time_anew() -> None:
    queue = Queue()
    queue.at(0, 4)
    queue.at(200, 3)
    assert [queue.at(now, 4) for now in (250, 500, 550)] == [False, False, True]


def test_an_open_burst_closes_after_its_time_below_every_threshold() -> None:
    queue = Queue(close_for_s=60)
    assert queue.at(0, 64)
    assert [queue.at(now, 0) for now in (10, 69)] == [True, True]
    assert queue.at(70, 0) is False


def test_a_burst_that_is_needed_again_in_time_stays_open() -> None:
    queue = Queue(close_for_s=60)
    queue.at(0, 64)
    queue.at(10, 0)
    queue.at(50, 4)
    assert [queue.at(now, 0) for now in (60, 119)] == [True, True]
    assert queue.at(120, 0) is False


def test_without_thresholds_the_burst_is_always_open() -> None:
    assert Queue(thresholds=()).at(0, 0)


def test_every_unit_that_a_threshold_names_must_be_reached() -> None:
    both = Threshold(0, gpus=1, cpus=8)
    assert not exceeds(both, QueueDepth(gpus=1, cpus=7, requests=1))
    assert exceeds(both, QueueDepth(gpus=1, cpus=8, requests=1))
    assert exceeds(Threshold(0), QueueDepth(requests=1))
    assert not exceeds(Threshold(0), QueueDepth())


def test_an_edited_baseline_starts_its_times_anew_and_keeps_an_open_burst() -> None:
    queue = Queue()
    queue.at(0, 4)
    queue.thresholds = LADDER[:2]
    assert [queue.at(now, 4) for now in (300, 599)] == [False, False]
    queue.at(600, 4)
    queue.thresholds = LADDER
    assert queue.at(601, 4)


def test_a_clock_that_goes_back_closes_nothing_and_does_not_wait_longer_than_the_time() -> None:
    queue = Queue()
    queue.at(1000, 4)
    assert queue.at(900, 4) is False
    assert queue.at(1200, 4) is True
