"""The configuration as the queue reads it."""

from __future__ import annotations

from pathlib import Path

from fabric.admission.rules import queue_rules
from fabric.config.load import load
from fabric.config.schema import HOME_ONLY, Config
from fabric.model.money import USD

TEXT = """
sites:
  home: {kind: onprem, labels: {jurisdiction: eu}, node_types: {box: {nodes: [a], gpus: 8, cpus: 64}}}
  sky: {kind: sandbox, node_types: {box: {cpus: 8, gpus: 1, max: 2, price: {on-demand: 1 USD/h}}}}
burst: {baseline: [{gpus: 4, for: 5m}, {cpus: 64, for: 1h}]}
data_classes: {open: {sites: any}, patient: {sites: [home], spot: never}}
teams: {vision: {gpus: 16, weight: 2, max_priority: 10}}
budgets: [{scope: team/vision, per: day, limit: 150 USD}, {scope: team/guests, per: month, limit: 5 USD}]
datasets: {slides: {site: home, size: 1GB, egress: 0.09 USD}}
queue: {undeclared: 3, half_life: 1d, preemption: false}
"""


def test_quotas_weights_verdicts_and_data_sets_come_out_in_plain_values() -> None:
    config = load(TEXT, "fabric.yaml")
    assert isinstance(config, Config)
    rules = queue_rules(config)
    assert rules.home == {"home"} and rules.half_life_s == 86400 and not rules.preemption
    vision, guests, others = rules.team("vision"), rules.team("guests"), rules.team("others")
    assert (vision.gpus, vision.weight, vision.max_priority, vision.undeclared) == (16, 2.0, 10, 3)
    assert vision.budgets[0].limit == 150 * USD and guests.budgets[0].per == "month" and not others.budgets
    assert rules.classes["open"].sites == {"home", "sky"} and rules.classes["open"].spot
    assert rules.classes["patient"].sites == {"home"} and not rules.classes["patient"].spot
    assert rules.classes[HOME_ONLY].sites == {"home"}
    assert rules.datasets["slides"].egress_per_gb == 90_000
    assert rules.baseline == ("4 GPUs deep for 300 s", "64 CPUs deep for 3600 s")


def test_the_annotated_configuration_is_read() -> None:
    path = Path(__file__).resolve().parents[3] / "configs" / "fabric.yaml"
    config = load(path.read_text(), str(path))
    assert isinstance(config, Config)
    assert queue_rules(config).team("vision").gpus == 2
