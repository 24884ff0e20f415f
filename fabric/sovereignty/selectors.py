"""Verdicts as Ray label selectors: what has to stand on every task, actor and bundle of a job."""

from __future__ import annotations

from collections.abc import Collection

from elastic_fabric_worker import NOWHERE
from fabric.config.schema import Config
from fabric.model.labels import LABEL_MARKET, LABEL_SITE, Constraint, Operator, Selector
from fabric.sovereignty.rules import SAFE_FROM_RECLAIM, allowed_sites


def selector(config: Config, data_class: str, sites: Collection[str] | None = None) -> Selector:
    """The nodes on which work on data of ``data_class`` may run.

    It names what is allowed, never what is not: a node without the label does not match. With no site allowed, as for
    an unknown class, no node matches.

    Args:
        config: the configuration in force.
        data_class: the name of a class.
        sites: only these of the allowed sites; None for all of them.
    """
    allowed = allowed_sites(config, data_class)
    chosen = allowed if sites is None else allowed.intersection(sites)
    constraints = [Constraint(LABEL_SITE, Operator.IN, tuple(sorted(chosen)))]
    block = config.data_classes.get(data_class)
    if block is not None and block.spot == "never":
        markets = tuple(sorted(market.value for market in SAFE_FROM_RECLAIM))
        constraints.append(Constraint(LABEL_MARKET, Operator.IN, markets))
    return Selector(tuple(constraints))


def ray_selector(selector: Selector) -> dict[str, str]:
    """``selector`` in Ray's own syntax, which has one expression per label key.

    Raises:
        ValueError: two constraints are about the same label.
    """
    expressions: dict[str, str] = {}
    for constraint in selector.constraints:
        if constraint.key in expressions:
            raise ValueError(f"Ray takes one expression per label, and {constraint.key} has several: {selector}")
        word = "in" if constraint.operator is Operator.IN else "!in"
        expressions[constraint.key] = f"{word}({','.join(constraint.values) or NOWHERE})"
    return expressions
