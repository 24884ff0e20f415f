"""Which of a region's quotas one instance counts against. Pure.

https://cloud.google.com/compute/resource-usage: each family has a quota of its own or shares ``CPUS``; GPUs have one
per model, and spot instances one of their own where the project has been given any.
"""

from __future__ import annotations

from collections.abc import Mapping

from fabric.config.sites import GcpNodeType, GcpSite

# Families whose vCPUs count against CPUS, unless the project has a quota of their own.
_SHARED = ("e2", "f1", "g1", "g2", "n1")
_GIB = 1024**3


def shortage(site: GcpSite, block: GcpNodeType, more: int, spot: bool, free: Mapping[str, float]) -> list[str]:
    """What ``more`` instances need and the region has not, as sentences.

    Quotas that the region does not list say nothing: those of the newest GPUs are known to the console only.

    Args:
        site: the site.
        block: the node type.
        more: instances that may still be launched.
        spot: whether in the spot market.
        free: limit less usage, by metric.
    """
    short: list[str] = []
    family = block.instance_type.partition("-")[0]
    for own, each in needs(site, block).items():
        shared = own.endswith("_CPUS") and family in _SHARED and own not in free
        metric = "CPUS" if shared else own
        preemptible = f"PREEMPTIBLE_{metric}"
        # A project without a preemptible quota uses the ordinary one.
        counted = preemptible if spot and free.get(preemptible, 0) > 0 else metric
        left = free.get(counted)
        if left is not None and left < each * more:
            short.append(f"{counted} has {left:g} left: room for {int(left // each)} of {more} more instances")
    return short


def needs(site: GcpSite, block: GcpNodeType) -> Mapping[str, float]:
    """What one instance counts, by metric."""
    family = block.instance_type.partition("-")[0]
    wanted: dict[str, float] = {}
    if block.cpus:
        wanted[f"{family.upper()}_CPUS"] = block.cpus
    if block.gpus and block.gpu:
        wanted[f"NVIDIA_{block.gpu.upper().replace('-', '_')}_GPUS"] = block.gpus
    if block.disk_type in (None, "pd-balanced", "pd-ssd"):
        wanted["SSD_TOTAL_GB"] = -(-block.disk // _GIB)
    if site.network.public_address:
        wanted["IN_USE_ADDRESSES"] = 1
    return wanted
