"""An order's labels are those the planner packed against; so what is bought for a selector is what meets it."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from autoscaler.core.snapshot import Snapshot
from autoscaler.shell.orders import OrderDesk
from fabric.config.load import load
from fabric.config.resolve import node_types, resolve, sells
from fabric.config.schema import Config
from fabric.config.sites import SandboxSite
from fabric.model.decisions import Decision, ReasonCode
from fabric.model.demand import Demand, Shape
from fabric.model.labels import LABEL_MARKET, Constraint, Operator, Selector
from fabric.model.money import Tariff
from fabric.model.nodes import Market, Offer
from fabric.model.resources import Resources
from tests.unit.core.worlds import codes, launches, tick

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
SOLD = """
defaults: {data_class: open}
data_classes: {open: {sites: any}}
sites:
  home: {kind: onprem, node_types: {box: {nodes: [a], cpus: 1}}}
  sky:
    kind: sandbox
    node_types:
"""
SPOT = "      cheap: {gpus: 1, cpus: 4, max: 4, market: [spot], zones: [a, b], price: {spot: 1 USD/h}}\n"
STEADY = "      steady: {gpus: 1, cpus: 4, max: 4, market: [on-demand], price: {on-demand: 3 USD/h}}\n"
BOTH = "{on-demand: 2 USD/h, spot: 0.5 USD/h}"
EITHER = f"      either: {{gpus: 1, cpus: 4, max: 4, market: [spot, on-demand], price: {BOTH}}}\n"
BURST = "burst: {baseline: [{gpus: 1, for: 0s}]}\n"


def config(text: str) -> Config:
    loaded = load(text, "fabric.yaml")
    assert isinstance(loaded, Config), loaded
    return loaded


def offers(config: Config) -> list[Offer]:
    """Everything the sandboxes of a configuration sell."""
    return [
        Offer(f"{site}.{key}/{zone}/{market}", f"{site}.{key}", site, zone, market, Tariff(price, 60))
        for site, block in config.sites.items()
        if isinstance(block, SandboxSite)
        for key, kind in block.node_types.items()
        for zone in kind.zones
        for market in kind.market
        if (price := kind.price.spot if market is Market.SPOT else kind.price.on_demand) is not None
    ]


def decided(kinds: str, operator: Operator, market: str) -> Decision:
    """What is decided when one GPU waits whose selector asks for, or not for, a market."""
    loaded = config(SOLD + kinds + BURST)
    selector = Selector((Constraint(LABEL_MARKET, operator, (market,)),))
    demand = Demand(Shape(Resources.of({"GPU": 1}), selectors=(selector,)), 1)
    return tick(Snapshot(node_types=node_types(loaded), demands=(demand,), offers=tuple(offers(loaded))))


@pytest.mark.parametrize(
    "text",
    [CONFIGS / "fabric.yaml", *sorted((CONFIGS / "examples").glob("*.yaml")), SOLD + SPOT + STEADY + EITHER + BURST],
)
def test_every_order_carries_the_labels_of_its_node_type_and_they_are_true(text: Path | str, tmp_path: Path) -> None:
    loaded = resolve(config(text if isinstance(text, str) else text.read_text()), tmp_path)
    desk = OrderDesk(lambda: loaded, lambda: 1000.0)
    for offer in offers(loaded):
        kind = node_types(loaded)[offer.node_type]
        order = desk.order(offer, "r1")
        told = re.search(r"^export FABRIC_LABELS=(.*)$", order.spec.user_data, re.MULTILINE)
        assert told is not None
        assert json.loads(shlex.split(told[1])[0]) == order.intent.data["labels"] == kind.labels
        assert kind.labels.get("fabric/market", offer.market) == offer.market
        assert kind.labels.get("fabric/zone", offer.zone) == offer.zone
        assert sells(kind, offer)


def test_work_that_asks_for_spot_is_bought_a_type_sold_only_as_spot() -> None:
    assert launches(decided(STEADY + SPOT + EITHER, Operator.IN, "spot")) == {"sky.cheap": 1}


def test_work_that_asks_for_no_spot_is_never_put_on_a_type_sold_only_as_spot() -> None:
    assert launches(decided(SPOT + STEADY, Operator.NOT_IN, "spot")) == {"sky.steady": 1}
    assert launches(decided(SPOT, Operator.NOT_IN, "spot")) == {}


def test_work_that_asks_for_a_market_is_not_bought_a_type_that_may_come_from_another() -> None:
    decision = decided(EITHER, Operator.IN, "on-demand")
    assert launches(decision) == {}
    assert ReasonCode.INFEASIBLE in codes(decision)
    assert launches(decided(EITHER + STEADY, Operator.IN, "on-demand")) == {"sky.steady": 1}
