"""Verdicts as Ray label selectors: what has to stand on every task, actor and bundle of a job."""

from __future__ import annotations

from fabric.config.schema import Config
from fabric.model.labels import LABEL_MARKET, LABEL_SITE, Constraint, Operator, Selector
from fabric.sovereignty.rules import SAFE_FROM_RECLAIM, allowed_sites


def selector(config: Config, data_class: str) -> Selector:
    """The nodes on which work on data of ``data_class`` may run.

    It names what is allowed, never what is not: a node without the label does not match. With no site allowed, as for
    an unknown class, no node matches.
    """
    constraints = [Constraint(LABEL_SITE, Operator.IN, tuple(sorted(allowed_sites(config, data_class))))]
    block = config.data_classes.get(data_class)
    if block is not None and block.spot == "never":
        markets = tuple(sorted(market.value for market in SAFE_FROM_RECLAIM))
        constraints.append(Constraint(LABEL_MARKET, Operator.IN, markets))
    return Selector(tuple(constraints))
