"""The queue's turn in a tick: what is admitted is written once, whoever else decides; who is stopped is over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from autoscaler.core.snapshot import Snapshot
from autoscaler.shell.book import Book
from autoscaler.shell.dispatch import Dispatch
from autoscaler.shell.job_book import JobBook
from autoscaler.shell.queue_page import queue_page
from autoscaler.shell.rooms import capacity, with_queue
from fabric.admission.outcome import BurstDemand, burst_demand
from fabric.admission.wire import needs_data
from fabric.config.load import load
from fabric.config.resolve import node_types
from fabric.config.schema import Config
from fabric.journal.base import Draft
from fabric.journal.sqlite import SqliteJournal
from fabric.model.events import Event
from fabric.model.jobs import JobPhase, Needs
from fabric.model.money import Tariff
from fabric.model.nodes import Market, Node, NodePhase, Offer
from fabric.model.resources import Resources
from fabric.telemetry.emit import Metrics

CONFIG = """
data_classes: {open: {sites: any}}
defaults: {data_class: open}
sites:
  home: {kind: onprem, node_types: {box: {nodes: [a], gpus: 1, cpus: 4}}}
  sky:
    kind: sandbox
    node_types: {g: {gpus: 1, cpus: 4, max: 4, price: {on-demand: 3 USD/h}}}
burst: {baseline: [{gpus: 1, for: 0s}]}
"""
NOW = 2_000_000_000.0
ONE_GPU = Needs(declared=True, bundle=Resources.of({"GPU": 1}), runtime_s=60.0)


def config() -> Config:
    loaded = load(CONFIG, "fabric.yaml")
    assert isinstance(loaded, Config), loaded
    return loaded


class Desk:
    """One controller's queue, on a journal that others may write to as well."""

    def __init__(self, journal: SqliteJournal) -> None:
        self.config, self.jobs, self.told = config(), JobBook(), list[str]()
        self.book = Book(journal, self.jobs.take)
        self.dispatch = Dispatch(
            self.book,
            self.jobs,
            lambda: self.config,
            lambda: "session-1",
            self.told.append,
            lambda: None,
            lambda: NOW,
            Metrics(),
        )
        kinds = node_types(self.config)
        box, sky = kinds["home.box"], kinds["sky.g"]
        home = Node("h", box.name, NodePhase.RUNNING, box.resources, box.resources, box.labels, ray_node_id="ray-h")
        offer = Offer("sky.g/a/on-demand", sky.name, "sky", "a", Market.ON_DEMAND, Tariff(3_000_000, 60))
        self.snapshot = Snapshot(kinds, (home,), offers=(offer,))

    def turn(self) -> Snapshot:
        """One tick's turn."""
        free = {node.node_id: node.free for node in self.snapshot.nodes}
        self.dispatch.look()
        outcome = self.dispatch.take_turn(lambda now: capacity(self.snapshot, free, {}, now))
        return with_queue(self.snapshot, burst_demand(outcome), set())

    def submit(self, *jobs: str, needs: Needs = ONE_GPU) -> None:
        """What the gateway writes."""
        for job in jobs:
            facts = {"job": job, "user": "ada", "team": "", "data_class": "open", "needs": needs_data(needs)}
            self.book.append(Draft(Event.JOB_SUBMITTED, {**facts, "submission": {}, "code": {}}, once=f"job:{job}"))

    def phases(self) -> dict[str, JobPhase]:
        """Where each job stands."""
        self.book.refresh()
        return {record.request.job: record.phase for record in (*self.jobs.waiting(), *self.jobs.open())}


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[SqliteJournal]:
    journal = SqliteJournal(tmp_path / "journal.db", "controller", lambda: NOW)
    yield journal
    journal.close()


def test_a_job_with_room_is_admitted_to_this_cluster_and_told_of_before_it_is_written(journal: SqliteJournal) -> None:
    desk = Desk(journal)
    desk.submit("first", "second")
    desk.turn()
    assert desk.phases() == {"first": JobPhase.ADMITTED, "second": JobPhase.WAITING}
    attempt = desk.jobs.open()[0].attempt
    assert attempt is not None
    assert (attempt.session, attempt.ray_id, dict(attempt.nodes)) == ("session-1", "first", {"ray-h": 1})
    assert desk.told == ["first"]


def test_two_controllers_admit_an_attempt_once(journal: SqliteJournal) -> None:
    one, other = Desk(journal), Desk(journal)
    one.submit("only")
    one.turn()
    other.turn()
    (admitted,) = [entry for entry in journal.read() if entry.kind == Event.JOB_ADMITTED]
    assert admitted.once == "attempt:only:1"
    assert not other.book.append(Draft(Event.JOB_ADMITTED, admitted.data, once=admitted.once))
    assert other.phases() == one.phases() == {"only": JobPhase.ADMITTED}


def test_a_waiting_job_that_somebody_stopped_is_over_without_a_cluster(journal: SqliteJournal) -> None:
    desk = Desk(journal)
    desk.submit("gone")
    desk.book.append(Draft(Event.JOB_STOP_ASKED, {"job": "gone", "by": "ada"}))
    desk.dispatch.look()
    record = desk.jobs.record("gone")
    assert record is not None
    assert (record.phase, record.attempts) == (JobPhase.STOPPED, ())
    assert "by ada before it started" in record.message


def test_a_job_whose_predecessor_is_unknown_is_failed_with_a_sentence(journal: SqliteJournal) -> None:
    desk = Desk(journal)
    desk.submit("orphan", needs=replace(ONE_GPU, after=("nobody",)))
    desk.turn()
    record = desk.jobs.record("orphan")
    assert record is not None
    assert (record.phase, "nobody" in record.message) == (JobPhase.FAILED, True)


def test_a_job_without_room_is_wished_for_in_the_snapshot_and_has_its_place_on_the_page(journal: SqliteJournal) -> None:
    desk = Desk(journal)
    desk.submit("first", "second")
    desk.turn()
    wished = desk.turn()
    assert sum(demand.count for demand in wished.demands) + len(wished.gangs) == 1
    body = queue_page(desk.jobs, desk.dispatch.outcome, "", NOW, None).body.decode()
    alone = queue_page(desk.jobs, desk.dispatch.outcome, "", NOW, "second").body.decode()
    assert '"position": 1' in body
    assert "Position 1 of 1." in alone
    assert queue_page(desk.jobs, desk.dispatch.outcome, "", NOW, "nobody").code == 404


def test_a_node_that_a_job_was_just_admitted_to_is_not_idle() -> None:
    kinds = node_types(config())
    idle = Node("n", "sky.g", NodePhase.RUNNING, Resources(), Resources(), ray_node_id="ray-n", idle_s=60.0)
    snapshot = Snapshot(kinds, (idle, replace(idle, node_id="m", ray_node_id="ray-m")))
    kept, other = with_queue(snapshot, BurstDemand(), {"ray-n"}).nodes
    assert (kept.idle_s, other.idle_s) == (0.0, 60.0)


def test_a_node_that_is_given_back_takes_no_new_job_and_a_coming_one_is_not_there_yet() -> None:
    kinds = node_types(config())
    sky = kinds["sky.g"]
    leaving = Node("l", "sky.g", NodePhase.DRAINING, sky.resources, sky.resources, ray_node_id="ray-l")
    coming = Node("c", "sky.g", NodePhase.BOOTING, sky.resources, sky.resources, launched_at=NOW - 5)
    rooms = capacity(Snapshot(kinds, (leaving, coming)), {}, {}, NOW).rooms
    assert [(room.node, room.closing, room.ready_at is not None) for room in rooms] == [
        ("ray-l", True, False),
        ("c", False, True),
    ]
