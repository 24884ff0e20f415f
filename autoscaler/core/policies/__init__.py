"""Policies: which waiting work is worth buying for. A new one is one file here and one line in ``POLICIES``."""

from __future__ import annotations

from collections.abc import Mapping

from autoscaler.core.policies.base import Policy, Waiting, Worth
from autoscaler.core.policies.threshold import ThresholdPolicy

__all__ = ["POLICIES", "Policy", "Waiting", "Worth", "policy_named"]

POLICIES: Mapping[str, Policy] = {policy.name: policy for policy in (ThresholdPolicy(),)}


def policy_named(name: str) -> Policy:
    """Look a policy up by its name in the configuration.

    Raises:
        KeyError: there is none.
    """
    return POLICIES[name]
