"""What a project has before anything is made in it, and the calls that only read that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.contract.gcp.faults import Faults
from tests.contract.gcp.refusal import Refusal

PROJECT = "lab-burst"
REGION = "europe-west4"
ZONES = (f"{REGION}-a", f"{REGION}-b", f"{REGION}-c", "us-central1-a")
MACHINE_TYPES = {"g2-standard-4": (4, 16), "n1-standard-4": (4, 15), "e2-standard-2": (2, 8), "a2-highgpu-1g": (12, 85)}
ACCELERATORS = ("nvidia-tesla-t4", "nvidia-l4")
IMAGES = {
    "ubuntu-os-cloud": {"ubuntu-2404-lts-amd64": "ubuntu-2404-noble-amd64-v20261101"},
    PROJECT: {"fabric-node": "fabric-node-7"},
}
SUBNETS = {REGION: {"burst": "10.164.0.0/20"}}
QUOTAS = {"CPUS": 2000.0, "E2_CPUS": 2000.0, "NVIDIA_L4_GPUS": 400.0, "SSD_TOTAL_GB": 900_000.0}
BASE = "https://www.googleapis.com/compute/v1"


@dataclass(frozen=True)
class Call:
    """What one call brings.

    Attributes:
        given: the parameters in its path.
        query: those after it.
        body: its JSON.
        faults: what is to go wrong.
    """

    given: Mapping[str, str]
    query: Mapping[str, str]
    body: Any
    faults: Faults


def _project(call: Call) -> dict[str, Any]:
    name = call.given["project"]
    return {"kind": "compute#project", "id": "4711", "name": name, "selfLink": f"{BASE}/projects/{name}"}


def _region(call: Call) -> dict[str, Any]:
    name = call.given["region"]
    if not any(zone.startswith(f"{name}-") for zone in ZONES):
        raise _unknown(f"regions/{name}")
    used = call.faults.values("quota_used")
    zones = [f"{BASE}/projects/{PROJECT}/zones/{zone}" for zone in ZONES if zone.startswith(f"{name}-")]
    quotas = [{"metric": key, "limit": limit, "usage": float(used.get(key, 0))} for key, limit in QUOTAS.items()]
    return {"kind": "compute#region", "id": "17", "name": name, "status": "UP", "quotas": quotas, "zones": zones}


def _machine_type(call: Call) -> dict[str, Any]:
    name, zone = call.given["machineType"], call.given["zone"]
    if name not in MACHINE_TYPES:
        raise _unknown(f"zones/{zone}/machineTypes/{name}")
    cpus, memory = MACHINE_TYPES[name]
    size = {"guestCpus": cpus, "memoryMb": memory * 1024}
    return {"kind": "compute#machineType", "id": "3", "name": name, "zone": zone, **size}


def _accelerator_type(call: Call) -> dict[str, Any]:
    name = call.given["acceleratorType"]
    if name not in ACCELERATORS:
        raise _unknown(f"zones/{call.given['zone']}/acceleratorTypes/{name}")
    return {"kind": "compute#acceleratorType", "id": "5", "name": name, "maximumCardsPerInstance": 4}


def _image(call: Call) -> dict[str, Any]:
    project, families = call.given["project"], IMAGES.get(call.given["project"], {})
    for family, name in families.items():
        if family == call.given.get("family") or name == call.given.get("image"):
            size = {"status": "READY", "diskSizeGb": "10"}
            return {"kind": "compute#image", "id": "11", "name": name, "family": family, **size}
    raise _unknown(f"global/images/{call.given.get('family') or call.given['image']}", project)


def _subnetwork(call: Call) -> dict[str, Any]:
    name, region = call.given["subnetwork"], call.given["region"]
    if name not in SUBNETS.get(region, {}):
        raise _unknown(f"regions/{region}/subnetworks/{name}")
    place = {"ipCidrRange": SUBNETS[region][name], "purpose": "PRIVATE"}
    return {"kind": "compute#subnetwork", "id": "9", "name": name, **place}


def path_of(zone: str, kind: str, name: str) -> str:
    """A resource's path."""
    return f"projects/{PROJECT}/zones/{zone}/{kind}/{name}"


def link_of(zone: str, kind: str, name: str) -> str:
    """A resource's address."""
    return f"{BASE}/{path_of(zone, kind, name)}"


def _unknown(what: str, project: str = PROJECT) -> Refusal:
    return Refusal(404, "notFound", f"The resource 'projects/{project}/{what}' was not found")


READS: Mapping[str, Callable[[Call], dict[str, Any]]] = {
    "compute.projects.get": _project,
    "compute.regions.get": _region,
    "compute.machineTypes.get": _machine_type,
    "compute.acceleratorTypes.get": _accelerator_type,
    "compute.images.get": _image,
    "compute.images.getFromFamily": _image,
    "compute.subnetworks.get": _subnetwork,
}
