"""A data class that may go further than before is noticed, however the edit was made."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabric.config.load import load
from fabric.config.schema import HOME_ONLY, Config, DataClassBlock
from fabric.journal.base import GENESIS, Entry
from fabric.model.events import Event
from fabric.model.nodes import Market
from fabric.sovereignty.record import UnreadableRulesError, config_of, rules_record
from fabric.sovereignty.rules import verdict
from fabric.sovereignty.widen import RulesBook, Widening, widened

TEXT = """
sites:
  home: {{kind: onprem, labels: {{country: de}}, node_types: {{box: {{nodes: [a], cpus: 1}}}}}}
  annex: {{kind: onprem, node_types: {{box: {{nodes: [b], cpus: 1}}}}}}
  near: {{kind: sandbox, endpoint: "127.0.0.1:1", labels: {near}, node_types: {types}}}
  far: {{kind: sandbox, endpoint: "127.0.0.1:2", labels: {{country: us}}, node_types: {types}}}
burst: {{baseline: [{{gpus: 1, for: 0s}}]}}
data_classes:
  open: {{sites: any}}
  {classes}
"""
TYPES = "{g: {gpus: 1, cpus: 1, max: 1, price: {on-demand: 1 USD/h}}}"


def config(classes: str = "", near: str = "{country: de}") -> Config:
    loaded = load(TEXT.format(classes=classes, near=near, types=TYPES), "fabric.yaml")
    assert isinstance(loaded, Config), str(loaded)
    return loaded


def loaded(config: Config, digest: str = "d") -> Entry:
    data: dict[str, Any] = {"digest": digest, "path": "fabric.yaml", "rules": rules_record(config)}
    return Entry(1, 1.0, "controller", Event.CONFIG_LOADED, data, GENESIS, GENESIS)


@pytest.mark.parametrize(
    ("before", "after", "near", "added"),
    [
        ("c: {sites: [home]}", "c: {sites: [home, far]}", "{country: de}", [Widening("c", ("far",))]),
        ("c: {sites: [home]}", "c: {sites: any}", "{country: de}", [Widening("c", ("annex", "far", "near"))]),
        ("c: {sites: {country: de}}", "c: {sites: {country: de}}", "{country: de}", []),
        ("c: {sites: {country: us}}", "c: {sites: {country: us}}", "{country: us}", [Widening("c", ("near",))]),
        ("c: {sites: any}", "c: {sites: [home]}", "{country: de}", []),
        ("c: {sites: [home]}", "c: {sites: [far]}", "{country: de}", [Widening("c", ("far",))]),
        ("c: {sites: any, spot: never}", "c: {sites: any}", "{country: de}", [Widening("c", (), True)]),
        ("", "c: {sites: any}", "{country: de}", []),
        ("c: {sites: any}", "", "{country: de}", []),
    ],
)
def test_an_edit_is_told_by_the_sites_it_adds(before: str, after: str, near: str, added: list[Widening]) -> None:
    assert list(widened(config(before), config(after, near))) == added


def test_another_room_of_your_own_widens_the_class_that_stays_home() -> None:
    one = config_of({**rules_record(config()), "sites": {"home": {"kind": "onprem", "labels": {}}}})
    assert Widening(HOME_ONLY, ("annex",)) in widened(one, config())


def test_a_class_that_was_removed_and_comes_back_wider_was_widened() -> None:
    book = RulesBook()
    assert book.widened_by(config("c: {sites: any}")) == ()
    book.take(loaded(config("c: {sites: [home]}"), "first"))
    book.take(loaded(config(), "second"))
    assert book.digest == "second"
    assert book.widened_by(config("c: {sites: [home, near]}")) == (Widening("c", ("near",)),)


def test_entries_without_rules_and_rules_of_another_version_say_nothing() -> None:
    book = RulesBook()
    book.take(Entry(1, 1.0, "controller", Event.CONFIG_LOADED, {"digest": "d"}, GENESIS, GENESIS))
    assert book.record is None
    later = loaded(config())
    later.data["rules"]["sites"]["moon"] = {"kind": "moonbase", "labels": {}}
    book.take(later)
    assert book.widened_by(config()) == ()
    with pytest.raises(UnreadableRulesError, match="moonbase"):
        config_of(later.data["rules"])


SITES: st.SearchStrategy[Any] = st.one_of(
    st.just("any"),
    st.lists(st.sampled_from(["home", "annex", "near", "far"]), min_size=1, unique=True),
    st.sampled_from([{"country": "de"}, {"country": "us"}, {"country": "fi"}]),
)
BLOCKS = st.builds(DataClassBlock, sites=SITES, spot=st.sampled_from(["allowed", "never"]))
BASE = config()


def of(block: DataClassBlock) -> Config:
    return BASE.model_copy(update={"data_classes": {**BASE.data_classes, "c": block}})


@settings(deadline=None)
@given(block=BLOCKS, market=st.sampled_from([None, *Market]))
def test_a_record_of_the_rules_gives_the_same_verdicts_as_the_configuration(
    block: DataClassBlock, market: Market | None
) -> None:
    whole = of(block)
    record = config_of(rules_record(whole))
    for data_class in ("c", "open", HOME_ONLY, "nothing"):
        for site in (*whole.sites, "nowhere", ""):
            assert verdict(record, data_class, site, market) == verdict(whole, data_class, site, market)


@settings(deadline=None)
@given(before=BLOCKS, after=BLOCKS, market=st.sampled_from([Market.ON_DEMAND, Market.SPOT]))
def test_a_class_is_widened_exactly_when_something_was_denied_and_is_allowed(
    before: DataClassBlock, after: DataClassBlock, market: Market
) -> None:
    old, new = of(before), of(after)
    allowed_now = {site for site in new.sites if verdict(new, "c", site, market).allowed}
    more = {site for site in allowed_now if not verdict(old, "c", site, market).allowed}
    found = widened(old, new)
    assert bool(more) <= bool(found)
    if not any(widening.spot for widening in found):
        assert {site for widening in found for site in widening.sites} >= more
