"""Azure: one subscription, resource group and location behind the five methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from autoscaler.providers.azure.connect import POLL_EVERY_S, Connection
from autoscaler.providers.azure.launch import WAIT_S, Launcher
from autoscaler.providers.azure.machines import VIEW_EVERY_S, Machines
from autoscaler.providers.azure.memory import Memory
from autoscaler.providers.azure.preflight import Preflight
from autoscaler.providers.azure.reply import instance_of, is_left_over
from autoscaler.providers.base import (
    Check,
    Instance,
    LaunchSpec,
    NotFoundError,
    Provider,
    ProviderError,
)
from fabric.config.shapes import price_in
from fabric.config.sites import AzureNodeType, AzureSite
from fabric.model.money import Tariff
from fabric.model.nodes import Market, Offer

# Azure's machines need no zone; an offer without one says so.
NO_ZONE = "none"
_AT_ONCE = 16


def from_site(site_name: str, site: AzureSite, owner: str) -> Provider:
    """The provider of a configured Azure site, seeing only what carries ``owner``'s tag."""
    return AzureProvider(site_name, site, owner)


class AzureProvider:
    """One Azure resource group; safe to use from several threads.

    Args:
        name: the site's name.
        site: its block, filled in from the price files.
        owner: value of the owner tag.
        wait_s: longest wait for what comes of a launch, in seconds.
        poll_every_s: pause between two looks at an operation, where Azure names none.
        view_every_s: seconds between two looks at whether a running machine still runs.
    """

    def __init__(
        self,
        name: str,
        site: AzureSite,
        owner: str,
        wait_s: float = WAIT_S,
        poll_every_s: float = POLL_EVERY_S,
        view_every_s: float = VIEW_EVERY_S,
    ) -> None:
        self._name = name
        self._site = site
        connection = Connection(site, poll_every_s)
        self._machines = Machines(site, owner, connection, view_every_s)
        self._memory = Memory()
        self._launcher = Launcher(name, site, self._machines, self._memory, wait_s)
        self._preflight = Preflight(site, connection, self._machines)

    def offers(self) -> Sequence[Offer]:
        """See ``Provider.offers``: every zone and market of the site that has a price. Azure is not asked."""
        return [
            offer
            for key, block in self._site.node_types.items()
            for zone in block.zones or [NO_ZONE]
            for market in block.market
            if (offer := self._offer(key, block, zone, market)) is not None
        ]

    def launch(self, specs: Sequence[LaunchSpec]) -> Sequence[Instance | ProviderError]:
        """See ``Provider.launch``: all requests at once, then their operations until each has an answer."""
        results = self._launcher.launch(specs)
        self._memory.saw(result for result in results if isinstance(result, Instance) and result.ended_at_ms is None)
        return results

    def list(self) -> Sequence[Instance]:
        """See ``Provider.list``. A machine that only stopped, or never started, is deleted and listed as ending."""
        listed: dict[str, Instance] = {}
        for found in self._machines.owned():
            listed[str(found.name)] = instance_of(found, self._name)
            if is_left_over(found):
                with suppress(ProviderError):
                    self._machines.delete(str(found.name))
        # What was made a moment ago may not be listed yet; asked for by name, Azure knows.
        for name in self._memory.living() - listed.keys():
            try:
                listed[name] = instance_of(self._machines.get(name), self._name)
            except NotFoundError:
                self._memory.gone(name, self._machines.clock_ms)
        return [*self._memory.saw(listed.values()), *self._memory.all_ended()]

    def terminate(self, instance_ids: Sequence[str]) -> Mapping[str, ProviderError | None]:
        """See ``Provider.terminate``; the ids are names."""
        if not instance_ids:
            return {}
        with ThreadPoolExecutor(min(_AT_ONCE, len(instance_ids)), thread_name_prefix="azure-end") as pool:
            return dict(zip(instance_ids, pool.map(self._terminate, instance_ids), strict=True))

    def check(self) -> Sequence[Check]:
        """See ``Provider.check``."""
        return self._preflight.run()

    def _terminate(self, name: str) -> ProviderError | None:
        try:
            # Azure answers the deletion of what is not there with success.
            found = self._machines.get(name)
            self._memory.saw([instance_of(found, self._name)])
            self._memory.asked_to_end(name)
            self._machines.delete(name)
        except NotFoundError as error:
            self._memory.gone(name, self._machines.clock_ms)
            return error
        except ProviderError as error:
            return error
        return None

    def _offer(self, key: str, block: AzureNodeType, zone: str, market: Market) -> Offer | None:
        per_hour = price_in(block.price, market) if block.price is not None else None
        if block.price is None or per_hour is None:
            return None
        node_type = f"{self._name}.{key}"
        return Offer(
            offer_id=f"{node_type}/{zone}/{market}",
            node_type=node_type,
            site=self._name,
            zone=zone,
            market=market,
            tariff=Tariff(per_hour, round(block.price.minimum)),
            boot_seconds=block.boot,
        )
