"""What the fabric has to be allowed, as Azure's role definitions name it; ``configs/iam/azure.json`` grants just this.

Source: https://learn.microsoft.com/azure/role-based-access-control/permissions/compute
"""

from __future__ import annotations

from autoscaler.providers.azure.request import is_shared
from fabric.config.sites import AzureSite

ROLE = "configs/iam/azure.json"
GROUP_READ = "Microsoft.Resources/subscriptions/resourceGroups/read"
PERMISSIONS_READ = "Microsoft.Authorization/permissions/read"
READ = "Microsoft.Compute/virtualMachines/read"
WRITE = "Microsoft.Compute/virtualMachines/write"
DELETE = "Microsoft.Compute/virtualMachines/delete"
SUBNET_READ = "Microsoft.Network/virtualNetworks/subnets/read"
SECURITY_GROUP_READ = "Microsoft.Network/networkSecurityGroups/read"
IMAGE_READ = "Microsoft.Compute/images/read"
GALLERY_READ = "Microsoft.Compute/galleries/images/versions/read"
VERSIONS_READ = "Microsoft.Compute/locations/publishers/artifacttypes/offers/skus/versions/read"
USAGES_READ = "Microsoft.Compute/locations/usages/read"
OPERATIONS_READ = "Microsoft.Compute/locations/operations/read"

# On the resource group: whoever makes a machine makes its disk and interface as well.
ALWAYS = (
    GROUP_READ,
    PERMISSIONS_READ,
    READ,
    WRITE,
    DELETE,
    "Microsoft.Compute/disks/write",
    "Microsoft.Compute/disks/delete",
    "Microsoft.Network/networkInterfaces/write",
    "Microsoft.Network/networkInterfaces/join/action",
    "Microsoft.Network/networkInterfaces/delete",
)
# On the subscription, which tells nobody what he may do there: the calls themselves show it.
ON_SUBSCRIPTION = (OPERATIONS_READ, USAGES_READ, VERSIONS_READ)
ON_SUBNET = (SUBNET_READ, "Microsoft.Network/virtualNetworks/subnets/join/action")
ON_SECURITY_GROUP = (SECURITY_GROUP_READ, "Microsoft.Network/networkSecurityGroups/join/action")
FOR_PUBLIC_ADDRESSES = (
    "Microsoft.Network/publicIPAddresses/write",
    "Microsoft.Network/publicIPAddresses/join/action",
    "Microsoft.Network/publicIPAddresses/delete",
)
ON_RESERVATION = ("Microsoft.Compute/capacityReservationGroups/deploy/action",)


def image_read(image: str) -> str:
    """The permission to look at an image: by its id, or one that is published."""
    if not image.startswith("/"):
        return VERSIONS_READ
    return GALLERY_READ if "/galleries/" in image.lower() else IMAGE_READ


def needed_by(site: AzureSite) -> list[tuple[str, str]]:
    """Where and what a site needs, in the order in which it is told: the scope's id and the permission."""
    group = f"/subscriptions/{site.subscription}/resourceGroups/{site.resource_group}"
    network = site.network
    subnets: list[str] = sorted({*network.subnets.values(), *([network.subnet] if network.subnet else [])})
    reservations: list[str] = sorted({block.reservation for block in site.node_types.values() if block.reservation})
    wanted = [(group, permission) for permission in ALWAYS]
    if network.public_address:
        wanted += [(group, permission) for permission in FOR_PUBLIC_ADDRESSES]
    wanted += [(subnet, permission) for subnet in subnets for permission in ON_SUBNET]
    wanted += [(one, permission) for one in network.security_groups[:1] for permission in ON_SECURITY_GROUP]
    wanted += [(one, permission) for one in reservations for permission in ON_RESERVATION]
    if site.image.startswith("/") and not is_shared(site.image):
        wanted.append((site.image, image_read(site.image)))
    return wanted


def everything() -> list[str]:
    """Every permission that any site needs."""
    sometimes = (*ON_SUBNET, *ON_SECURITY_GROUP, *FOR_PUBLIC_ADDRESSES, *ON_RESERVATION, IMAGE_READ, GALLERY_READ)
    return sorted({*ALWAYS, *ON_SUBSCRIPTION, *sometimes})
