"""The controller's parts, one by one: the book, home nodes, the loop, the provider that Ray sees, its configuration."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from autoscaler.core.configured import HomeNode
from autoscaler.ray.config import AutoscalerTerms, FabricConfigReader
from autoscaler.ray.provider import FabricProvider, FleetNode, LaunchFailure, Listing
from autoscaler.shell.book import Book, Refusals
from autoscaler.shell.home import STARTING_S, HomeWatch
from autoscaler.shell.loop import Loop
from autoscaler.shell.serve import Page, Server
from fabric.journal.base import Draft
from fabric.journal.sqlite import SqliteJournal
from fabric.model.decisions import Decision, QueueDepth
from fabric.model.events import Event
from fabric.model.nodes import NodeType
from fabric.model.resources import Resources
from fabric.telemetry.emit import Metrics
from fabric.telemetry.names import LAST_TICK, TICKS
from fabric.telemetry.tell import tell


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def journal(tmp_path: Path, clock: Clock) -> Iterator[SqliteJournal]:
    made = SqliteJournal(tmp_path / "journal.db", "test", clock)
    yield made
    made.close()


def intend(token: str, offer: str = "sky.g1/a/spot") -> Draft:
    return Draft(Event.LAUNCH_INTENDED, {"token": token, "site": "sky", "node_type": "sky.g1", "offer": offer})


def refuse(token: str, error: str, offer: str = "sky.g1/a/spot") -> Draft:
    return Draft(Event.LAUNCH_REFUSED, {"token": token, "offer": offer, "error": error, "message": "no"})


def test_refusals_double_the_pause_until_a_machine_is_given(journal: SqliteJournal, clock: Clock) -> None:
    book = Book(journal)
    for number in range(3):
        clock.now += 100
        book.append(intend(f"t{number}"), refuse(f"t{number}", "capacity"))
    refusal = book.refusals()["sky.g1/a/spot"]
    assert refusal.count == 3
    assert refusal.until(60, 1800) == clock.now + 240
    assert refusal.until(60, 100) == clock.now + 100
    book.append(intend("t9"), Draft(Event.LAUNCH_ACCEPTED, {"token": "t9", "instance": "i"}))
    assert not book.refusals()


def test_machines_refused_together_are_one_refusal(journal: SqliteJournal) -> None:
    book = Book(journal)
    for number in range(8):
        book.append(intend(f"t{number}"), refuse(f"t{number}", "quota"))
    assert book.refusals()["sky.g1/a/spot"].count == 1


def test_a_pause_never_overflows() -> None:
    assert Refusals(10_000, 0.0).until(60, 1800) == 1800


@pytest.mark.parametrize(("error", "stopped"), [("credentials", "sky"), ("bad_request", "sky.g1")])
def test_what_a_person_must_see_stops_its_site_or_type_until_the_configuration_changes(
    journal: SqliteJournal, error: str, stopped: str
) -> None:
    book = Book(journal)
    book.append(intend("t"), refuse("t", error))
    assert set(book.stops()) == {stopped}
    assert not book.refusals()
    book.append(Draft(Event.CONFIG_LOADED, {"digest": "d"}))
    assert not book.stops()


def test_a_second_book_on_the_same_journal_knows_the_same(journal: SqliteJournal) -> None:
    first, second = Book(journal), Book(journal)
    first.append(intend("t"))
    assert second.refresh()
    assert not second.refresh()
    assert dict(second.live("sky")) == dict(first.live())
    assert second.live("elsewhere") == {}


def test_a_once_key_that_is_taken_appends_nothing(journal: SqliteJournal) -> None:
    book = Book(journal)
    ended = Draft(Event.INSTANCE_ENDED, {"token": "t", "instance": "i"}, once="ended:i")
    assert book.append(ended)
    assert not book.append(ended)


def test_own_machines_are_no_launches(journal: SqliteJournal) -> None:
    book = Book(journal)
    book.append(intend("onprem/home/a"))
    assert not book.live()


HOME = HomeNode("onprem/home/a", "home", "home.box", "a", local=True)


def told(journal: SqliteJournal) -> list[str]:
    return [entry.kind for entry in journal.read()]


def test_a_home_node_is_waited_for_then_seen_then_dead_then_back(journal: SqliteJournal, clock: Clock) -> None:
    watch = HomeWatch(lambda: [HOME], Book(journal), clock)
    watch.observe(set(), set())
    assert watch.views()[0].starting
    watch.observe({HOME.node_id}, set())
    assert watch.views()[0].alive
    watch.observe(set(), {HOME.node_id})
    assert not watch.views()[0].alive
    assert not watch.views()[0].starting, "a dead node is not a node on its way"
    watch.observe({HOME.node_id}, set())
    assert told(journal) == [Event.ONPREM_NODE_SEEN, Event.ONPREM_NODE_DEAD, Event.ONPREM_NODE_SEEN]


def test_a_home_node_that_never_comes_is_dead_after_a_while_and_said_once(journal: SqliteJournal, clock: Clock) -> None:
    watch = HomeWatch(lambda: [HOME], Book(journal), clock)
    watch.observe(set(), set())
    for _ in range(3):
        clock.now += STARTING_S
        watch.observe(set(), set())
    assert not watch.views()[0].starting
    assert told(journal) == [Event.ONPREM_NODE_DEAD]
    read = Book(journal)
    read.refresh()
    again = HomeWatch(lambda: [HOME], read, clock)
    again.observe(set(), {HOME.node_id})
    assert told(journal) == [Event.ONPREM_NODE_DEAD], "a restart says nothing that is known"


def test_a_tick_that_raises_is_counted_and_the_next_one_comes(clock: Clock) -> None:
    metrics, ticks = Metrics(), 0

    def tick() -> None:
        nonlocal ticks
        ticks += 1
        if ticks < 3:
            loop.wake()
            raise RuntimeError("this tick is bad")
        loop.stop()

    loop = Loop(tick, clock, metrics)
    thread = threading.Thread(target=loop.run)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert ticks == 3
    assert loop.beat.last_tick == clock.now
    assert loop.beat.failures == 0
    assert not loop.beat.error
    exposition = metrics.exposition().decode()
    assert f'{TICKS.name}{{result="failed"}} 2.0' in exposition
    assert f"{LAST_TICK.name} 1000.0" in exposition


class RecordingFleet:
    def __init__(self) -> None:
        self.ended: list[str] = []
        self.failures = [LaunchFailure("r", "sky.g1", 2, "refused")]

    def listing(self) -> Listing:
        failures, self.failures = self.failures, []
        return Listing([FleetNode("head", "head", True), FleetNode("fab-1", "sky.g1", False)], failures)

    def launch(self, node_type: str, count: int, request_id: str) -> None:
        raise AssertionError(f"nobody asked for {count} {node_type} ({request_id})")

    def end(self, token: str) -> None:
        self.ended.append(token)


def test_the_head_and_own_machines_are_never_ended_whoever_asks() -> None:
    fleet, refused = RecordingFleet(), list[str]()
    provider = FabricProvider(fleet, refused.append)
    provider.terminate(["head", "onprem/home/a", "fab-1"], "request")
    assert fleet.ended == ["fab-1"]
    assert refused == ["head", "onprem/home/a"]


def test_failures_belong_to_the_listing_they_came_with() -> None:
    fleet = RecordingFleet()
    provider = FabricProvider(fleet)
    assert provider.poll_errors() == [], "no listing yet"
    assert set(provider.get_non_terminated()) == {"head", "fab-1"}
    fleet.failures = [LaunchFailure("later", "sky.g1", 1, "refused")]
    assert [error.request_id for error in provider.poll_errors()] == ["r"]
    assert provider.poll_errors() == []


def kind(name: str, maximum: int = 1) -> NodeType:
    return NodeType(name, name.partition(".")[0], Resources.of({"CPU": 2, "GPU": 1}), maximum=maximum)


def test_ray_gets_our_limits_and_never_loses_a_node_type() -> None:
    terms = [AutoscalerTerms({"head": kind("head"), "sky.g1": kind("sky.g1", 4)}, 9, 30.0, 5.0, 60.0)]
    reader = FabricConfigReader(lambda: terms[0], lambda: frozenset({"sky.older"}))
    config = reader.get_cached_autoscaling_config()
    assert config.get_node_type_configs()["sky.g1"].max_worker_nodes == 4
    assert config.get_node_type_configs()["sky.older"].max_worker_nodes == 0
    assert config.get_max_num_nodes() == 9
    assert config.get_idle_timeout_s() == 30.0
    assert config.get_pending_idle_timeout_s() == 5.0
    assert config.get_instance_reconcile_config().allocate_status_timeout_s == 90
    terms[0] = AutoscalerTerms({"head": kind("head")})
    reader.refresh_cached_autoscaling_config()
    dropped = reader.get_cached_autoscaling_config().get_node_type_configs()["sky.g1"]
    assert dropped.max_worker_nodes == 0
    assert dropped.resources == {"CPU": 2, "GPU": 1}


def test_an_unchanged_configuration_is_not_built_again() -> None:
    terms = AutoscalerTerms({"head": kind("head")})
    reader = FabricConfigReader(lambda: terms)
    before = reader.get_cached_autoscaling_config()
    reader.refresh_cached_autoscaling_config()
    assert reader.get_cached_autoscaling_config() is before


def fetch(url: str, method: str = "GET") -> tuple[int, dict[str, object]]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_pages_answer_and_a_page_that_fails_does_not_end_the_server(free_port: Callable[[], int]) -> None:
    def broken() -> Page:
        raise RuntimeError("no")

    address = f"127.0.0.1:{free_port()}"
    server = Server(address, {"/good": lambda: Page.of_json({"a": 1}), "/bad": broken})
    try:
        assert fetch(f"http://{address}/bad")[0] == 500
        assert fetch(f"http://{address}/none")[0] == 404
        assert fetch(f"http://{address}/good", "POST")[0] == 404
        assert fetch(f"http://{address}/good?x=1") == (200, {"a": 1})
    finally:
        server.close()


def test_a_decision_always_says_something() -> None:
    assert tell(Decision(0.0)) == [
        "Nothing is bought or given back: nothing waits that nodes here or coming cannot hold."
    ]
    assert "go on waiting" in tell(Decision(0.0, depth=QueueDepth(gpus=1, requests=1)))[0]


def test_a_metric_that_is_not_in_the_table_is_refused() -> None:
    metrics = Metrics()
    with pytest.raises(ValueError, match="not a gauge of the table"):
        metrics.set(TICKS, 1.0)
