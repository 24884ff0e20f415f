"""``fabric why``: receipts are decided again, lives are told, and a difference is said."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from autoscaler.core.codec import encode_decision, encode_snapshot
from autoscaler.core.decide import decide
from autoscaler.core.policies import policy_named
from autoscaler.core.snapshot import BurstRules, Snapshot, Threshold
from fabric.cli.exits import CliError, Exit
from fabric.cli.main import cli
from fabric.cli.story import story
from fabric.journal.base import Draft, Entry
from fabric.journal.sqlite import SqliteJournal
from fabric.model.demand import Demand, Shape
from fabric.model.events import Event
from fabric.model.money import Tariff
from fabric.model.nodes import Market, Node, NodePhase, NodeType, Offer
from fabric.model.resources import Resources

ROOT = Path(__file__).resolve().parents[3]
TOKEN = "fab-0123456789abcdef0123"
GPU = Resources.of({"GPU": 1, "CPU": 1})
OFFER = Offer("sky.g1/a/spot", "sky.g1", "sky", "a", Market.SPOT, Tariff(360_000, 60), 10)
RULES = BurstRules(baseline=(Threshold(for_s=0, gpus=1),), idle_s=5)
TYPES = {"sky.g1": NodeType("sky.g1", "sky", GPU, maximum=2)}


def receipt(snapshot: Snapshot, now: float, **changes: Any) -> Draft:
    decision = encode_decision(decide(snapshot, policy_named("threshold"), now))
    data = {"policy": "threshold", "now": now, "snapshot": encode_snapshot(snapshot), "decision": decision}
    return Draft(Event.DECISION, {**data, **changes, "sentences": []})


def buying() -> Snapshot:
    wanted = Demand(Shape(Resources.of({"GPU": 1})), 2)
    return Snapshot(node_types=TYPES, demands=(wanted,), offers=(OFFER,), rules=RULES)


def giving_back(now: float) -> Snapshot:
    node = Node(
        "n-1", "sky.g1", NodePhase.RUNNING, GPU, GPU, ray_node_id="abcdef0123", instance_id="i-1", token=TOKEN,
        idle_s=60.0, since=now - 600, joined_at=now - 600,
    )  # fmt: skip
    return Snapshot(node_types=TYPES, nodes=(node,), offers=(OFFER,), rules=RULES)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "fabric.yaml"
    path.write_text((ROOT / "configs" / "examples" / "demo.yaml").read_text().replace("../../state/demo", "state"))
    return path


@pytest.fixture
def journal(config: Path):
    (config.parent / "state").mkdir()
    store = SqliteJournal(config.parent / "state" / "journal.db", "test", time.time)
    yield store
    store.close()


def ask(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["why", *arguments, "--config", str(config)], standalone_mode=False)


def code(result: Result) -> int:
    if isinstance(result.exception, CliError):
        return result.exception.exit_code
    return result.return_value or 0 if result.exception is None else -1


def intent(**more: Any) -> Mapping[str, Any]:
    return {
        "token": TOKEN, "site": "sky", "node_type": "sky.g1", "offer": OFFER.offer_id, "market": "spot",
        "per_hour": 360_000, "minimum_seconds": 60, **more,
    }  # fmt: skip


def test_latest_is_the_newest_decision_that_did_something(config: Path, journal: SqliteJournal) -> None:
    journal.append([receipt(buying(), 1000.0), receipt(Snapshot(node_types=TYPES), 1001.0)])
    result = ask(config, "latest")
    assert code(result) == 0
    assert "Decision 1 " in result.output
    assert "Buying 2 x sky.g1." in result.output
    assert "Decided again from its receipt: the same." in result.output


def test_a_decision_that_comes_out_differently_is_said_and_is_a_no(config: Path, journal: SqliteJournal) -> None:
    journal.append([receipt(buying(), 1000.0, decision={"at": 1000.0})])
    result = ask(config, "1", "--json")
    told = json.loads(result.output)
    assert told["decisions"][0]["recomputed_the_same"] is False
    assert code(result) == Exit.NO


@pytest.mark.parametrize("subject", [TOKEN, TOKEN[:9], "i-1", "abcdef0123", "abcd"])
def test_a_launch_is_found_by_its_token_its_instance_and_its_ray_node(
    config: Path, journal: SqliteJournal, subject: str
) -> None:
    journal.append(
        [
            receipt(buying(), 1000.0),
            Draft(Event.LAUNCH_INTENDED, intent()),
            Draft(Event.LAUNCH_ACCEPTED, {"token": TOKEN, "instance": "i-1"}),
            Draft(Event.NODE_JOINED, {"token": TOKEN, "site": "sky", "python": "3.11.9", "ray": "2.60.0"}),
            receipt(giving_back(2000.0), 2000.0),
        ]
    )
    result = ask(config, subject, "--json")
    told = json.loads(result.output)
    assert told["subject"] == TOKEN
    assert [decision["seq"] for decision in told["decisions"]] == [1, 5]
    assert "Giving back" in told["decisions"][1]["sentences"][0]
    assert [line["seq"] for line in told["story"]] == [2, 3, 4]


def test_a_beginning_that_names_several_asks_for_more(config: Path, journal: SqliteJournal) -> None:
    journal.append([Draft(Event.LAUNCH_INTENDED, intent(token=f"fab-{number}")) for number in (11, 12)])
    result = ask(config, "fab-1")
    assert code(result) == Exit.NO
    assert "fab-11, fab-12" in str(result.exception)


@pytest.mark.parametrize("subject", ["fab-nobody", "77", "latest"])
def test_what_the_journal_does_not_know_is_a_no_with_a_sentence(
    config: Path, journal: SqliteJournal, subject: str
) -> None:
    journal.append([Draft(Event.FABRIC_STARTED, {"process": "controller"})])
    result = ask(config, subject)
    assert code(result) == Exit.NO


def test_a_fabric_that_never_ran_has_nothing_to_explain(config: Path) -> None:
    result = ask(config, "latest")
    assert code(result) == Exit.UNAVAILABLE
    assert "has never run" in str(result.exception)


def test_every_kind_of_entry_about_a_launch_is_told_in_a_sentence() -> None:
    data = intent(
        instance="i-1", error="capacity", message="none left", cause="idle", by="controller", python="3.11.9",
        ray="2.60.0", reason="clock_skew", sentence="Its clock is an hour off.", launched_at_ms=1000, ended_at_ms=4500,
    )  # fmt: skip
    about_a_launch = [kind for kind in Event if kind.startswith(("launch.", "node.", "instance.", "orphan."))]
    entries = [Entry(seq, 1000.0 + seq, "controller", kind, data, "", "") for seq, kind in enumerate(about_a_launch, 1)]
    told = [text for _, text in story(entries, TOKEN)]
    assert len(told) == len(about_a_launch)
    assert all(text.endswith((".", "none left")) and text not in set(Event) for text in told)
    assert "3.5 s after it began to charge" in told[about_a_launch.index(Event.INSTANCE_ENDED)]


def test_renewals_are_counted_not_listed() -> None:
    renewals = [
        Entry(seq, float(seq), "gateway", Event.LEASE_RENEWED, {"token": TOKEN, "until": 9.0}, "", "")
        for seq in range(1, 6)
    ]
    assert [text for _, text in story(renewals, TOKEN)] == ["It renewed its lease 5 times; the last time here."]
