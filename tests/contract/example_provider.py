"""A whole provider in under 100 lines, as a third party would write it; docs/howto/add-a-provider.md explains it.

Its cloud (``example_cloud.py``) has three calls: ``create`` with a token, ``all`` and ``end``. The contract suite runs
on it as on every other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from autoscaler.providers import base
from autoscaler.providers.base import Check, Instance, LaunchSpec, Provider, ProviderError
from fabric.config.sites import OtherSite
from fabric.model.money import Tariff
from fabric.model.nodes import Market, Offer

T = TypeVar("T")
ERRORS: Mapping[str, type[ProviderError]] = {
    "sold out": base.CapacityError,
    "over limit": base.QuotaError,
    "slow down": base.ThrottledError,
    "who are you": base.CredentialsError,
    "nonsense": base.BadRequestError,
    "gone": base.NotFoundError,
}


def from_site(site_name: str, site: OtherSite, owner: str) -> Provider:
    """What the entry point names: make the provider, call nobody."""
    from tests.contract.example_cloud import connect  # the SDK, which nobody else needs

    return ExampleProvider(site_name, site, owner, connect(site.settings["region"]))


class ExampleProvider:
    """Five methods and nothing else: no retries, no journal, no waiting, nothing remembered."""

    def __init__(self, name: str, site: OtherSite, owner: str, cloud: Any) -> None:
        self._name, self._site, self._owner, self._cloud = name, site, owner, cloud

    def offers(self) -> Sequence[Offer]:
        """See ``Provider.offers``."""
        return [
            Offer(f"{name}/{zone}/on-demand", name, self._name, zone, Market.ON_DEMAND, Tariff(price, 60))
            for key, block in self._site.node_types.items()
            for name, price in ((f"{self._name}.{key}", block.price.on_demand or 0),)
            for zone in block.zones
        ]

    def launch(self, specs: Sequence[LaunchSpec]) -> Sequence[Instance | ProviderError]:
        """See ``Provider.launch``: errors are values, in the order of the specs."""
        return [_answer(lambda spec=spec: self._launch(spec)) for spec in specs]

    def list(self) -> Sequence[Instance]:
        """See ``Provider.list``: one listing is one truth, every page of it, only what carries our tag."""
        machines = [self._instance(machine) for machine in _call(self._cloud.all)]
        return [instance for instance in machines if instance.tags.get(base.TAG_OWNER) == self._owner]

    def terminate(self, instance_ids: Sequence[str]) -> Mapping[str, ProviderError | None]:
        """See ``Provider.terminate``: ``NotFoundError`` is how a caller learns that it is over."""
        return {one: _answer(lambda one=one: _call(self._cloud.end, one)) for one in instance_ids}

    def check(self) -> Sequence[Check]:
        """See ``Provider.check``: never raises, and says what to do."""
        error = _answer(self.list)
        remedy = "start the cloud" if isinstance(error, ProviderError) else ""
        return [Check("reachable", not remedy, str(error) if remedy else "it answers", remedy)]

    def _launch(self, spec: LaunchSpec) -> Instance:
        offer = spec.offer
        wanted = f"{offer.node_type}/{offer.zone}/{offer.market}"
        what = {"type": wanted, "script": spec.user_data, "tags": dict(spec.tags)}
        return self._instance(_call(self._cloud.create, spec.token, what))

    def _instance(self, machine: Mapping[str, Any]) -> Instance:
        state, times = base.InstanceState(machine["state"]), (machine["begun_ms"], machine["ended_ms"])
        return Instance(machine["id"], self._name, state, machine["tags"], "", *times, machine["why"])


def _call(call: Callable[..., T], *args: Any) -> T:
    """The one place where the cloud's errors become ours; what is not in the table is a bug, never a guess."""
    try:
        return call(*args)
    except ConnectionError as error:
        raise base.NetworkError(str(error)) from error
    except RuntimeError as error:
        raise ERRORS.get(str(error), base.ProviderBugError)(
            f"the cloud says: {error}", cloud_code=str(error)
        ) from error


def _answer(call: Callable[[], T]) -> T | ProviderError:
    try:
        return call()
    except ProviderError as error:
        return error
