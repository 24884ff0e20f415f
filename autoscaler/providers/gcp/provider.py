"""Google Cloud: one project and region behind the five methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from autoscaler.providers.base import (
    Check,
    Instance,
    InstanceState,
    LaunchSpec,
    NotFoundError,
    Provider,
    ProviderError,
)
from autoscaler.providers.gcp.connect import Connection
from autoscaler.providers.gcp.history import History
from autoscaler.providers.gcp.instances import Instances
from autoscaler.providers.gcp.launch import WAIT_S, Launcher
from autoscaler.providers.gcp.leftovers import SCAN_EVERY_S, Leftovers
from autoscaler.providers.gcp.preflight import Preflight
from autoscaler.providers.gcp.reply import Found
from autoscaler.providers.gcp.request import by_bulk_insert
from fabric.config.shapes import price_in
from fabric.config.sites import GcpNodeType, GcpSite
from fabric.model.money import Tariff
from fabric.model.nodes import Market, Offer

# The most that one page of Google's lists holds.
PAGE_SIZE = 500
_AT_ONCE = 16


def from_site(site_name: str, site: GcpSite, owner: str) -> Provider:
    """The provider of a configured Google Cloud site, seeing only what carries ``owner``'s tag."""
    return GcpProvider(site_name, site, owner)


class GcpProvider:
    """One Google Cloud project and region; safe to use from several threads.

    Args:
        name: the site's name.
        site: its block, filled in from the price files.
        owner: value of the owner tag.
        page_size: instances a page of a listing.
        wait_s: longest wait for what comes of a launch, in seconds.
        scan_every_s: seconds between two looks for disks that nobody uses.
    """

    def __init__(
        self,
        name: str,
        site: GcpSite,
        owner: str,
        page_size: int = PAGE_SIZE,
        wait_s: float = WAIT_S,
        scan_every_s: float = SCAN_EVERY_S,
    ) -> None:
        self._name = name
        self._site = site
        connection = Connection(site)
        self._instances = Instances(name, site, owner, connection, page_size)
        self._leftovers = Leftovers(self._instances, scan_every_s)
        self._history = History(self._instances)
        self._launcher = Launcher(name, site, self._instances, self._leftovers.disk, wait_s)
        self._preflight = Preflight(name, site, connection, self._instances)

    def offers(self) -> Sequence[Offer]:
        """See ``Provider.offers``: every zone and market of the site that has a price. Google is not asked."""
        return [
            offer
            for key, block in self._site.node_types.items()
            for zone in ([""] if by_bulk_insert(block) else block.zones)
            for market in block.market
            if (offer := self._offer(key, block, zone, market)) is not None
        ]

    def launch(self, specs: Sequence[LaunchSpec]) -> Sequence[Instance | ProviderError]:
        """See ``Provider.launch``: all inserts at once, then their operations until each has an answer."""
        results = self._launcher.launch(specs)
        self._history.saw(result for result in results if isinstance(result, Found))
        return [result.instance if isinstance(result, Found) else result for result in results]

    def list(self) -> Sequence[Instance]:
        """See ``Provider.list``. A machine that has only stopped is listed as ended, and deleted with its disk."""
        listed = {one.instance.instance_id: one for one in self._instances.owned()}
        for instance_id, one in listed.items():
            if one.instance.state is InstanceState.ENDED:
                zone, _, name = instance_id.partition("/")
                self._leftovers.stopped(zone, name)
        told = self._history.with_ended(listed)
        self._leftovers.clear()
        return told

    def terminate(self, instance_ids: Sequence[str]) -> Mapping[str, ProviderError | None]:
        """See ``Provider.terminate``; the ids are ``ZONE/NAME``, or a name alone, which is looked for."""
        if not instance_ids:
            return {}
        with ThreadPoolExecutor(min(_AT_ONCE, len(instance_ids)), thread_name_prefix="gcp-end") as pool:
            return dict(zip(instance_ids, pool.map(self._terminate, instance_ids), strict=True))

    def check(self) -> Sequence[Check]:
        """See ``Provider.check``."""
        return self._preflight.run()

    def _terminate(self, instance_id: str) -> ProviderError | None:
        zone, _, name = instance_id.rpartition("/")
        try:
            places = [(zone, name)] if zone else self._instances.named(name)
            if not places:
                return NotFoundError(f"no instance {name} in {self._site.region}", cloud_code="notFound")
            for place in places:
                self._remember(*place)
                self._instances.delete(*place)
        except ProviderError as error:
            # Google is ending it already.
            return None if error.cloud_code == "resourceNotReady" else error
        return None

    def _remember(self, zone: str, name: str) -> None:
        """See an instance once before its end: how it ended is asked by its number, which only it has."""
        if self._history.knows(f"{zone}/{name}"):
            return
        with suppress(ProviderError):
            self._history.saw([self._instances.get(zone, name)])

    def _offer(self, key: str, block: GcpNodeType, zone: str, market: Market) -> Offer | None:
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
