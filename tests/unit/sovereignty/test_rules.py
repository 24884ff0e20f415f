"""Where data may go: denied unless the configuration proves otherwise."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabric.config.resolve import node_types
from fabric.config.schema import HOME_ONLY, Config, DataClassBlock
from fabric.config.sites import OnPremNodeType
from fabric.model.labels import LABEL_MARKET, LABEL_SITE
from fabric.model.nodes import Market
from fabric.sovereignty.rules import Rule, allowed_sites, is_home, may_leave_to, verdict
from fabric.sovereignty.selectors import selector

SITES = ("home", "attic", "cloud", "fog")
LABELS = ("country", "tier")


def make(site_labels: dict[str, dict[str, str]], classes: dict[str, DataClassBlock]) -> Config:
    """Two sites of one's own, two that sell machines."""

    def site(name: str, index: int) -> dict[str, object]:
        block: dict[str, object] = {"labels": site_labels.get(name, {})}
        if name in ("home", "attic"):
            return {**block, "kind": "onprem", "node_types": {"x": {"nodes": [name], "cpus": 1}}}
        price = {"on-demand": "1 USD/h", "spot": "1 USD/h"}
        markets = {"x": ["on-demand"], "y": ["spot"], "z": ["spot", "on-demand"]}
        endpoint = f"127.0.0.1:{9000 + index}"
        sold = {key: {"cpus": 1, "max": 1, "price": price, "market": market} for key, market in markets.items()}
        return {**block, "kind": "sandbox", "endpoint": endpoint, "node_types": sold}

    return Config.model_validate(
        {
            "sites": {name: site(name, index) for index, name in enumerate(SITES)},
            "burst": {"baseline": [{"gpus": 1, "for": 0}]},
            "data_classes": {name: block.model_dump(mode="json", by_alias=True) for name, block in classes.items()},
        }
    )


CONFIG = make(
    {"home": {"country": "de"}, "cloud": {"country": "de"}, "fog": {"country": "fr"}},
    {
        "open": DataClassBlock(sites="any"),
        "german": DataClassBlock(sites={"country": "de"}),
        "listed": DataClassBlock(sites=["attic", "fog"]),
        "steady": DataClassBlock(sites="any", spot="never"),
        "nowhere": DataClassBlock(sites={}),
    },
)


@pytest.mark.parametrize(
    ("data_class", "sites", "leaves_to"),
    [
        ("open", {"home", "attic", "cloud", "fog"}, {"cloud", "fog"}),
        ("german", {"home", "cloud"}, {"cloud"}),
        ("listed", {"attic", "fog"}, {"fog"}),
        (HOME_ONLY, {"home", "attic"}, set()),
        ("nowhere", set(), set()),
        ("unheard-of", set(), set()),
        ("", set(), set()),
    ],
)
def test_a_class_allows_exactly_what_it_says(data_class: str, sites: set[str], leaves_to: set[str]) -> None:
    assert allowed_sites(CONFIG, data_class) == sites
    assert may_leave_to(CONFIG, data_class) == leaves_to


@pytest.mark.parametrize(
    ("data_class", "site", "market", "allowed", "rule"),
    [
        ("open", "cloud", None, True, Rule.ANY_SITE),
        ("open", "cloud", Market.SPOT, True, Rule.ANY_SITE),
        ("steady", "cloud", Market.ON_DEMAND, True, Rule.ANY_SITE),
        ("steady", "home", Market.OWNED, True, Rule.ANY_SITE),
        ("steady", "cloud", Market.SPOT, False, Rule.NO_SPOT),
        ("german", "fog", None, False, Rule.LABELS),
        ("german", "attic", None, False, Rule.LABELS),
        ("listed", "home", None, False, Rule.LISTED),
        (HOME_ONLY, "cloud", None, False, Rule.HOME_ONLY),
        (HOME_ONLY, "home", None, True, Rule.HOME_ONLY),
        ("unheard-of", "home", None, False, Rule.UNKNOWN_CLASS),
        ("open", "mars", None, False, Rule.UNKNOWN_SITE),
        (HOME_ONLY, "mars", None, False, Rule.UNKNOWN_SITE),
    ],
)
def test_a_verdict_names_its_rule(data_class: str, site: str, market: Market | None, allowed: bool, rule: Rule) -> None:
    answer = verdict(CONFIG, data_class, site, market)
    assert (answer.allowed, answer.rule) == (allowed, rule)
    assert answer.sentence.endswith(".")


def test_a_class_of_data_that_reads_home_only_in_the_file_cannot_widen_the_built_in_one() -> None:
    config = make({}, {HOME_ONLY: DataClassBlock(sites="any")})
    assert may_leave_to(config, HOME_ONLY) == set()


labels = st.dictionaries(st.sampled_from(LABELS), st.sampled_from(["a", "b"]))
scopes = st.just("any") | st.lists(st.sampled_from(SITES), unique=True) | labels
blocks = st.builds(DataClassBlock, sites=scopes, spot=st.sampled_from(["allowed", "never"]))
configs = st.builds(
    make, st.dictionaries(st.sampled_from(SITES), labels), st.dictionaries(st.sampled_from(["p", "q"]), blocks)
)
names = st.sampled_from(["p", "q", HOME_ONLY, *SITES]) | st.text(max_size=8)
markets = st.sampled_from([None, *Market])


@given(configs, names, names, markets)
def test_what_the_configuration_does_not_name_is_denied(
    config: Config, data_class: str, site: str, market: Market | None
) -> None:
    answer = verdict(config, data_class, site, market)
    known = site in config.sites and (data_class == HOME_ONLY or data_class in config.data_classes)
    assert known or not answer.allowed


@given(configs, markets)
def test_home_only_never_yields_a_site_that_is_not_your_own(config: Config, market: Market | None) -> None:
    for site in config.sites:
        assert not verdict(config, HOME_ONLY, site, market).allowed or is_home(config, site)
    assert may_leave_to(config, HOME_ONLY) == frozenset()


@given(configs, st.data())
@settings(max_examples=60)
def test_tightening_a_class_never_allows_more(config: Config, data: st.DataObject) -> None:
    for name, block in config.data_classes.items():
        tighter = make(
            {site: dict(place.labels) for site, place in config.sites.items()}, {name: data.draw(tightened(block))}
        )
        for site in SITES:
            for market in (None, *Market):
                if verdict(tighter, name, site, market).allowed:
                    assert verdict(config, name, site, market).allowed


@st.composite
def tightened(draw: st.DrawFn, block: DataClassBlock) -> DataClassBlock:
    """The same class with fewer sites, more labels, or without spot."""
    sites = block.sites
    if isinstance(sites, list):
        sites = [site for site in sites if draw(st.booleans())]
    elif isinstance(sites, dict):
        more = draw(labels) if sites else {}  # a class that names no label goes nowhere
        sites = {**more, **sites}
    else:
        sites = draw(scopes)
    return DataClassBlock(sites=sites, spot="never" if draw(st.booleans()) else block.spot)


@given(configs, names)
def test_the_selector_matches_the_nodes_of_allowed_sites_and_no_others(config: Config, data_class: str) -> None:
    wanted = selector(config, data_class)
    for node_type in node_types(config).values():
        for market in (Market.OWNED,) if is_home(config, node_type.site) else (Market.SPOT, Market.ON_DEMAND):
            node_labels = {**node_type.labels, LABEL_MARKET: market.value}
            assert wanted.matches(node_labels) == verdict(config, data_class, node_type.site, market).allowed


@given(configs, names)
def test_no_node_is_matched_that_could_have_been_bought_in_a_market_that_is_not_allowed(
    config: Config, data_class: str
) -> None:
    wanted = selector(config, data_class)
    for site_name, site in config.sites.items():
        for key, block in site.node_types.items():
            markets = [Market.OWNED] if isinstance(block, OnPremNodeType) else block.market
            allowed = all(verdict(config, data_class, site_name, market).allowed for market in markets)
            assert wanted.matches(node_types(config)[f"{site_name}.{key}"].labels) == allowed


@given(configs, names, st.sampled_from([LABEL_SITE, LABEL_MARKET]))
def test_a_node_without_our_labels_is_matched_by_no_selector_that_asks_for_them(
    config: Config, data_class: str, lacking: str
) -> None:
    wanted = selector(config, data_class)
    for node_type in node_types(config).values():
        bare = {key: value for key, value in node_type.labels.items() if key != lacking}
        if lacking in {constraint.key for constraint in wanted.constraints}:
            assert not wanted.matches(bare)
