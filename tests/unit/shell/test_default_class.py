"""The default data class decides whether work that names none may leave home."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from autoscaler.core.snapshot import Snapshot
from autoscaler.shell.book import Book
from autoscaler.shell.brain import Brain
from autoscaler.shell.receipts import receipts
from fabric.config.load import load
from fabric.config.resolve import node_types
from fabric.config.schema import Config
from fabric.journal.sqlite import SqliteJournal
from fabric.model.decisions import Decision, ReasonCode
from fabric.model.demand import Demand, Shape
from fabric.model.money import Tariff, usd
from fabric.model.nodes import Market, Offer
from fabric.model.resources import Resources
from fabric.telemetry.emit import Metrics

CONFIG = """
defaults: {{data_class: {data_class}}}
data_classes:
  open: {{sites: any}}
  no-spot: {{sites: any, spot: never}}
  eu: {{sites: {{jurisdiction: eu}}}}
sites:
  home: {{kind: onprem, labels: {{jurisdiction: eu}}, node_types: {{box: {{nodes: [a], gpus: 1, cpus: 4}}}}}}
  sky:
    kind: sandbox
    labels: {{jurisdiction: us}}
    node_types:
      g: {{gpus: 1, cpus: 4, max: 4, market: [spot, on-demand], price: {{on-demand: 3 USD/h, spot: 1 USD/h}}}}
burst: {{baseline: [{{gpus: 1, for: 0s}}]}}
"""
WANTED = Demand(Shape(Resources.of({"GPU": 1})), 2)


def config(data_class: str) -> Config:
    loaded = load(CONFIG.format(data_class=data_class), "fabric.yaml")
    assert isinstance(loaded, Config), loaded
    return loaded


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[SqliteJournal]:
    journal = SqliteJournal(tmp_path / "journal.db", "controller")
    yield journal
    journal.close()


def decide(config: Config, journal: SqliteJournal) -> Decision:
    """What the controller's brain decides when two GPUs are wanted and home has none free."""
    offers = [
        Offer(f"sky.g/a/{market}", "sky.g", "sky", "a", market, Tariff(usd(price), 60))
        for market, price in ((Market.SPOT, 1), (Market.ON_DEMAND, 3))
    ]
    book = Book(journal)
    brain = Brain(lambda: config, book, lambda: offers, tuple, lambda _: (), receipts(), lambda: 1000.0, Metrics())
    return brain(Snapshot(node_types=node_types(config), demands=(WANTED,)))


def reasons(decision: Decision) -> set[ReasonCode]:
    return {reason.code for refusal in decision.refusals for reason in refusal.reasons}


def test_work_of_an_open_class_is_bought_for_at_the_cheapest_offer(journal: SqliteJournal) -> None:
    (launch,) = decide(config("open"), journal).launches
    assert (launch.count, launch.offers[0]) == (2, "sky.g/a/spot")


@pytest.mark.parametrize("data_class", ["home-only", "eu"])
def test_work_that_may_not_go_to_the_cloud_site_buys_nothing_and_says_why(
    data_class: str, journal: SqliteJournal
) -> None:
    decision = decide(config(data_class), journal)
    assert decision.launches == ()
    assert ReasonCode.STAYS_HOME in reasons(decision)


def test_a_class_that_forbids_spot_buys_on_demand_only(journal: SqliteJournal) -> None:
    (launch,) = decide(config("no-spot"), journal).launches
    assert launch.offers == ("sky.g/a/on-demand",)
