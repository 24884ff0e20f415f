"""Which permissions the provider's calls need, and why. ``configs/iam/gcp.yaml`` is this table as a custom role.

Each method's page of the reference lists its permissions:
https://cloud.google.com/compute/docs/reference/rest/v1/instances/insert#iam-permissions
"""

from __future__ import annotations

from collections.abc import Mapping

from autoscaler.providers.gcp.request import by_bulk_insert
from fabric.config.sites import GcpSite

# method of the API: what a call of it needs
CALLS: Mapping[str, tuple[str, ...]] = {
    "compute.instances.insert": (
        "compute.instances.create",
        "compute.instances.setLabels",
        "compute.instances.setMetadata",
        "compute.disks.create",
        "compute.disks.setLabels",
        "compute.subnetworks.use",
    ),
    # The same as for an insert.
    "compute.regionInstances.bulkInsert": ("compute.instances.create",),
    "compute.regionOperations.get": ("compute.regionOperations.get",),
    "compute.instances.get": ("compute.instances.get",),
    "compute.instances.delete": ("compute.instances.delete",),
    "compute.instances.aggregatedList": ("compute.instances.list",),
    "compute.zoneOperations.get": ("compute.zoneOperations.get",),
    "compute.zoneOperations.list": ("compute.zoneOperations.list",),
    "compute.disks.aggregatedList": ("compute.disks.list",),
    "compute.disks.delete": ("compute.disks.delete",),
    "compute.projects.get": ("compute.projects.get",),
    "compute.regions.get": ("compute.regions.get",),
    "compute.machineTypes.get": ("compute.machineTypes.get",),
    "compute.acceleratorTypes.get": ("compute.acceleratorTypes.get",),
    "compute.subnetworks.get": ("compute.subnetworks.get",),
    # On the project that has the image; Google's public images need none.
    "compute.images.get": ("compute.images.get",),
    "compute.images.getFromFamily": ("compute.images.getFromFamily",),
    # Asking what one may do needs no permission.
    "cloudresourcemanager.projects.testIamPermissions": (),
}

# What an insert needs for some sites only.
WITH_NETWORK_TAGS = "compute.instances.setTags"
WITH_SERVICE_ACCOUNT = "compute.instances.setServiceAccount"
WITH_PUBLIC_ADDRESS = "compute.subnetworks.useExternalIp"
WITH_OWN_IMAGE = "compute.images.useReadOnly"
SOMETIMES = (WITH_NETWORK_TAGS, WITH_SERVICE_ACCOUNT, WITH_PUBLIC_ADDRESS, WITH_OWN_IMAGE)


def everything() -> list[str]:
    """Every permission that some site needs, sorted: the custom role."""
    return sorted({*SOMETIMES, *(permission for needed in CALLS.values() for permission in needed)})


def needed_by(site: GcpSite) -> list[str]:
    """The permissions that this site needs, sorted."""
    own_image = site.image != "ubuntu" and (
        "/" not in site.image.removeprefix("family/") or f"projects/{site.project}/" in site.image
    )
    unneeded = {
        WITH_NETWORK_TAGS: not site.network.security_groups,
        WITH_SERVICE_ACCOUNT: site.service_account is None,
        WITH_PUBLIC_ADDRESS: not site.network.public_address,
        WITH_OWN_IMAGE: not own_image,
        "compute.images.get": not own_image,
        "compute.images.getFromFamily": not own_image,
        "compute.acceleratorTypes.get": all(block.accelerator is None for block in site.node_types.values()),
        "compute.regionOperations.get": not any(by_bulk_insert(block) for block in site.node_types.values()),
        "compute.subnetworks.get": site.network.subnet is None and not site.network.subnets,
    }
    return [permission for permission in everything() if not unneeded.get(permission, False)]
