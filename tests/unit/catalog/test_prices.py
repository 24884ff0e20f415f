"""Price files: read as they are written, refused with the place of the fault, and what they fill in."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.catalog.prices import GIB, Listed, PriceFile, PriceFileError, Shape, parse, text_of
from fabric.config.load import load
from fabric.config.problems import Problems
from fabric.config.resolve import node_types
from fabric.config.schema import Config
from fabric.config.shapes import filled
from fabric.model.money import usd

AWS = PriceFile(
    "aws",
    date(2026, 11, 1),
    ("made up for tests",),
    {"g6.xlarge": Shape("g6.xlarge", 1, "L4", 24 * GIB, 4, 16 * GIB)},
    {"eu-central-1": {"g6.xlarge": Listed(usd("1.0064"), usd("0.41"), ("eu-central-1a", "eu-central-1b"))}},
)
GCP = PriceFile(
    "gcp",
    date(2026, 11, 1),
    ("made up for tests",),
    {"n1-standard-8+1xnvidia-tesla-t4": Shape("n1-standard-8+1xnvidia-tesla-t4", 1, "T4", 16 * GIB, 8, 30 * GIB)},
    {"europe-west4": {"n1-standard-8+1xnvidia-tesla-t4": Listed(usd("0.73"), None)}},
)
PRICES: Mapping[str, PriceFile] = {"aws": AWS, "gcp": GCP}
YAML = """
sites:
  home: {{kind: onprem, node_types: {{box: {{nodes: [a], cpus: 1}}}}}}
  sky: {{kind: {kind}, {where}, image: ubuntu, {more} node_types: {{n: {{instance_type: {shape}, max: 2, {block}}}}}}}
burst: {{baseline: [{{gpus: 1, for: 0s}}]}}
"""
WHERE = {"aws": "region: eu-central-1", "gcp": "region: europe-west4, project: lab"}


def config_of(shape: str = "g6.xlarge", block: str = "", more: str = "", kind: str = "aws") -> Config | Problems:
    text = YAML.format(kind=kind, where=WHERE[kind], shape=shape, block=block, more=more)
    loaded = load(text, "f.yaml", lambda _: PRICES)
    return loaded if isinstance(loaded, Problems) else filled(loaded, PRICES)


def bought(config: Config | Problems):
    assert isinstance(config, Config), str(config)
    return config.sites["sky"].node_types["n"]


def test_what_a_shape_has_is_not_typed_by_the_operator() -> None:
    config = config_of()
    block = bought(config)
    assert (block.gpus, block.gpu, block.cpus, block.zones) == (1, "L4", 4, ["eu-central-1a", "eu-central-1b"])
    assert block.price.on_demand == usd("1.0064")
    kind = node_types(config)["sky.n"]
    assert (kind.resources.gpus, kind.labels["fabric/gpu"]) == (1, "L4")
    assert 14 * GIB < block.memory < 16 * GIB


def test_a_key_that_says_otherwise_wins() -> None:
    block = bought(config_of(block="cpus: 2, zones: [eu-central-1c], price: {on-demand: 2 USD/h}"))
    assert (block.cpus, block.gpus, block.zones, block.price.on_demand) == (2, 1, ["eu-central-1c"], usd(2))


def test_a_discount_lowers_on_demand_prices_only_and_never_below_what_is_paid() -> None:
    block = bought(config_of(more="discount: 7.5%,", block="market: [spot, on-demand]"))
    assert block.price.on_demand == usd("0.93092")
    assert block.price.spot == usd("0.41")


def test_a_gpu_that_google_attaches_is_priced_with_its_machine() -> None:
    block = bought(config_of("n1-standard-8", block="accelerator: nvidia-tesla-t4,", kind="gcp"))
    assert (block.gpu, block.price.on_demand) == ("T4", usd("0.73"))


@pytest.mark.parametrize(
    ("shape", "block", "sentence"),
    [
        ("g6.xlrge", "", "the price files know no aws instance type g6.xlrge; did you mean g6.xlarge?"),
        ("g6.xlarge", "price: {spot: 1 USD/h}", "sky.n is sold in the on-demand market but has no on-demand price"),
    ],
)
def test_what_nobody_knows_is_said_with_its_place(shape: str, block: str, sentence: str) -> None:
    problems = config_of(shape, block)
    assert isinstance(problems, Problems)
    assert any(str(problem).startswith("f.yaml:4:") and sentence in str(problem) for problem in problems.items)


def test_a_missing_spot_price_is_said() -> None:
    problems = config_of("n1-standard-8", block="accelerator: nvidia-tesla-t4, market: [spot]", kind="gcp")
    assert "no spot price of n1-standard-8 in europe-west4 is known" in str(problems)


def test_a_shape_that_no_file_knows_is_fine_when_the_operator_says_everything() -> None:
    block = bought(config_of("x9.huge", "gpus: 0, cpus: 3, memory: 4GiB, zones: [z], price: {on-demand: 1 USD/h}"))
    assert (block.gpus, block.cpus) == (0, 3)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('"format": 1', '"format": 7', "format: 1"),
        ('"cpus": 4, ', "", "'cpus' is missing"),
        ('"cpus": 4', '"cpus": 0', "g6.xlarge cannot be"),
        ('"on_demand": "1.0064"', '"on_demand": "-1"', "no price above zero"),
        ('"2026-11-01"', '"yesterday"', "not what it should be"),
        ("{", "", "not JSON"),
    ],
)
def test_a_broken_price_file_is_refused_with_a_sentence(old: str, new: str, sentence: str) -> None:
    with pytest.raises(PriceFileError, match=sentence):
        parse(text_of(AWS).replace(old, new, 1))


names = st.text("abcdefgh1234.-", min_size=1, max_size=8)
prices = st.integers(1, 10**9)
shapes = st.builds(
    lambda name, gpus, cpus, memory: Shape(
        name, gpus, "L4" if gpus else "", 24 * GIB if gpus else 0, cpus, memory * GIB
    ),
    names,
    st.integers(0, 8),
    st.integers(1, 200),
    st.integers(1, 2000),
)


@st.composite
def price_files(draw: st.DrawFn) -> PriceFile:
    known = {shape.name: shape for shape in draw(st.lists(shapes, min_size=1, max_size=4))}
    entries = st.builds(Listed, prices, st.none() | prices, st.lists(names, max_size=2).map(tuple))
    regions = st.dictionaries(names, st.dictionaries(st.sampled_from(sorted(known)), entries, min_size=1), max_size=3)
    return PriceFile("aws", draw(st.dates()), ("x",), known, draw(regions))


@given(price_files())
def test_a_price_file_reads_back_as_it_was_written(file: PriceFile) -> None:
    assert parse(text_of(file)) == file
