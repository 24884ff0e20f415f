"""Whose word counts for the data class of a job."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric.config.load import load
from fabric.config.schema import Config
from fabric.sovereignty.classify import ClassRefusedError, classify, places

TEXT = """
sites:
  home: {kind: onprem, labels: {country: de}, node_types: {box: {nodes: [a], cpus: 1}}}
  east: {kind: sandbox, endpoint: "127.0.0.1:1", labels: {country: de}, node_types: {g: {cpus: 1, max: 1,
         market: [spot, on-demand], price: {on-demand: 1 USD/h, spot: 1 USD/h}}}}
  west: {kind: sandbox, endpoint: "127.0.0.1:2", node_types: {g: {cpus: 1, max: 1, market: [on-demand],
         price: {on-demand: 1 USD/h}}}}
burst: {baseline: [{gpus: 1, for: 0s}]}
defaults: {data_class: german}
data_classes:
  open: {sites: any}
  german: {sites: {country: de}}
  steady: {sites: {country: de}, spot: never}
  western: {sites: [home, west]}
  own: {sites: [home], spot: never}
teams:
  vision: {data_class: open}
  clinic: {data_class: steady}
  far: {data_class: western}
  plain: {}
datasets:
  slides: {site: home, size: 1GiB, data_class: own}
  maps: {site: home, size: 1GiB, data_class: german}
  crops: {site: home, size: 1GiB}
"""
CONFIG = load(TEXT.encode(), "test.yaml")
assert isinstance(CONFIG, Config), str(CONFIG)
CLASSES = ["home-only", *CONFIG.data_classes]


@pytest.mark.parametrize(
    ("team", "datasets", "asked", "given"),
    [
        ("vision", (), None, "open"),
        ("plain", (), None, "german"),
        ("", (), None, "german"),
        ("nobody", (), None, "german"),
        ("vision", ("crops",), None, "open"),
        ("vision", ("maps",), None, "german"),
        ("vision", ("maps", "slides"), None, "own"),
        ("clinic", ("maps",), None, "steady"),
        ("vision", (), "home-only", "home-only"),
        ("clinic", (), "own", "own"),
        ("clinic", (), "home-only", "home-only"),
        ("vision", ("slides",), "home-only", "home-only"),
    ],
)
def test_the_strictest_of_team_data_and_user_counts(
    team: str, datasets: tuple[str, ...], asked: str | None, given: str
) -> None:
    assert classify(CONFIG, team, datasets, asked).data_class == given


@pytest.mark.parametrize(
    ("team", "datasets", "asked", "reason", "word"),
    [
        ("clinic", (), "german", "class_widened", "east spot"),
        ("clinic", (), "open", "class_widened", "never for a wider one"),
        ("vision", ("slides",), "open", "class_widened", "data set slides"),
        ("far", ("maps",), None, "incomparable_classes", "neither is the stricter"),
        ("clinic", (), "western", "class_widened", "west on-demand"),
        ("vision", (), "opne", "unknown_class", "'opne'"),
        ("vision", ("slices",), None, "unknown_dataset", "'slices'"),
    ],
)
def test_what_widens_or_cannot_be_compared_is_refused_with_a_sentence(
    team: str, datasets: tuple[str, ...], asked: str | None, reason: str, word: str
) -> None:
    with pytest.raises(ClassRefusedError, match=word) as refused:
        classify(CONFIG, team, datasets, asked)
    assert refused.value.reason == reason


@given(
    team=st.sampled_from(["", *CONFIG.teams]),
    datasets=st.lists(st.sampled_from([*CONFIG.datasets]), max_size=3),
    asked=st.none() | st.sampled_from(CLASSES),
)
def test_no_answer_allows_a_place_that_team_data_or_user_forbid(team: str, datasets: list[str], asked: str) -> None:
    try:
        got = places(CONFIG, classify(CONFIG, team, datasets, asked).data_class)
    except ClassRefusedError:
        return
    block = CONFIG.teams.get(team)
    implied = [block.data_class if block and block.data_class else "german", asked]
    implied += [CONFIG.datasets[each].data_class for each in datasets]
    for data_class in filter(None, implied):
        assert got <= places(CONFIG, data_class)
