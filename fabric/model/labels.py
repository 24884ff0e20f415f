"""Node labels and the selectors that match them, with the meaning Ray gives them.

Operators follow Ray's label selectors (https://docs.ray.io/en/latest/ray-core/scheduling/labels.html):
equals and ``in(...)`` are IN, ``!x`` and ``!in(...)`` are NOT_IN. A label that a node lacks fails IN and
passes NOT_IN.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

LABEL_SITE = "fabric/site"
LABEL_SITE_KIND = "fabric/site-kind"
LABEL_NODE_TYPE = "fabric/node-type"
LABEL_MARKET = "fabric/market"
LABEL_ZONE = "fabric/zone"

Labels = Mapping[str, str]


class Operator(StrEnum):
    """How a constraint compares a node's label with its values."""

    IN = "in"
    NOT_IN = "not_in"


@dataclass(frozen=True, slots=True, order=True)
class Constraint:
    """One condition on one label: ``key`` IN or NOT_IN ``values`` (sorted, so equal constraints hash alike)."""

    key: str
    operator: Operator
    values: tuple[str, ...]

    def matches(self, labels: Labels) -> bool:
        """Whether a node with ``labels`` meets this condition."""
        present = labels.get(self.key) in self.values
        return present if self.operator is Operator.IN else not present


@dataclass(frozen=True, slots=True)
class Selector:
    """A conjunction of constraints; the empty selector matches every node."""

    constraints: tuple[Constraint, ...] = ()

    def matches(self, labels: Labels) -> bool:
        """Whether a node with ``labels`` meets every condition."""
        return all(constraint.matches(labels) for constraint in self.constraints)
