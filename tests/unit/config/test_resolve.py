"""What a configuration means to the planner and to the processes."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from fabric.config.resolve import home_site, node_types, resolve, sells
from fabric.model.money import Tariff
from fabric.model.nodes import Market, Offer
from fabric.model.resources import Resources
from tests.unit.config.texts import config, edited


def test_relative_paths_are_taken_from_the_folder_and_absolute_ones_stay() -> None:
    text = edited("burst:\n", "fabric: {state: ../state, journal: 'sqlite:/var/j.db'}\nburst:\n")
    block = resolve(config(text), PurePosixPath("/etc/fabric")).fabric
    assert (block.state, block.journal) == ("/etc/fabric/../state", "sqlite:/var/j.db")
    resolved = resolve(config(text), PurePosixPath("/etc/fabric"))
    assert resolve(resolved, PurePosixPath("/elsewhere")) == resolved


def test_node_types_have_their_site_in_name_and_labels() -> None:
    types = node_types(config(edited("cpus: 4", "cpus: 4, gpu: L4, min: 1, labels: {rack: r1}")))
    assert list(types) == ["head", "home.big", "cloud.small"]
    small = types["cloud.small"]
    assert small.resources == Resources.of({"GPU": 1, "CPU": 4})
    assert (small.minimum, small.maximum, small.launchable) == (1, 3, True)
    assert small.labels == {
        "rack": "r1",
        "fabric/gpu": "L4",
        "fabric/site": "cloud",
        "fabric/site-kind": "sandbox",
        "fabric/node-type": "cloud.small",
        "fabric/market": "on-demand",
        "fabric/zone": "a",
    }


@pytest.mark.parametrize(
    ("sold", "market", "zone"),
    [
        ("market: [spot], zones: [z]", "spot", "z"),
        ("market: [spot, on-demand], zones: [z]", None, "z"),
        ("market: [on-demand], zones: [a, b]", "on-demand", None),
        ("market: [spot, on-demand], zones: [a, b]", None, None),
    ],
)
def test_market_and_zone_are_labels_only_where_there_is_no_choice(
    sold: str, market: str | None, zone: str | None
) -> None:
    text = edited("price: {on-demand: 1 USD/h}", f"{sold}, price: {{on-demand: 2 USD/h, spot: 1 USD/h}}")
    small = node_types(config(text))["cloud.small"]
    assert (small.labels.get("fabric/market"), small.labels.get("fabric/zone")) == (market, zone)
    offer = Offer("cloud.small/z/spot", "cloud.small", "cloud", "z", Market.SPOT, Tariff(1))
    assert sells(small, offer) == (market in ("spot", None) and zone in ("z", None))


def test_home_is_listed_but_never_launched_and_the_head_stands_in_it() -> None:
    types = node_types(config())
    big, head = types["home.big"], types["head"]
    assert (big.minimum, big.maximum, big.launchable) == (0, 2, False)
    assert big.resources.get("memory") == 512 * 1024**3 * 10_000
    assert big.labels["fabric/country"] == "de"
    assert (head.site, head.launchable, head.resources) == ("home", False, Resources())
    assert head.labels["fabric/site-kind"] == "onprem"
    assert home_site(config()) == "home"


def test_no_label_of_the_file_can_pose_as_one_of_ours() -> None:
    for node_type in node_types(config(edited("cpus: 4", "cpus: 4, labels: {site: home}"))).values():
        assert node_type.labels["fabric/site"] == node_type.site
