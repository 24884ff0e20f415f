"""What a sandbox site sells: the node types of its configuration, at the prices of the moment."""

from __future__ import annotations

import threading
from collections.abc import Callable

from autoscaler.sandbox.errors import CloudError, ErrorCode
from autoscaler.sandbox.faults import PriceSet
from autoscaler.sandbox.store import PriceChange, Store
from fabric.config.sites import SandboxNodeType, SandboxSite
from fabric.model.money import MicroUSD, Tariff
from fabric.model.nodes import Market, Offer

FROM_CONFIG = "configuration"
BY_SCRIPT = "script"

_Key = tuple[str, str, Market]


class Catalogue:
    """Offers and their prices.

    A price set by script holds until the configuration names another than it named before; every change is in
    the price history.
    """

    def __init__(self, site_name: str, site: SandboxSite, store: Store, now_ms: Callable[[], int]) -> None:
        self._site_name = site_name
        self._store = store
        self._now_ms = now_ms
        self._lock = threading.RLock()
        self._node_types: dict[str, SandboxNodeType] = {}
        self._prices: dict[_Key, MicroUSD] = {}
        self.load(site)

    def load(self, site: SandboxSite) -> None:
        """Take over a (new) configuration."""
        history = self._store.prices()
        latest = {_key(change): change.per_hour for change in history}
        configured = {_key(change): change.per_hour for change in history if change.cause == FROM_CONFIG}
        node_types = {f"{self._site_name}.{key}": node_type for key, node_type in site.node_types.items()}
        for name, node_type in node_types.items():
            for market in node_type.market:
                price = _configured_price(name, node_type, market)
                for zone in node_type.zones:
                    if configured.get((name, zone, market)) != price:
                        self._store.add_price(PriceChange(self._now_ms(), name, zone, market, price, FROM_CONFIG))
                        latest[name, zone, market] = price
        with self._lock:
            self._node_types, self._prices = node_types, latest

    def offers(self) -> list[tuple[Offer, SandboxNodeType]]:
        """Everything that is sold now, in the order of the configuration."""
        with self._lock:
            return [
                (self._offer(name, zone, market), node_type)
                for name, node_type in self._node_types.items()
                for zone in node_type.zones
                for market in node_type.market
            ]

    def find(self, node_type: str, zone: str, market: Market) -> Offer:
        """The offer for a node type (full name or key) in a zone and market.

        Raises:
            CloudError: ``unknown_offer``, saying what there is instead.
        """
        with self._lock:
            name = self.full_name(node_type)
            sold = self._node_types[name]
            if zone not in sold.zones:
                zones = ", ".join(sold.zones)
                raise CloudError(ErrorCode.UNKNOWN_OFFER, f"{name} is not sold in zone {zone!r}; zones: {zones}")
            if market not in sold.market:
                markets = ", ".join(sold.market)
                raise CloudError(ErrorCode.UNKNOWN_OFFER, f"{name} is not sold as {market}; markets: {markets}")
            return self._offer(name, zone, market)

    def full_name(self, node_type: str) -> str:
        """``<site>.<key>`` of a node type given as that or as its key.

        Raises:
            CloudError: ``unknown_offer``, saying what there is instead.
        """
        with self._lock:
            for name in (node_type, f"{self._site_name}.{node_type}"):
                if name in self._node_types:
                    return name
            names = ", ".join(self._node_types)
            raise CloudError(ErrorCode.UNKNOWN_OFFER, f"there is no node type {node_type!r}; there are: {names}")

    def set_price(self, change: PriceSet) -> None:
        """Let new instances of the offers meant cost something else."""
        with self._lock:
            name = self.full_name(change.node_type)
            zones = self._node_types[name].zones if change.zone is None else [change.zone]
            for zone in zones:
                self.find(name, zone, change.market)
                at = PriceChange(self._now_ms(), name, zone, change.market, change.per_hour, BY_SCRIPT)
                self._store.add_price(at)
                self._prices[_key(at)] = change.per_hour

    def _offer(self, name: str, zone: str, market: Market) -> Offer:
        node_type = self._node_types[name]
        return Offer(
            offer_id=f"{name}/{zone}/{market}",
            node_type=name,
            site=self._site_name,
            zone=zone,
            market=market,
            tariff=Tariff(self._prices[name, zone, market], round(node_type.price.minimum)),
            boot_seconds=node_type.boot,
        )


def _key(change: PriceChange) -> _Key:
    return change.node_type, change.zone, change.market


def _configured_price(name: str, node_type: SandboxNodeType, market: Market) -> MicroUSD:
    price = node_type.price.spot if market is Market.SPOT else node_type.price.on_demand
    if price is None:
        raise ValueError(f"{name} is sold as {market}, but its price block has no `{market}` price")
    return price
