"""Which machine each Ray node is, and which of them were lost under a job."""

from __future__ import annotations

from dataclasses import dataclass, field

from autoscaler.core.lifecycle import InstanceRecord, Phase
from autoscaler.ray.autoscaler import RayNode
from autoscaler.shell.attempt_end import LostNode
from autoscaler.shell.places import Places
from fabric.config.load import load
from fabric.config.schema import Config

CONFIG = """
sites:
  room: {kind: onprem, node_types: {box: {nodes: [a], cpus: 4}}}
  sky: {kind: sandbox, node_types: {g: {cpus: 4, max: 4, market: [spot], price: {spot: 1 USD/h}}}}
burst: {baseline: [{gpus: 1, for: 0s}]}
"""


@dataclass
class World:
    """A clock and what the journal knows of launches."""

    now: float = 100.0
    launches: dict[str, InstanceRecord] = field(default_factory=dict[str, InstanceRecord])

    def places(self) -> Places:
        config = load(CONFIG, "fabric.yaml")
        assert isinstance(config, Config), config
        return Places(lambda: config, self.launches.get, lambda: self.now)


def spot(token: str, **more: float) -> InstanceRecord:
    return InstanceRecord(token, Phase.RUNNING, "sky", "sky.g", market="spot", **more)  # pyright: ignore


def node(ray_id: str, instance: str, alive: bool = True) -> RayNode:
    return RayNode(ray_id, instance, "some.type", alive, 0.0)


def test_the_head_a_machine_of_your_own_and_a_rented_one_have_their_sites() -> None:
    world = World(launches={"fab-1": spot("fab-1")})
    places = world.places()
    places.observe([node("1", "head"), node("2", "onprem/room/a"), node("3", "fab-1"), node("4", "stranger")])
    found = {name: places.place(name) for name in "12345"}
    sites = {name: place.site if place else None for name, place in found.items()}
    assert sites == {"1": "room", "2": "room", "3": "sky", "4": "", "5": None}


def test_a_node_that_went_while_the_attempt_ran_is_lost_and_one_that_went_before_is_not() -> None:
    world = World()
    places = world.places()
    places.observe([node("1", "onprem/room/a")])
    world.now = 200.0
    places.observe([node("1", "onprem/room/a", alive=False)])
    assert places.lost(["1"], since=150.0) == [LostNode("onprem/room/a", gone=True, reclaimed=False)]
    assert places.lost(["1"], since=250.0) == []


def test_a_node_that_ray_lists_no_more_is_gone_and_one_that_is_back_under_a_new_id_is_another() -> None:
    world = World()
    places = world.places()
    places.observe([node("1", "onprem/room/a")])
    places.observe([node("2", "onprem/room/a")])
    assert [lost.gone for lost in places.lost(["1", "2"], since=0.0)] == [True]


def test_a_spot_notice_and_an_end_that_nobody_asked_for_are_the_clouds_doing() -> None:
    noticed, taken = spot("fab-1", reclaim_at=120.0), spot("fab-2", ended_at=110.0)
    ended = spot("fab-3", ended_at=110.0, ending_at=105.0)
    world = World(launches={record.token: record for record in (noticed, taken, ended)})
    places = world.places()
    places.observe([node("1", "fab-1"), node("2", "fab-2"), node("3", "fab-3")])
    places.observe([node("1", "fab-1")])
    lost = {one.name: (one.gone, one.reclaimed) for one in places.lost(["1", "2", "3"], since=0.0)}
    assert lost == {"fab-1": (False, True), "fab-2": (True, True), "fab-3": (True, False)}
