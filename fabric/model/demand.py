"""What Ray has been asked for and has not placed: shapes with counts, and gangs.

Requests stay grouped by shape all the way through the planner. Ray reports them grouped
(``ResourceRequestByCount``); a million equal tasks are one ``Demand`` with a count.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from fabric.model.labels import Selector
from fabric.model.resources import Resources


@dataclass(frozen=True, slots=True)
class AntiAffinity:
    """The request must not share a node with another that carries the same ``(name, value)`` mark.

    Ray expresses STRICT_SPREAD this way: name is the placement group, and placing a bundle marks its node.
    """

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Shape:
    """One kind of request.

    Attributes:
        resources: what one request needs.
        selectors: alternatives in order of preference; the request may run where any of them matches. Empty
            means anywhere.
        anti_affinity: marks it must not meet on a node.
    """

    resources: Resources
    selectors: tuple[Selector, ...] = ()
    anti_affinity: tuple[AntiAffinity, ...] = ()


@dataclass(frozen=True, slots=True)
class Demand:
    """``count`` requests of one shape."""

    shape: Shape
    count: int


class Strategy(StrEnum):
    """How the bundles of a gang may be spread over nodes; Ray's placement-group strategies."""

    PACK = "PACK"
    SPREAD = "SPREAD"
    STRICT_PACK = "STRICT_PACK"
    STRICT_SPREAD = "STRICT_SPREAD"


@dataclass(frozen=True, slots=True)
class Gang:
    """Bundles that are placed all or none (a Ray placement group).

    Attributes:
        gang_id: Ray's placement-group id where known, else a position in the request; only used to name it.
        bundles: the shapes, one per bundle. STRICT_PACK bundles are already merged into one shape and
            STRICT_SPREAD bundles carry anti-affinity, the way Ray reports them.
        strategy: for display and for the soft preference between PACK and SPREAD.
    """

    gang_id: str
    bundles: tuple[Shape, ...]
    strategy: Strategy = Strategy.PACK
