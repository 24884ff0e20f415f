"""The one request that makes a virtual machine, its disk and its network interface, so that ending it ends all three.

Sources: https://learn.microsoft.com/rest/api/compute/virtual-machines/create-or-update (the body),
https://learn.microsoft.com/azure/virtual-machines/delete (delete options),
https://learn.microsoft.com/azure/virtual-machines/trusted-launch, https://learn.microsoft.com/azure/virtual-machines/spot-vms.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from pathlib import Path
from typing import Any

from autoscaler.providers.base import BadRequestError, LaunchSpec
from fabric.config.sites import AzureNodeType, AzureSite
from fabric.model.nodes import Market

# What this API version's inline network interfaces are described by.
NETWORK_API_VERSION = "2022-11-01"
USER = "fabric"
# The limit of custom data, before base64: https://learn.microsoft.com/azure/virtual-machines/custom-data
CUSTOM_DATA_LIMIT = 64 * 1024
UBUNTU = {"publisher": "Canonical", "offer": "ubuntu-24_04-lts", "sku": "server", "version": "latest"}
_GALLERY = re.compile(r"/(?:sharedGalleries|communityGalleries)/", re.IGNORECASE)
_GIB = 1024**3


def is_shared(image: str) -> bool:
    """Whether an image is one of a gallery that others share: no resource of ours that could be looked at."""
    return _GALLERY.search(image) is not None


def machine_name(token: str) -> str:
    """The name of a launch's machine: the same for the same token, so that a second launch finds the first.

    Azure takes 64 characters for a Linux machine and any case means the same; a token with other characters is told
    from its neighbours by a digest.
    """
    plain = re.sub(r"[^a-z0-9-]", "-", token.lower()).strip("-")[:40] or "node"
    if plain == token:
        return plain
    return f"{plain}-{hashlib.sha256(token.encode()).hexdigest()[:12]}"


def machine(site: AzureSite, block: AzureNodeType, spec: LaunchSpec) -> dict[str, Any]:
    """The body of the PUT.

    Raises:
        BadRequestError: the site lacks what Azure insists on, or the boot script is too long.
    """
    properties: dict[str, Any] = {
        "hardwareProfile": {"vmSize": block.instance_type},
        "storageProfile": {"imageReference": _image(site.image), "osDisk": _disk(block)},
        "osProfile": _system(site, spec),
        "networkProfile": {
            "networkApiVersion": NETWORK_API_VERSION,
            "networkInterfaceConfigurations": [_interface(site, spec)],
        },
        "securityProfile": _security(block),
        "diagnosticsProfile": {"bootDiagnostics": {"enabled": True}},
    }
    if spec.offer.market is Market.SPOT:
        properties |= {"priority": "Spot", "evictionPolicy": "Delete", "billingProfile": {"maxPrice": -1}}
    elif block.reservation is not None:
        properties["capacityReservation"] = {"capacityReservationGroup": {"id": block.reservation}}
    body: dict[str, Any] = {"location": site.region, "tags": {**site.tags, **spec.tags}, "properties": properties}
    if spec.offer.zone not in ("", "none"):
        body["zones"] = [spec.offer.zone]
    return body


def _image(image: str) -> dict[str, str]:
    if image == "ubuntu":
        return dict(UBUNTU)
    if image.startswith("/"):
        if is_shared(image):
            kind = "communityGalleryImageId" if "communitygalleries" in image.lower() else "sharedGalleryImageId"
            return {kind: image}
        return {"id": image}
    parts = image.split(":")
    if len(parts) != 4:
        what = f"image {image!r} is neither an id that begins with / nor PUBLISHER:OFFER:SKU:VERSION nor ubuntu"
        raise BadRequestError(what, cloud_code="image")
    return dict(zip(("publisher", "offer", "sku", "version"), parts, strict=True))


def _disk(block: AzureNodeType) -> dict[str, Any]:
    """The root disk. Azure encrypts managed disks at rest with keys of its own unless told otherwise."""
    return {
        "createOption": "FromImage",
        "deleteOption": "Delete",
        "diskSizeGB": -(-block.disk // _GIB),
        "caching": "ReadWrite",
        "managedDisk": {"storageAccountType": "Premium_LRS"},
    }


def _system(site: AzureSite, spec: LaunchSpec) -> dict[str, Any]:
    data = spec.user_data.encode()
    if len(data) > CUSTOM_DATA_LIMIT:
        data = gzip.compress(data, mtime=0)
    if len(data) > CUSTOM_DATA_LIMIT:
        raise BadRequestError(
            f"the boot script is {len(data)} bytes compressed, Azure takes 65536", cloud_code="customData"
        )
    key = _public_key(site)
    return {
        "computerName": machine_name(spec.token)[:63],
        "adminUsername": USER,
        "customData": base64.b64encode(data).decode(),
        "linuxConfiguration": {
            "disablePasswordAuthentication": True,
            "provisionVMAgent": True,
            "ssh": {"publicKeys": [{"path": f"/home/{USER}/.ssh/authorized_keys", "keyData": key}]},
        },
    }


def _public_key(site: AzureSite) -> str:
    """The key that Azure insists on; without one of the site's, one whose other half is thrown away at once.

    It differs with every call, which is why a machine is only ever created, never updated.
    """
    if site.admin_key is not None:
        try:
            return Path(site.admin_key).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise BadRequestError(
                f"admin_key {site.admin_key} cannot be read: {error.strerror}", cloud_code="admin_key"
            ) from error
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    key = ed25519.Ed25519PrivateKey.generate().public_key()
    return key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def _interface(site: AzureSite, spec: LaunchSpec) -> dict[str, Any]:
    network = site.network
    subnet = network.subnets.get(spec.offer.zone, network.subnet)
    if subnet is None:
        raise BadRequestError(
            "Azure has no default subnet; write network.subnet with the subnet's id", cloud_code="subnet"
        )
    address: dict[str, Any] = {"subnet": {"id": subnet}, "primary": True}
    if network.public_address:
        address["publicIPAddressConfiguration"] = {
            "name": f"{machine_name(spec.token)}-ip",
            "sku": {"name": "Standard"},
            "properties": {"deleteOption": "Delete", "publicIPAllocationMethod": "Static"},
        }
    properties: dict[str, Any] = {
        "primary": True,
        "deleteOption": "Delete",
        "ipConfigurations": [{"name": "primary", "properties": address}],
    }
    if network.security_groups:
        properties["networkSecurityGroup"] = {"id": network.security_groups[0]}
    return {"name": f"{machine_name(spec.token)}-nic", "properties": properties, "tags": {**site.tags, **spec.tags}}


def _security(block: AzureNodeType) -> dict[str, Any]:
    # Secure boot refuses unsigned drivers, and the driver of a GPU on Ubuntu is built on the machine.
    settings = {"secureBootEnabled": not block.gpus, "vTpmEnabled": True}
    return {"securityType": "TrustedLaunch", "uefiSettings": settings}
