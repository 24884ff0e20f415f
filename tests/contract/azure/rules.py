"""What Azure refuses of a machine although its schema allows it."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from tests.contract.azure.catalog import GALLERY, IMAGE, IMAGES, NSG, REGION, SIZES, SUBNET, ZONES
from tests.contract.azure.refusal import Refusal

_CUSTOM_DATA = 64 * 1024
_TAG_NAME = re.compile(r"[^<>%&\\?/]{1,512}")


def refuse_nonsense(body: dict[str, Any]) -> None:
    """Look through the body of a PUT.

    Raises:
        Refusal: in Azure's words, as far as they are known.
    """
    properties = body["properties"]
    size = properties["hardwareProfile"]["vmSize"]
    if body["location"] != REGION:
        raise Refusal(
            400, "LocationNotAvailableForResourceType", f"The location '{body['location']}' is not available."
        )
    if any(zone not in ZONES for zone in body.get("zones", ())) or len(body.get("zones", ())) > 1:
        what = f"The zone(s) '{body['zones']}' for resource 'Microsoft.Compute/virtualMachines' is not supported."
        raise Refusal(400, "InvalidAvailabilityZone", what)
    if size not in SIZES:
        raise Refusal(400, "InvalidParameter", f"The value {size} provided for the VM size is not valid.")
    for tags in [body.get("tags", {}), *(one.get("tags", {}) for one in _interfaces(body))]:
        if len(tags) > 50 or not all(_TAG_NAME.fullmatch(key) and len(value) <= 256 for key, value in tags.items()):
            raise Refusal(400, "InvalidTagNameCharacters", f"These tags are not taken: {tags}")
    _image(properties["storageProfile"]["imageReference"])
    _system(properties["osProfile"])
    _network(body)
    if properties.get("priority") != "Spot" and properties.keys() & {"evictionPolicy", "billingProfile"}:
        raise Refusal(400, "InvalidParameter", "Eviction policy can be set only on Azure Spot Virtual Machines.")


def _image(image: dict[str, str]) -> None:
    if "id" in image:
        if image["id"] not in (IMAGE, GALLERY):
            raise Refusal(404, "ImageNotFound", f"The Image '{image['id']}' cannot be found.")
    elif (image["publisher"], image["offer"], image["sku"]) not in IMAGES:
        raise Refusal(
            404, "PlatformImageNotFound", f"The platform image '{':'.join(image.values())}' is not available."
        )


def _system(system: dict[str, Any]) -> None:
    try:
        data = base64.b64decode(system["customData"], validate=True)
    except binascii.Error:
        raise Refusal(400, "InvalidParameter", "Custom data in OSProfile must be in Base64 encoding.") from None
    if len(data) > _CUSTOM_DATA:
        raise Refusal(400, "InvalidParameter", f"Custom data in OSProfile must be at most {_CUSTOM_DATA} bytes.")
    if not re.fullmatch(r"(?=.*[a-zA-Z-])[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?", system["computerName"]):
        raise Refusal(400, "InvalidParameter", f"Linux host name {system['computerName']!r} is not taken.")
    for key in system["linuxConfiguration"]["ssh"]["publicKeys"]:
        if not key["keyData"].startswith(("ssh-ed25519 ", "ssh-rsa ")):
            raise Refusal(
                400, "InvalidParameter", "The value of parameter linuxConfiguration.ssh.publicKeys is invalid."
            )


def _network(body: dict[str, Any]) -> None:
    for interface in _interfaces(body):
        group = interface["properties"].get("networkSecurityGroup", {"id": NSG})["id"]
        subnets = [one["properties"]["subnet"]["id"] for one in interface["properties"]["ipConfigurations"]]
        for found, known in [(group, NSG), *((subnet, SUBNET) for subnet in subnets)]:
            if found != known:
                what = f"Resource {found} referenced by resource {interface['name']} was not found."
                raise Refusal(400, "InvalidResourceReference", what)


def _interfaces(body: dict[str, Any]) -> list[dict[str, Any]]:
    return list(body["properties"]["networkProfile"]["networkInterfaceConfigurations"])
