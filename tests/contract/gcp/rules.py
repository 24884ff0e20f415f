"""Rules of an insert that the discovery document does not have; each is in the reference, or in an error people get."""

from __future__ import annotations

import re
from typing import Any

from tests.contract.gcp.catalog import MACHINE_TYPES, PROJECT, REGION, SUBNETS, path_of
from tests.contract.gcp.refusal import Refusal


def refuse_nonsense(zone: str, body: dict[str, Any]) -> None:
    """Refuse an insert as Google would."""
    machine, scheduling = body["machineType"].rpartition("/")[2], body.get("scheduling", {})
    if machine not in MACHINE_TYPES:
        raise Refusal(404, "notFound", f"The resource '{path_of(zone, 'machineTypes', machine)}' was not found")
    gpus = bool(body.get("guestAccelerators")) or machine.startswith(("g2-", "a2-"))
    spot = scheduling.get("provisioningModel") == "SPOT"
    if gpus and scheduling.get("onHostMaintenance") != "TERMINATE":
        raise Refusal(400, "invalid", "Instances with guest accelerators do not support live migration.")
    if spot and (scheduling.get("automaticRestart", True) or scheduling.get("onHostMaintenance") == "MIGRATE"):
        raise Refusal(
            400, "invalid", "Scheduling must have no automaticRestart and onHostMaintenance TERMINATE for SPOT."
        )
    if scheduling.get("instanceTerminationAction") and not spot and "maxRunDuration" not in scheduling:
        raise Refusal(
            400,
            "invalid",
            "You cannot specify a termination action for a VM instance that has the standard provisioning model.",
        )
    for key, value in body.get("labels", {}).items():
        if not re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", key) or not re.fullmatch(r"[a-z0-9_-]{0,63}", value):
            raise Refusal(400, "invalid", f"Invalid value for field 'resource.labels': '{key}: {value}'.")
    for item in body.get("metadata", {}).get("items", ()):
        if len(item["value"]) > 256 * 1024:
            raise Refusal(413, "uploadTooLarge", "Metadata value is too large.")
    for interface in body["networkInterfaces"]:
        subnet = interface.get("subnetwork", "").rpartition("/")[2]
        if subnet and subnet not in SUBNETS[REGION]:
            raise Refusal(
                404,
                "notFound",
                f"The resource 'projects/{PROJECT}/regions/{REGION}/subnetworks/{subnet}' was not found",
            )


def bulk_member(properties: dict[str, Any], name: str, zone: str) -> dict[str, Any]:
    """One instance of a bulk insert as an insert would ask for it; addresses where names belong are refused."""
    accelerators = properties.get("guestAccelerators", [])
    names = [properties["machineType"], *(one["acceleratorType"] for one in accelerators)]
    names += [disk["initializeParams"]["diskType"] for disk in properties["disks"]]
    if any("/" in one for one in names):
        raise Refusal(400, "invalid", f"Invalid value for field 'instanceProperties': {names}. Names are expected.")
    disks = [
        {**disk, "initializeParams": {"diskName": name, **disk["initializeParams"]}} for disk in properties["disks"]
    ]
    kind = path_of(zone, "machineTypes", properties["machineType"])
    return {**properties, "name": name, "machineType": kind, "disks": disks}
