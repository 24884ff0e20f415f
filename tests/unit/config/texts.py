"""Configurations that tests start from, and a way to say what is wrong with one."""

from __future__ import annotations

from fabric.config.load import load
from fabric.config.problems import Problems
from fabric.config.schema import Config

GOOD = """\
sites:
  home:
    kind: onprem
    labels: {country: de}
    node_types:
      big: {nodes: [n1, n2], gpus: 8, cpus: 64, memory: 512GiB}
  cloud:
    kind: sandbox
    node_types:
      small: {gpus: 1, cpus: 4, max: 3, price: {on-demand: 1 USD/h}}
burst:
  baseline:
    - {gpus: 4, for: 5m}
"""


def config(text: str = GOOD) -> Config:
    """The configuration in ``text``, which has no problem."""
    loaded = load(text, "f.yaml")
    assert isinstance(loaded, Config), str(loaded)
    return loaded


def problems(text: str | bytes) -> list[str]:
    """The problems of ``text``, one line each; empty when it is good."""
    loaded = load(text, "f.yaml")
    return str(loaded).splitlines() if isinstance(loaded, Problems) else []


def edited(old: str, new: str, text: str = GOOD) -> str:
    """``text`` with ``old``, which stands in it once, replaced."""
    assert text.count(old) == 1, old
    return text.replace(old, new)
