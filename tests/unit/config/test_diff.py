"""What an edit changes, and what it may not change while the fabric runs."""

# ruff: noqa: E501 - a table reads best with one case a line
from __future__ import annotations

import pytest

from fabric.config.diff import Changes, Refusals, diff
from tests.unit.config.texts import config, edited

LIVE = {"home.big", "cloud.small", "head"}


def changes(old: str, new: str) -> tuple[str, ...]:
    outcome = diff(config(), config(edited(old, new)), LIVE)
    assert isinstance(outcome, Changes), outcome
    return outcome.sentences


def refusals(old: str, new: str, live: set[str] = LIVE) -> list[str]:
    outcome = diff(config(), config(edited(old, new)), live)
    return [finding.what for finding in outcome.findings] if isinstance(outcome, Refusals) else []


@pytest.mark.parametrize(
    ("old", "new", "sentences"),
    [
        ("for: 5m", "for: 1m", ("burst.baseline[0].for changes from 5m to 1m",)),
        ("gpus: 4", "gpus: 6", ("burst.baseline[0].gpus changes from 4 to 6",)),
        ("max: 3", "max: 9", ("sites.cloud.node_types.small.max changes from 3 to 9",)),
        ("1 USD/h", "0.5 USD/h", ("sites.cloud.node_types.small.price.on-demand changes from 1 USD/h to 0.5 USD/h",)),
        ("for: 5m}", "for: 5m}\n    - {gpus: 9, for: 0s}", ("burst.baseline[1] is added",)),
        ("burst:\n", "budgets: [{per: day, limit: 9 USD}]\nburst:\n", ("budgets[0] is added",)),
        ("max: 3", "max: 3, boot: 9s", ("sites.cloud.node_types.small.boot changes from 5s to 9s",)),
        ("burst:\n", "burst:\n  max_nodes: 50\n", ("burst.max_nodes changes from nothing to 50",)),
        ("      small:", "      more: {cpus: 1, max: 1, price: {on-demand: 1 USD/h}}\n      small:",
         ("sites.cloud.node_types.more is added",)),
        ("burst:\n", "burst: # a comment\n", ()),
        ("for: 5m", "for: 300s", ()),
    ],
)  # fmt: skip
def test_an_edit_is_told_in_sentences(old: str, new: str, sentences: tuple[str, ...]) -> None:
    assert changes(old, new) == sentences


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("small:", "tiny:", "the node type cloud.small is gone but machines of it are alive"),
        ("gpus: 1,", "gpus: 2,", "the node type cloud.small changes its resources but machines of it are alive"),
        (
            "{country: de}",
            "{country: fr}",
            "the node type home.big changes its labels fabric/country but machines of it are alive",
        ),
        (
            "max: 3",
            "max: 3, zones: [a, b]",
            "the node type cloud.small changes its labels fabric/zone but machines of it are alive",
        ),
        ("512GiB", "1GiB", "the node type home.big changes its resources but machines of it are alive"),
    ],
)
def test_a_live_node_type_is_neither_dropped_nor_changed_and_a_dead_one_may_be(old: str, new: str, what: str) -> None:
    assert refusals(old, new) == [what]
    assert refusals(old, new, live=set()) == []


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("burst:\n", "listen: {reaper: 127.0.0.1:1}\nburst:\n", "listen.reaper cannot change while the fabric runs"),
        ("burst:\n", "fabric: {state: elsewhere}\nburst:\n", "fabric.state cannot change while the fabric runs"),
        ("burst:\n", "fabric: {journal: 'sqlite:x'}\nburst:\n", "fabric.journal cannot change while the fabric runs"),
        ("burst:\n", "ray: {port: 6380}\nburst:\n", "ray.port cannot change while the fabric runs"),
        ("kind: sandbox\n", "kind: sandbox\n    endpoint: 127.0.0.1:9\n", "sites.cloud.endpoint cannot change while the fabric runs"),
        ("kind: sandbox\n", "kind: sandbox\n    network: {subnet: 10.1.0.0/24}\n", "sites.cloud.network cannot change while the fabric runs"),
        ("  cloud:\n", "  fog:\n", "the new site fog needs a process that is not running"),
        ("cpus: 64", "local: true, cpus: 64", "the nodes that fabric up starts on this machine (local: true) change"),
        ("  home:\n", "  attic: {kind: onprem, node_types: {x: {nodes: [a], cpus: 1}}}\n  home:\n",
         "the Ray head stands in the first on-prem site, which was home and would be attic"),
    ],
)  # fmt: skip
def test_what_running_processes_already_acted_on_needs_a_restart(old: str, new: str, what: str) -> None:
    assert what in refusals(old, new, live=set())


def test_a_live_node_type_sold_in_several_zones_may_get_another() -> None:
    old, new = (config(edited("max: 3", f"max: 3, zones: {zones}")) for zones in ("[a, b]", "[a, b, c]"))
    outcome = diff(old, new, LIVE)
    assert isinstance(outcome, Changes)
    assert outcome.sentences == ("sites.cloud.node_types.small.zones changes from [a, b] to [a, b, c]",)


def test_every_refusal_is_told_at_once() -> None:
    text = edited("small:", "tiny:", edited("512GiB", "1GiB"))
    outcome = diff(config(), config(text + "listen: {reaper: 127.0.0.1:1}\n"), LIVE)
    assert isinstance(outcome, Refusals)
    assert len(outcome.findings) == 3
    assert all(finding.remedy for finding in outcome.findings)


def test_a_cloud_without_machines_may_go() -> None:
    text = edited("  cloud:\n    kind: sandbox\n    node_types:\n", "")
    text = edited("      small: {gpus: 1, cpus: 4, max: 3, price: {on-demand: 1 USD/h}}\n", "", text)
    assert diff(config(), config(text), {"home.big"}) == Changes(("sites.cloud is removed",))
    assert isinstance(diff(config(), config(text), LIVE), Refusals)


def test_a_node_type_nobody_configured_is_no_reason_to_refuse() -> None:
    assert diff(config(), config(), {"gone.long-ago"}) == Changes(())
