"""What a subscription has before anything is made in it, and the calls that only read that."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.contract.azure.refusal import Refusal
from tests.contract.azure.routes import Call
from tests.contract.gcp.faults import Faults

SUBSCRIPTION = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
GROUP = "fabric"
REGION = "westeurope"
ZONES = ("1", "2", "3")
SIZES = {"Standard_NC24ads_A100_v4": 24, "Standard_NC8as_T4_v3": 8, "Standard_D2s_v5": 2}
GROUP_ID = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
SUBNET = f"{GROUP_ID}/providers/Microsoft.Network/virtualNetworks/burst/subnets/nodes"
NSG = f"{GROUP_ID}/providers/Microsoft.Network/networkSecurityGroups/fabric-node"
IMAGE = f"{GROUP_ID}/providers/Microsoft.Compute/images/fabric-node"
GALLERY = f"{GROUP_ID}/providers/Microsoft.Compute/galleries/lab/images/fabric-node/versions/1.0.7"
RESERVATION = f"{GROUP_ID}/providers/Microsoft.Compute/capacityReservationGroups/paid-already"
IMAGES = {("Canonical", "ubuntu-24_04-lts", "server"): "24.04.202611010"}
QUOTAS = {"cores": 2000, "lowPriorityCores": 400}
ROLE = Path(__file__).resolve().parents[3] / "configs/iam/azure.json"


def granted() -> list[str]:
    """What the role in ``configs/iam`` allows."""
    return list(json.loads(ROLE.read_text(encoding="utf-8"))["Actions"])


def _group(_call: Call, _faults: Faults) -> dict[str, Any]:
    return {
        "id": GROUP_ID,
        "name": GROUP,
        "type": "Microsoft.Resources/resourceGroups",
        "location": REGION,
        "properties": {"provisioningState": "Succeeded"},
    }


def _permissions(_call: Call, faults: Faults) -> dict[str, Any]:
    denied = list(faults.values("denied") or ())
    return {"value": [{"actions": granted(), "notActions": denied, "dataActions": [], "notDataActions": []}]}


def _usages(_call: Call, faults: Faults) -> dict[str, Any]:
    used = faults.values("quota_used")
    return {
        "value": [
            {
                "unit": "Count",
                "currentValue": int(used.get(name, 0)),
                "limit": limit,
                "name": {"value": name, "localizedValue": f"Total Regional {name}"},
            }
            for name, limit in QUOTAS.items()
        ]
    }


def _versions(call: Call, _faults: Faults) -> Any:
    version = IMAGES.get((call.given["publisher"], call.given["offer"], call.given["sku"]))
    if version is None:
        raise Refusal(404, "NotFound", f"Artifact: VMImage was not found: {call.given['sku']}.")
    return [{"location": REGION, "name": version, "id": f"{GROUP_ID}/{version}"}]


def _image(call: Call, _faults: Faults) -> dict[str, Any]:
    _known(IMAGE, call.given["image"], "Microsoft.Compute/images")
    return {"id": IMAGE, "name": "fabric-node", "type": "Microsoft.Compute/images", "location": REGION}


def _gallery(call: Call, _faults: Faults) -> dict[str, Any]:
    _known(GALLERY.partition("/versions/")[0], call.given["image"], "Microsoft.Compute/galleries/images")
    return {"id": GALLERY, "name": "1.0.7", "type": "Microsoft.Compute/galleries/images/versions", "location": REGION}


def _subnet(call: Call, _faults: Faults) -> dict[str, Any]:
    _known(SUBNET, call.given["subnet"], "Microsoft.Network/virtualNetworks/subnets")
    return {
        "id": SUBNET,
        "name": "nodes",
        "type": "Microsoft.Network/virtualNetworks/subnets",
        "properties": {"addressPrefix": "10.8.0.0/20", "provisioningState": "Succeeded"},
    }


def _nsg(call: Call, _faults: Faults) -> dict[str, Any]:
    _known(NSG, call.given["nsg"], "Microsoft.Network/networkSecurityGroups")
    kind = "Microsoft.Network/networkSecurityGroups"
    return {"id": NSG, "name": "fabric-node", "type": kind, "location": REGION, "properties": {"securityRules": []}}


def _known(resource: str, name: str, kind: str) -> None:
    if resource.rpartition("/")[2] != name:
        what = f"The Resource '{kind}/{name}' under resource group '{GROUP}' was not found."
        raise Refusal(404, "ResourceNotFound", what)


READS: Mapping[str, Callable[[Call, Faults], Any]] = {
    "group.get": _group,
    "permissions.list": _permissions,
    "usages.list": _usages,
    "images.list": _versions,
    "image.get": _image,
    "gallery.get": _gallery,
    "subnet.get": _subnet,
    "nsg.get": _nsg,
}
