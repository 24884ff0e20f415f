"""A launch in Google's words: the instance to insert, its name, its labels. Pure.

Keys are those of ``google.cloud.compute_v1.types.Instance``. What a label cannot hold (dots, slashes, capitals) stands
in ``description`` as JSON, so that a listing has the exact tags without the boot script beside them.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from autoscaler.providers.base import TAG_OWNER, BadRequestError, LaunchSpec
from fabric.config.sites import GcpNodeType, GcpSite
from fabric.model.nodes import Market

LABEL_OWNER = TAG_OWNER
UBUNTU = "projects/ubuntu-os-cloud/global/images/family/ubuntu-2404-lts-amd64"
UBUNTU_ARM = "projects/ubuntu-os-cloud/global/images/family/ubuntu-2404-lts-arm64"
USER_DATA_LIMIT = 16 * 1024

_NAME = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")
_DESCRIPTION_LIMIT = 2048
_REQUESTS = uuid.UUID("5f0b4f1c-6a3e-5d0e-9a55-0f9f6b2c7e11")
_GIB = 1024**3
# Families that take no persistent disk of the older kind:
# https://cloud.google.com/compute/docs/disks/hyperdisks#supported_machine_series
_HYPERDISK_ONLY = ("a4", "a4x", "a3-ultragpu", "c4", "c4a", "c4d", "g4", "h4d", "m4", "n4", "x4")
_ARM = ("a4x", "c4a", "n4a", "t2a")
# Families whose machine types bring their GPUs: https://cloud.google.com/compute/docs/gpus
_WITH_GPUS = ("a2", "a3", "a4", "a4x", "g2", "g4")


def instance_name(token: str) -> str:
    """The one name a token's instance can have: the token itself where Google allows it, else its digest.

    Names are unique in a zone, so a second insert of the same token meets the first.
    """
    if _NAME.fullmatch(token):
        return token
    return f"fab-{hashlib.sha256(token.encode()).hexdigest()[:40]}"


def request_id(spec: LaunchSpec, spent: int = 0) -> str:
    """The ``requestId`` of a launch, by which Google itself answers a repeated call with the first one's operation.

    Args:
        spec: the launch.
        spent: how many operations of this launch have ended without making anything and may be tried again.
    """
    return str(uuid.uuid5(_REQUESTS, f"{spec.token}\n{spec.offer.offer_id}\n{spent}"))


def label_value(value: str) -> str:
    """``value`` as a label may have it: itself where that is allowed, else a readable beginning and a digest.

    https://cloud.google.com/compute/docs/labeling-resources#requirements
    """
    if re.fullmatch(r"[a-z0-9_-]{0,63}", value):
        return value
    readable = re.sub(r"[^a-z0-9_-]", "-", value.lower())[:46]
    return f"{readable}-{hashlib.sha256(value.encode()).hexdigest()[:16]}"


def labels(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags as labels, for people, for bills and for filters; the exact ones are in the description."""
    return {_label_key(key): label_value(value) for key, value in tags.items()}


def describe(spec: LaunchSpec) -> str:
    """What ``read_description`` reads back."""
    told = {"offer": spec.offer.offer_id, "tags": dict(spec.tags)}
    text = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    if len(text) > _DESCRIPTION_LIMIT:
        raise BadRequestError(
            f"the tags take {len(text)} characters, and Google keeps {_DESCRIPTION_LIMIT}; use fewer or shorter tags",
            cloud_code="description",
        )
    return text


def read_description(text: str) -> tuple[str, dict[str, str]]:
    """The offer and the exact tags of one of our instances; both empty on anybody else's."""
    try:
        told = json.loads(text)
        return str(told["offer"]), {str(key): str(value) for key, value in told["tags"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return "", {}


def image_link(site: GcpSite, block: GcpNodeType) -> str:
    """The image as an insert takes it."""
    if site.image == "ubuntu":
        return UBUNTU_ARM if _is_of(block.instance_type, _ARM) else UBUNTU
    if "/" in site.image and not site.image.startswith("family/"):
        return site.image
    return f"projects/{site.project}/global/images/{site.image}"


def subnet_link(site: GcpSite, zone: str) -> str | None:
    """The subnet as an insert takes it; None for the default network."""
    subnet = site.network.subnets.get(zone, site.network.subnet)
    if subnet is None or "/" in subnet:
        return subnet
    return f"projects/{site.project}/regions/{site.region}/subnetworks/{subnet}"


def accelerator_of(block: GcpNodeType) -> tuple[str, int] | None:
    """GPUs to attach, and how many; None for a machine type that has its own, or has none."""
    if block.accelerator is None:
        return None
    return block.accelerator, block.accelerators or 1


def has_gpus(block: GcpNodeType) -> bool:
    """Whether instances have GPUs, and so cannot be moved to another host while they run."""
    return bool(block.gpus or block.accelerator) or _is_of(block.instance_type, _WITH_GPUS)


def instance(site: GcpSite, block: GcpNodeType, spec: LaunchSpec) -> dict[str, Any]:
    """The instance to insert for one launch.

    Raises:
        BadRequestError: the boot script or the tags are longer than they may be.
    """
    size = len(spec.user_data.encode())
    if size > USER_DATA_LIMIT:
        raise BadRequestError(f"the boot script has {size} bytes, more than {USER_DATA_LIMIT}", cloud_code="user-data")
    zone, name, marks = spec.offer.zone, instance_name(spec.token), labels({**site.tags, **spec.tags})
    wanted: dict[str, Any] = {
        "name": name,
        "description": describe(spec),
        "machine_type": f"zones/{zone}/machineTypes/{block.instance_type}",
        "labels": marks,
        "disks": [_disk(site, block, zone, name, marks)],
        "network_interfaces": [_interface(site, zone)],
        "scheduling": _scheduling(block, spec),
        # Secure boot refuses unsigned drivers, and the driver of a GPU on Ubuntu is built on the machine.
        "shielded_instance_config": {
            "enable_secure_boot": not has_gpus(block),
            "enable_vtpm": True,
            "enable_integrity_monitoring": True,
        },
        "metadata": {
            "items": [
                {"key": "user-data", "value": spec.user_data},
                {"key": "block-project-ssh-keys", "value": "TRUE"},
                {"key": "serial-port-enable", "value": "FALSE"},
            ]
        },
    }
    if (accelerator := accelerator_of(block)) is not None:
        kind = f"zones/{zone}/acceleratorTypes/{accelerator[0]}"
        wanted["guest_accelerators"] = [{"accelerator_type": kind, "accelerator_count": accelerator[1]}]
    if site.service_account is not None:
        wanted["service_accounts"] = [{"email": site.service_account, "scopes": list(site.scopes)}]
    if site.network.security_groups:
        wanted["tags"] = {"items": list(site.network.security_groups)}
    if spec.offer.market is Market.SPOT:
        wanted["reservation_affinity"] = {"consume_reservation_type": "NO_RESERVATION"}
    elif block.reservation is not None:
        wanted["reservation_affinity"] = {
            "consume_reservation_type": "SPECIFIC_RESERVATION",
            "key": "compute.googleapis.com/reservation-name",
            "values": [block.reservation],
        }
    return wanted


def by_bulk_insert(block: GcpNodeType) -> bool:
    """Whether Google chooses the zone: several at once, and no reservation, which is in one zone."""
    return block.bulk and len(block.zones) > 1 and block.reservation is None


def bulk_insert(resource: Mapping[str, Any], zones: Sequence[str], others: Sequence[str]) -> dict[str, Any]:
    """A bulk insert of one instance, in whichever of the zones has it.

    One, because all instances of a bulk insert share their metadata, and each boot script holds a ticket of its own.

    Args:
        resource: the instance, from ``instance``.
        zones: where it may be.
        others: the region's other zones.
    """
    properties = {key: value for key, value in resource.items() if key != "name"}
    # These are names here, not addresses: the zone is not known yet. The disk is named after its instance.
    properties["machine_type"] = _last(resource["machine_type"])
    (disk,) = resource["disks"]
    params = {key: value for key, value in disk["initialize_params"].items() if key != "disk_name"}
    properties["disks"] = [{**disk, "initialize_params": {**params, "disk_type": _last(params["disk_type"])}}]
    if accelerators := resource.get("guest_accelerators"):
        properties["guest_accelerators"] = [
            {**one, "accelerator_type": _last(one["accelerator_type"])} for one in accelerators
        ]
    places = {f"zones/{zone}": {"preference": "ALLOW"} for zone in zones}
    places |= {f"zones/{zone}": {"preference": "DENY"} for zone in others}
    return {
        "count": 1,
        "min_count": 1,
        "per_instance_properties": {resource["name"]: {}},
        "instance_properties": properties,
        "location_policy": {"target_shape": "ANY", "locations": places},
    }


def _disk(site: GcpSite, block: GcpNodeType, zone: str, name: str, marks: Mapping[str, str]) -> dict[str, Any]:
    kind = block.disk_type or ("hyperdisk-balanced" if _is_of(block.instance_type, _HYPERDISK_ONLY) else "pd-balanced")
    return {
        "boot": True,
        "auto_delete": True,
        "initialize_params": {
            "disk_name": name,
            "source_image": image_link(site, block),
            "disk_size_gb": -(-block.disk // _GIB),
            "disk_type": f"zones/{zone}/diskTypes/{kind}",
            "labels": dict(marks),
        },
    }


def _interface(site: GcpSite, zone: str) -> dict[str, Any]:
    subnet = subnet_link(site, zone)
    place = {"network": "global/networks/default"} if subnet is None else {"subnetwork": subnet}
    if not site.network.public_address:
        return place
    return {**place, "access_configs": [{"name": "External NAT", "type_": "ONE_TO_ONE_NAT"}]}


def _scheduling(block: GcpNodeType, spec: LaunchSpec) -> dict[str, Any]:
    spot = spec.offer.market is Market.SPOT
    deadline = _deadline_s(block, spec)
    wanted: dict[str, Any] = {
        "provisioning_model": "SPOT" if spot else "STANDARD",
        "automatic_restart": False,
        "on_host_maintenance": "TERMINATE" if spot or deadline or has_gpus(block) else "MIGRATE",
    }
    if spot or deadline:
        wanted["instance_termination_action"] = "DELETE"
    if deadline:
        wanted["max_run_duration"] = {"seconds": deadline}
    return wanted


def _deadline_s(block: GcpNodeType, spec: LaunchSpec) -> int | None:
    """Whole seconds after which Google ends the instance by itself: the launch's own deadline or the node type's."""
    told = [at for at in (spec.longest_s, block.max_run) if at]
    # Google takes 30 s to 120 d: https://cloud.google.com/compute/docs/instances/limit-vm-runtime
    return min(max(30, round(min(told))), 120 * 86_400) if told else None


def _is_of(machine_type: str, families: Sequence[str]) -> bool:
    return any(machine_type.startswith(f"{family}-") for family in families)


def _last(link: str) -> str:
    return link.rpartition("/")[2]


def _label_key(key: str) -> str:
    safe = re.sub(r"[^a-z0-9_-]", "-", key.lower())[:63]
    return safe if safe[:1].isalpha() else f"x-{safe}"[:63]
