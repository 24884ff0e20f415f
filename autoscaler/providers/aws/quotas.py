"""EC2 counts its quotas in vCPUs by family of instance types and market; what one refuses, the others may still give.

Source: https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-instance-quotas.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from fabric.model.nodes import Market


@dataclass(frozen=True, slots=True)
class Family:
    """Instance types that share a quota.

    Attributes:
        name: as the console has it.
        on_demand, spot: codes of its two quotas; ``""`` where it has none.
    """

    name: str
    on_demand: str
    spot: str


_STANDARD = Family("Standard (A, C, D, H, I, M, R, T, Z)", "L-1216C47A", "L-34B43A08")
# Longest prefix first; what none matches is Standard.
_FAMILIES = (
    ("trn", Family("Trn", "L-2C3B7624", "L-6B0D517C")),
    ("inf", Family("Inf", "L-1945791B", "L-B5D1601B")),
    ("hpc", Family("HPC", "L-F7808C92", "")),
    ("dl", Family("DL", "L-6E869C2A", "L-85EED4F7")),
    ("gr", Family("G and VT", "L-DB2E81BA", "L-3819A6DF")),
    ("vt", Family("G and VT", "L-DB2E81BA", "L-3819A6DF")),
    ("g", Family("G and VT", "L-DB2E81BA", "L-3819A6DF")),
    ("p", Family("P", "L-417A185B", "L-7212CCBC")),
    ("f", Family("F", "L-74FC7D96", "L-88CF9481")),
    ("x", Family("X", "L-7295265B", "L-E3A00192")),
    ("u", Family("High Memory", "L-43DA4232", "")),
)
# P5 and P6 have one of their own in the spot market.
_NEW_P = Family("P5 and P6", "L-417A185B", "L-C4BD4855")


def family_of(instance_type: str) -> Family:
    """The family whose quota an instance type counts against."""
    letters = re.match(r"[a-z]*", instance_type.lower())
    name = letters.group() if letters else ""
    if re.match(r"p[56]", instance_type):
        return _NEW_P
    return next((family for prefix, family in _FAMILIES if _is(name, prefix)), _STANDARD)


def quota_name(instance_type: str, market: Market) -> str:
    """What ``QuotaError.family`` says, for example ``aws G and VT spot``."""
    return f"aws {family_of(instance_type).name} {market}"


def _is(letters: str, prefix: str) -> bool:
    # One letter names a series exactly (``g``); the longer ones may be followed by others (``trn`` in ``trn1n``).
    return letters == prefix or (len(prefix) > 1 and letters.startswith(prefix))
