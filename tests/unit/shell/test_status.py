"""What the controller says of machines between the wish for them and their end: each is counted once."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.core.snapshot import Snapshot
from autoscaler.shell.book import Book
from autoscaler.shell.brain import Brain
from autoscaler.shell.loop import Beat
from autoscaler.shell.purse import Purse
from autoscaler.shell.receipts import receipts
from autoscaler.shell.sites import Sites
from autoscaler.shell.status import Sources, status
from fabric.cli.context import get_json
from fabric.cli.demo_view import nodes_in_words
from fabric.config.reload import ConfigFile
from fabric.config.resolve import node_types
from fabric.journal.base import Draft
from fabric.journal.sqlite import SqliteJournal
from fabric.model.demand import Demand, Shape
from fabric.model.events import Event
from fabric.model.money import Tariff
from fabric.model.nodes import Market, Node, NodePhase, Offer
from fabric.model.resources import GPU, Resources
from fabric.telemetry.emit import Metrics
from tests.chaos.bench import Bench
from tests.chaos.cloud import Cloud
from tests.conftest import wait_until
from tests.sandboxes import unused_port
from tests.unit.cli.places import LAUNCH

TYPE = "sky.g1"
CONFIG = """
fabric: {name: testing}
defaults: {data_class: open}
data_classes: {open: {sites: any}}
sites:
  home: {kind: onprem, node_types: {box: {nodes: [a], gpus: 1, cpus: 1}}}
  sky:
    kind: sandbox
    endpoint: 127.0.0.1:1
    node_types:
      g1: {gpus: 1, cpus: 1, max: 12, zones: [a], market: [on-demand], price: {on-demand: 3.60 USD/h}}
burst: {baseline: [{gpus: 1, for: 0s}], hold: 1h, join_deadline: 1h}
"""
OFFER = Offer(f"{TYPE}/a/on-demand", TYPE, "sky", "a", Market.ON_DEMAND, Tariff(3_600_000))


@dataclass(frozen=True)
class Machine:
    """How far a launch has come by the journal, and by Ray; None: Ray waits for some machine and knows none."""

    journal: tuple[Event, ...]
    ray: NodePhase | None


ACCEPTED = (Event.LAUNCH_INTENDED, Event.LAUNCH_ACCEPTED)
JOINED = (*ACCEPTED, Event.NODE_JOINED)
LIVES = [
    Machine(events, phase)
    for events, phases in (
        ((Event.LAUNCH_INTENDED,), (None,)),
        (ACCEPTED, (None, NodePhase.BOOTING)),
        (JOINED, (None, NodePhase.BOOTING, NodePhase.RUNNING, NodePhase.DRAINING)),
        ((*JOINED, Event.SPOT_NOTICE), (NodePhase.RUNNING, NodePhase.DRAINING)),
        ((*JOINED, Event.TERMINATE_INTENDED), (NodePhase.ENDING,)),
        ((*JOINED, Event.NODE_LOST), (NodePhase.ENDING,)),
    )
    for phase in phases
]
COMING = (NodePhase.BOOTING, None)


class Told:
    """The controller's parts that its status is made of, with a journal of their own; Ray is what the test says."""

    def __init__(self, folder: Path, journal: SqliteJournal) -> None:
        path = folder / "fabric.yaml"
        path.write_text(CONFIG)
        file = ConfigFile(path)
        purse = Purse(lambda: file.current)
        self.book = Book(journal, purse.take)
        self.types = node_types(file.current)
        self.brain = Brain(
            lambda: file.current, self.book, lambda: [OFFER], lambda: (), lambda _: (), receipts(), lambda: 1000.0,
            Metrics(),
        )  # fmt: skip
        self.sources = Sources(
            file=file,
            book=self.book,
            brain=self.brain,
            sites=Sites(lambda site: (_ for _ in ()).throw(LookupError(site))),
            purse=purse,
            beat=lambda: Beat(),
            head=lambda: "",
            started_at=0.0,
            clock=lambda: 1000.0,
        )

    def write(self, token: str, *events: Event) -> None:
        for event in events:
            facts = {"token": token, "lease_until": 0.0, "reclaim_at": 0.0, "cause": "idle", "by": "controller"}
            self.book.append(Draft(event, {**LAUNCH, **facts} if event is Event.LAUNCH_INTENDED else facts))

    def node(self, name: str, phase: NodePhase, token: str = "") -> Node:
        resources = self.types[TYPE].resources
        return Node(name, TYPE, phase, resources, resources, instance_id=token, token=token)

    def counts(self) -> tuple[int, int, int]:
        """Plan, requested and observed, after checking that they and the list of nodes are of the same machines."""
        told = status(self.sources)
        (kind,) = (kind for kind in told["node_types"] if kind["name"] == TYPE)
        tokens = Counter(node["token"] for node in told["nodes"])
        assert tokens == Counter(self.book.live().keys())
        assert kind["plan"] >= kind["requested"] + kind["observed"]
        phases = Counter(node["phase"] for node in told["nodes"])
        assert kind["observed"] == phases["running"] + phases["draining"]
        assert kind["requested"] == phases["requested"] + phases["booting"]
        booting = f"{kind['requested']} booting"
        assert (booting in nodes_in_words(told)) == (kind["requested"] > 0)
        return kind["plan"], kind["requested"], kind["observed"]


@contextmanager
def told() -> Iterator[Told]:
    with tempfile.TemporaryDirectory() as folder:
        journal = SqliteJournal(Path(folder) / "journal.db", "test")
        try:
            yield Told(Path(folder), journal)
        finally:
            journal.close()


def wanting(gpus: int, told: Told, *nodes: Node) -> Snapshot:
    demands = (Demand(Shape(Resources.of({GPU: 1})), gpus),) if gpus else ()
    return Snapshot(told.types, nodes, demands)


def test_what_is_bought_is_planned_then_requested_then_observed_and_always_one_machine() -> None:
    with told() as it:
        it.brain(wanting(4, it))
        assert it.counts() == (4, 0, 0)
        for number in range(4):
            it.write(f"t{number}", Event.LAUNCH_INTENDED)
            assert it.counts() == (4, number + 1, 0)
        placeholders = [it.node(f"im{number}", NodePhase.REQUESTED) for number in range(4)]
        it.brain(wanting(4, it, *placeholders))
        assert it.counts() == (4, 4, 0)
        it.write("t0", Event.LAUNCH_ACCEPTED, Event.NODE_JOINED)
        it.brain(wanting(4, it, it.node("im0", NodePhase.BOOTING, "t0"), *placeholders[1:]))
        assert it.counts() == (4, 4, 0)
        it.brain(wanting(3, it, it.node("im0", NodePhase.RUNNING, "t0"), *placeholders[1:]))
        assert it.counts()[1:] == (3, 1)


def test_what_ray_waits_for_and_nobody_has_asked_a_cloud_for_is_planned_only() -> None:
    with told() as it:
        it.brain(wanting(3, it, it.node("im0", NodePhase.PLANNED), it.node("im1", NodePhase.REQUESTED)))
        assert it.counts() == (3, 0, 0)


def test_before_ray_was_asked_a_machine_that_has_joined_is_not_said_to_be_on_its_way() -> None:
    with told() as it:
        it.write("old", *JOINED)
        it.write("new", Event.LAUNCH_INTENDED)
        (kind,) = (kind for kind in status(it.sources)["node_types"] if kind["name"] == TYPE)
        assert (kind["requested"], kind["observed"]) == (1, 0)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(LIVES), max_size=8), st.integers(0, 3), st.integers(0, 10))
def test_each_machine_counts_once_wherever_it_stands_and_buying_what_was_decided_changes_no_plan(
    machines: list[Machine], waited_for: int, gpus: int
) -> None:
    with told() as it:
        nodes = [it.node(f"w{number}", NodePhase.REQUESTED) for number in range(waited_for)]
        for number, machine in enumerate(machines):
            it.write(f"t{number}", *machine.journal)
            phase = machine.ray or NodePhase.REQUESTED
            nodes.append(it.node(f"im{number}", phase, f"t{number}" if machine.ray else ""))
        decision = it.brain(wanting(gpus, it, *nodes))
        bought = sum(launch.count for launch in decision.launches)
        dropped = sum(drain.node_id.startswith("w") for drain in decision.drains)
        plan, requested, observed = it.counts()
        assert requested == sum(machine.ray in COMING for machine in machines)
        assert observed == sum(machine.ray in (NodePhase.RUNNING, NodePhase.DRAINING) for machine in machines)
        assert plan == requested + observed + waited_for - dropped + bought
        for number in range(bought):
            it.write(f"bought{number}", Event.LAUNCH_INTENDED)
        assert it.counts() == (plan, requested + bought, observed)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A real cloud, and a real controller on a listed cluster."""
    for name in ("cloud", "fabric"):
        (tmp_path / name).mkdir()
    cloud = Cloud(tmp_path / "cloud", unused_port())
    bench = Bench(tmp_path / "fabric", cloud.port, "status")
    try:
        cloud.start()
        yield bench
    finally:
        bench.close()
        cloud.close()


def test_while_four_machines_are_bought_there_are_never_more_than_four(bench: Bench) -> None:
    # The controller goes on asking for the same machines, so wish and launch are there at once for a while.
    bench.fault("lost_reply", times=3)
    bench.want(4)
    bench.start()
    seen: list[dict[str, Any]] = []

    def look() -> bool:
        told = get_json(f"http://127.0.0.1:{bench.ports['controller']}/status", timeout_s=1.0)
        if told is not None:
            seen.append(told)
        return told is not None and sum(node["phase"] == "booting" for node in told["nodes"]) == 4

    wait_until(look, what="four machines")
    plans: list[int] = []
    for told in seen:
        (kind,) = (kind for kind in told["node_types"] if kind["name"] == TYPE)
        rented = [node["token"] for node in told["nodes"] if node["site"] == "sky"]
        assert len(rented) == len(set(rented)) == kind["requested"] <= kind["plan"]
        plans.append(kind["plan"])
    assert set(plans) <= {0, 4}
