"""What the configuration leaves to the price files: GPUs, CPUs, memory, zones and prices of cloud node types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches

from autoscaler.catalog.prices import Listed, PriceFile, Shape
from fabric.config.problems import Finding
from fabric.config.schema import Config
from fabric.config.sites import AwsSite, AzureSite, CloudNodeType, CloudSite, GcpNodeType, GcpSite, PriceBlock
from fabric.config.units import percent
from fabric.model.money import MicroUSD
from fabric.model.nodes import Market

Prices = Mapping[str, PriceFile]
# Of a machine's memory, what the operating system, Ray's own processes and the driver stack keep for themselves.
SYSTEM_SHARE = 0.1


def cloud_sites(config: Config) -> Iterator[tuple[str, CloudSite]]:
    """Every site in one of the three clouds."""
    for name, site in config.sites.items():
        if isinstance(site, AwsSite | GcpSite | AzureSite):
            yield name, site


def filled(config: Config, prices: Prices) -> Config:
    """``config`` with everything filled in that the price files know; what a key says stays as it is."""
    sites = dict(config.sites)
    for name, site in cloud_sites(config):
        file = prices.get(site.kind)
        blocks = {key: _filled(block, site, file) for key, block in site.node_types.items()}
        sites[name] = site.model_copy(update={"node_types": blocks})
    return config.model_copy(update={"sites": sites})


def unknown(config: Config, prices: Prices) -> Iterator[Finding]:
    """What nobody says: shapes that the price files lack and the file does not describe, and missing prices."""
    for name, site in cloud_sites(config):
        file = prices.get(site.kind)
        for key, block in site.node_types.items():
            path = ("sites", name, "node_types", key)
            full = _filled(block, site, file)
            if full.cpus is None or full.gpus is None:
                what = f"the price files know no {site.kind} instance type {block.instance_type}"
                yield Finding((*path, "instance_type"), what, _did_you_mean(block, file))
            for market in block.market:
                if full.price is None or price_in(full.price, market) is None:
                    what = f"{name}.{key}: no {market} price of {block.instance_type} in {site.region} is known"
                    yield Finding((*path, "market"), what, f"add price: with {market}:, or remove {market} from market")


def price_in(block: PriceBlock, market: Market) -> MicroUSD | None:
    """The price in one market; None where it is not sold there."""
    return block.spot if market is Market.SPOT else block.on_demand


def _filled(block: CloudNodeType, site: CloudSite, file: PriceFile | None) -> CloudNodeType:
    name = sold_as(block)
    shape = None if file is None else file.shapes.get(name)
    listed = None if file is None else file.price(site.region, name)
    update: dict[str, object] = {}
    if shape is not None:
        update |= _of_shape(block, shape)
    if listed is not None:
        if not block.zones:
            update["zones"] = list(listed.zones)
        if block.price is None:
            update["price"] = _price(listed, site.discount)
    return block.model_copy(update=update)


def sold_as(block: CloudNodeType) -> str:
    """The name in the price files: Google sells some GPUs apart from the machine, and both together have one price."""
    if isinstance(block, GcpNodeType) and block.accelerator:
        return f"{block.instance_type}+{block.accelerators or 1}x{block.accelerator}"
    return block.instance_type


def _of_shape(block: CloudNodeType, shape: Shape) -> dict[str, object]:
    usable = int(shape.memory * (1 - SYSTEM_SHARE))
    known: dict[str, object] = {"gpus": shape.gpus, "gpu": shape.gpu or None, "cpus": shape.cpus, "memory": usable}
    return {key: value for key, value in known.items() if getattr(block, key) is None}


def _price(listed: Listed, discount: str | None) -> PriceBlock:
    """Listed prices as a price block; the discount is on on-demand prices, rounded up to the micro-dollar."""
    on_demand = listed.on_demand
    if on_demand is not None and discount is not None:
        on_demand = -(-on_demand * round((1 - percent(discount)) * 100_000) // 100_000)
    # A price block is made from values here, not from text, so its parsers are passed by.
    return PriceBlock.model_construct(on_demand=on_demand, spot=listed.spot, minimum=60.0)


def _did_you_mean(block: CloudNodeType, file: PriceFile | None) -> str:
    near = get_close_matches(sold_as(block), file.shapes if file else (), n=1)
    if near:
        return f"did you mean {near[0]}? Otherwise say gpus, cpus, memory and price yourself"
    return "say gpus, gpu, cpus, memory and price yourself; fabric prices lists what is known"
