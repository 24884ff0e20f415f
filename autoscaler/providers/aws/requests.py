"""What EC2 is asked for: from a launch and the site's block to the members of ``RunInstances`` and ``CreateFleet``.

Pure; the members are those of botocore's own service model.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from autoscaler.providers.base import TAG_TOKEN, BadRequestError, LaunchSpec
from fabric.config.sites import AwsNodeType, AwsSite
from fabric.model.money import USD, MicroUSD
from fabric.model.nodes import Market, Offer

# EC2's limit, before base64; cloud-init unpacks what is compressed.
USER_DATA_BYTES = 16 * 1024
_GIB = 1024**3
_TOKEN_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class Image:
    """What has to be known of an AMI.

    Attributes:
        image_id: its id.
        root: device name of its root disk.
        gib: size of that disk in the image; a machine's may not be smaller.
        architecture: ``x86_64`` or ``arm64``.
    """

    image_id: str
    root: str
    gib: int = 0
    architecture: str = "x86_64"


def client_token(token: str) -> str:
    """Our token as EC2's idempotency key: at most 64 ASCII characters."""
    if len(token) <= _TOKEN_CHARACTERS and token.isascii():
        return token
    return sha256(token.encode()).hexdigest()


def template_name(token: str) -> str:
    """Name of the launch template that lives while a fleet is asked for one launch."""
    return f"fabric-{client_token(token)}"


def run_instances(spec: LaunchSpec, site: AwsSite, block: AwsNodeType, image: Image) -> dict[str, Any]:
    """The members of ``RunInstances`` for one launch.

    Raises:
        BadRequestError: the user data are too long even when compressed.
    """
    offer = spec.offer
    request: dict[str, Any] = {
        **_machine(spec, site, block, image),
        "NetworkInterfaces": [_interface(site, _subnet(site, offer.zone))],
        "UserData": user_data(spec.user_data),
        "MinCount": 1,
        "MaxCount": 1,
        "ClientToken": client_token(spec.token),
        "TagSpecifications": _tags(spec, site, ["instance", "volume", "network-interface", *_spot_request(offer)]),
    }
    if offer.zone:
        request["Placement"] = {"AvailabilityZone": offer.zone}
    market = _market(offer, block)
    return {**request, "InstanceMarketOptions": market} if market else request


def launch_template(spec: LaunchSpec, site: AwsSite, block: AwsNodeType, image: Image) -> dict[str, Any]:
    """The members of ``CreateLaunchTemplate`` for one launch by a fleet; market and zones are the fleet's."""
    data = {
        **_machine(spec, site, block, image),
        "NetworkInterfaces": [_interface(site, site.network.subnet if not site.network.subnets else None)],
        "UserData": base64.b64encode(user_data(spec.user_data)).decode(),
        "TagSpecifications": _tags(spec, site, ["instance", "volume", "network-interface", *_spot_request(spec.offer)]),
    }
    return {
        "LaunchTemplateName": template_name(spec.token),
        "LaunchTemplateData": data,
        "TagSpecifications": _tags(spec, site, ["launch-template"]),
    }


def create_fleet(spec: LaunchSpec, site: AwsSite, block: AwsNodeType) -> dict[str, Any]:
    """The members of ``CreateFleet`` for one instance in whichever of the zones has it."""
    spot = spec.offer.market is Market.SPOT
    overrides: list[dict[str, Any]] = []
    for zone in block.zones:
        subnet = site.network.subnets.get(zone)
        where = {"SubnetId": subnet} if subnet else {"AvailabilityZone": zone}
        price = {"MaxPrice": dollars(spec.offer.tariff.per_hour)} if spot else {}
        overrides.append({"InstanceType": block.instance_type, **where, **price})
    template = {"LaunchTemplateName": template_name(spec.token), "Version": "$Default"}
    request: dict[str, Any] = {
        "Type": "instant",
        "ClientToken": client_token(spec.token),
        "LaunchTemplateConfigs": [{"LaunchTemplateSpecification": template, "Overrides": overrides}],
        "TargetCapacitySpecification": {
            "TotalTargetCapacity": 1,
            "DefaultTargetCapacityType": "spot" if spot else "on-demand",
        },
        "TagSpecifications": _tags(spec, site, ["fleet", "instance"]),
    }
    if spot:
        request["SpotOptions"] = {"AllocationStrategy": "price-capacity-optimized"}
    else:
        request["OnDemandOptions"] = {"AllocationStrategy": "lowest-price"}
    return request


def by_fleet(offer: Offer, block: AwsNodeType) -> bool:
    """Whether a launch goes through an instant fleet: several zones at once, and no reservation that binds to one."""
    return block.fleet and not offer.zone and len(block.zones) > 1 and block.reservation is None


def user_data(script: str) -> bytes:
    """The boot script as EC2 takes it, compressed only where it has to be; the same bytes for the same script.

    Raises:
        BadRequestError: it is too long even so.
    """
    plain = script.encode()
    if len(plain) <= USER_DATA_BYTES:
        return plain
    packed = gzip.compress(plain, mtime=0)
    if len(packed) > USER_DATA_BYTES:
        raise BadRequestError(
            f"the boot script has {len(plain)} bytes, {len(packed)} compressed; EC2 takes {USER_DATA_BYTES}"
        )
    return packed


def dollars(amount: MicroUSD) -> str:
    """A price as EC2 writes it."""
    return f"{amount // USD}.{amount % USD:06d}"


def _machine(spec: LaunchSpec, site: AwsSite, block: AwsNodeType, image: Image) -> dict[str, Any]:
    """What a launch and a launch template have in common."""
    disk = {
        "VolumeSize": max(-(-block.disk // _GIB), image.gib),
        "VolumeType": "gp3",
        "Encrypted": True,
        "DeleteOnTermination": True,
    }
    machine: dict[str, Any] = {
        "ImageId": image.image_id,
        "InstanceType": block.instance_type,
        "BlockDeviceMappings": [{"DeviceName": image.root, "Ebs": disk}],
        "InstanceInitiatedShutdownBehavior": "terminate",
        # One hop: the instance itself may ask who it is, containers on it may not.
        "MetadataOptions": {"HttpEndpoint": "enabled", "HttpTokens": "required", "HttpPutResponseHopLimit": 1},
    }
    if site.instance_profile:
        machine["IamInstanceProfile"] = {"Name": site.instance_profile}
    if block.reservation and spec.offer.market is Market.ON_DEMAND:
        machine["CapacityReservationSpecification"] = {"CapacityReservationTarget": _reservation(block.reservation)}
    return machine


def _interface(site: AwsSite, subnet: str | None) -> dict[str, Any]:
    """The one network interface; a subnet's own habit of giving public addresses does not count."""
    interface: dict[str, Any] = {
        "DeviceIndex": 0,
        "AssociatePublicIpAddress": site.network.public_address,
        "DeleteOnTermination": True,
    }
    if subnet:
        interface["SubnetId"] = subnet
    if site.network.security_groups:
        interface["Groups"] = list(site.network.security_groups)
    return interface


def _subnet(site: AwsSite, zone: str) -> str | None:
    return site.network.subnets.get(zone) or site.network.subnet


def _market(offer: Offer, block: AwsNodeType) -> dict[str, Any] | None:
    if offer.market is Market.SPOT:
        options = {
            "SpotInstanceType": "one-time",
            "InstanceInterruptionBehavior": "terminate",
            # The budget was promised this price: where the market is above it, the launch is refused instead.
            "MaxPrice": dollars(offer.tariff.per_hour),
        }
        return {"MarketType": "spot", "SpotOptions": options}
    return {"MarketType": "capacity-block"} if block.capacity_block else None


def _reservation(reservation: str) -> dict[str, str]:
    if reservation.startswith("arn:"):
        return {"CapacityReservationResourceGroupArn": reservation}
    return {"CapacityReservationId": reservation}


def _spot_request(offer: Offer) -> list[str]:
    return ["spot-instances-request"] if offer.market is Market.SPOT else []


def _tags(spec: LaunchSpec, site: AwsSite, kinds: list[str]) -> list[dict[str, Any]]:
    wanted: Mapping[str, str] = {**site.tags, TAG_TOKEN: spec.token, **spec.tags}
    tags = [{"Key": key, "Value": value} for key, value in wanted.items()]
    return [{"ResourceType": kind, "Tags": tags} for kind in kinds]
