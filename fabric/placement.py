"""For code that wants its placement explicitly: where this job's work may run, and gangs that live in one site.

Nothing here is needed for data to stay where it may be: every task, actor and placement group of a job is placed anyway
(``elastic_fabric_worker``). Importable in jobs on any node of the fabric, unless the job's own files have a ``fabric``.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence

import ray
from ray._private.state import available_resources_per_node
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from elastic_fabric_worker import SELECTOR, both

_SITE = "fabric/site"
_WAIT_S = 3600


class NotInAFabricJobError(RuntimeError):
    """This process was not started for a job of the fabric, so nothing says where its work may run."""


class WrongClassError(RuntimeError):
    """The job's data class is not the one that the code asks for."""


class GangTimeoutError(TimeoutError):
    """There was no room for a whole gang in time; nothing of it is kept."""


def data_class() -> str:
    """The data class of this job.

    Raises:
        NotInAFabricJobError: outside of a job.
    """
    return _variable("FABRIC_DATA_CLASS")


def sites() -> tuple[str, ...]:
    """The sites this job was admitted to.

    Raises:
        NotInAFabricJobError: outside of a job.
    """
    return tuple(_variable("FABRIC_SITES").split(","))


def selector() -> dict[str, str]:
    """The label selector that every task, actor and bundle of this job gets, in Ray's syntax.

    Raises:
        NotInAFabricJobError: outside of a job.
    """
    return json.loads(_variable(SELECTOR))


def gang(
    bundles: Sequence[Mapping[str, float]],
    strategy: str = "PACK",
    *,
    data_class: str | None = None,
    one_site: bool = True,
    timeout_s: float | None = None,
) -> PlacementGroup:
    """A placement group with all of ``bundles`` placed, all in one site of those the job was admitted to.

    A job that declares its needs is admitted to one site, and there the gang waits for room. A job that declared
    nothing may have several: the gang goes where it fits at the moment; if that is nowhere, it waits in the site of
    this process.

    Args:
        bundles: the resources of each member, for example ``[{"GPU": 1}] * 8``.
        strategy: one of Ray's: PACK, SPREAD, STRICT_PACK, STRICT_SPREAD.
        data_class: what the code is meant for; a job of another class is refused. None for any.
        one_site: False lets the gang span the job's sites.
        timeout_s: seconds to wait for room; None for as long as it takes.

    Raises:
        NotInAFabricJobError: outside of a job.
        WrongClassError: the job has another class.
        GangTimeoutError: not all bundles were placed in time. Their demand is taken back.
    """
    own = _variable("FABRIC_DATA_CLASS")
    if data_class is not None and data_class != own:
        raise WrongClassError(f"This code is for data of class {data_class}, and the job was admitted with {own}.")
    members = [dict(bundle) for bundle in bundles]
    place = selector()
    if one_site:
        place = both(place, {_SITE: _one_site(members)})
    group = placement_group(members, strategy, bundle_label_selector=[place] * len(members))
    if not _wait(group, timeout_s):
        remove_placement_group(group)
        raise GangTimeoutError(
            f"{len(members)} bundles were not all placed within {timeout_s:g} s on nodes with {place}; nothing is held."
        )
    return group


def _one_site(bundles: Sequence[Mapping[str, float]]) -> str:
    allowed = sites()
    here = ray.get_runtime_context().get_node_labels().get(_SITE, "")
    preferred = sorted(allowed, key=lambda site: (site != here, site))
    if len(allowed) == 1:
        return allowed[0]
    labels = {node["NodeID"]: node["Labels"].get(_SITE) for node in ray.nodes() if node["Alive"]}
    free: dict[str, dict[str, float]] = {site: {} for site in allowed}
    for node, resources in available_resources_per_node().items():
        for name, amount in resources.items():
            room = free.get(labels.get(node) or "", {})
            room[name] = room.get(name, 0.0) + amount
    wanted: dict[str, float] = {}
    for name, amount in (pair for bundle in bundles for pair in bundle.items()):
        wanted[name] = wanted.get(name, 0.0) + amount
    fits = (site for site in preferred if all(free[site].get(name, 0.0) >= amount for name, amount in wanted.items()))
    return next(fits, preferred[0])


def _wait(group: PlacementGroup, timeout_s: float | None) -> bool:
    if timeout_s is not None:
        # Ray counts whole seconds.
        return group.wait(math.ceil(timeout_s))
    while not group.wait(_WAIT_S):
        pass
    return True


def _variable(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise NotInAFabricJobError(
            f"{name} is not set: this process was not started for a job of the fabric. "
            "Submit the code with ray job submit."
        )
    return value
