"""What a configuration means to the rest of the fabric: absolute paths, and the planner's node types."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import PurePath

from fabric.config.schema import Config
from fabric.config.sites import NodeTypeBlock, OnPremNodeType, OnPremSite, Site
from fabric.model.labels import LABEL_MARKET, LABEL_NODE_TYPE, LABEL_SITE, LABEL_SITE_KIND, LABEL_ZONE
from fabric.model.nodes import Market, NodeType, Offer
from fabric.model.resources import CPU, GPU, MEMORY, Resources

HEAD = "head"
LABEL_GPU = "fabric/gpu"
SITE_LABEL_PREFIX = "fabric/"


def resolve(config: Config, folder: PurePath) -> Config:
    """``config`` with every relative path taken from ``folder``, the absolute folder of its file."""
    block = config.fabric
    scheme, _, journal = block.journal.partition(":")
    fabric = block.model_copy(
        update={"state": str(folder / block.state), "journal": f"{scheme}:{folder / journal}"},
    )
    return config.model_copy(update={"fabric": fabric})


def home_site(config: Config) -> str:
    """The site this machine, and so the Ray head, stands in: the first on-prem site of the file."""
    return next((name for name, site in config.sites.items() if isinstance(site, OnPremSite)), "")


def node_types(config: Config) -> Mapping[str, NodeType]:
    """Every node type by its Ray name, the head's included. On-prem ones and the head are not launchable."""
    types = {HEAD: _head(config)}
    for site_name, site in config.sites.items():
        for key, block in site.node_types.items():
            node_type = _node_type(site_name, site, key, block)
            types[node_type.name] = node_type
    return types


def sells(node_type: NodeType, offer: Offer) -> bool:
    """Whether a machine bought at ``offer`` is what the labels of ``node_type`` say.

    It is not while a price list is older than an edit of the configuration.
    """
    bought = {LABEL_MARKET: offer.market.value, LABEL_ZONE: offer.zone}
    return all(node_type.labels.get(key, value) == value for key, value in bought.items())


def _head(config: Config) -> NodeType:
    site = home_site(config)
    labels = {**(_site_labels(site, config.sites[site]) if site else {}), LABEL_NODE_TYPE: HEAD}
    resources = Resources.of({CPU: config.ray.cpus})
    return NodeType(name=HEAD, site=site, resources=resources, labels=labels, maximum=1, launchable=False)


def _node_type(site_name: str, site: Site, key: str, block: NodeTypeBlock) -> NodeType:
    name = f"{site_name}.{key}"
    labels = {**block.labels, **_site_labels(site_name, site), LABEL_NODE_TYPE: name}
    if block.gpu:
        labels[LABEL_GPU] = block.gpu
    resources = Resources.of({GPU: block.gpus or 0, CPU: block.cpus or 0, MEMORY: block.memory or 0})
    if isinstance(block, OnPremNodeType):
        return NodeType(name, site_name, resources, labels, maximum=len(block.nodes), launchable=False)
    labels |= _sale_labels(block.market, block.zones)
    return NodeType(name, site_name, resources, labels, minimum=block.min, maximum=block.max)


def _sale_labels(markets: Collection[Market], zones: Collection[str]) -> dict[str, str]:
    """Market and zone, each only where there is no choice.

    A label has to be known before the purchase: the planner packs against node types, and Ray starts work by what
    nodes carry. Where the two differed, machines would be bought on which the work cannot start.
    """
    offered = ((LABEL_MARKET, {str(market) for market in markets}), (LABEL_ZONE, set(zones)))
    return {key: next(iter(values)) for key, values in offered if len(values) == 1}


def _site_labels(name: str, site: Site) -> dict[str, str]:
    own = {f"{SITE_LABEL_PREFIX}{key}": value for key, value in site.labels.items()}
    market = {LABEL_MARKET: Market.OWNED.value} if isinstance(site, OnPremSite) else {}
    return {**own, **market, LABEL_SITE: name, LABEL_SITE_KIND: site.kind}
