"""``check`` for AWS: who we are, what we may do, and whether what the site names is there.

Permissions are tried with ``DryRun``: EC2 answers ``DryRunOperation`` where the call would have been allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from autoscaler.providers.aws import requests
from autoscaler.providers.aws.client import AwsApi
from autoscaler.providers.aws.errors import denied_action
from autoscaler.providers.aws.images import Images
from autoscaler.providers.aws.quotas import Family, family_of
from autoscaler.providers.base import (
    TAG_OWNER,
    BadRequestError,
    Check,
    CredentialsError,
    LaunchSpec,
    NetworkError,
    NotFoundError,
    ProviderError,
)
from fabric.config.sites import AwsSite
from fabric.model.nodes import Market, Offer

POLICY = "configs/iam/aws.json"
# An id of the right form that no instance has.
_NOBODY = "i-00000000000000000"
_CLOCK = "RequestExpired"


def checks(
    api: AwsApi,
    images: Images,
    name: str,
    site: AwsSite,
    owner: str,
    offers: Callable[[], Sequence[Offer]],
    spec: Callable[[Offer], LaunchSpec],
) -> list[Check]:
    """Every line of the preflight; what cannot be looked at because of an earlier failure is left out."""
    identity = _identity(api, site)
    found = [identity]
    if not identity.ok:
        return found
    prices, offered = _prices(offers)
    found += [prices, _image(images, site), *_network(api, site), *_types(api, site)]
    found += _permissions(api, images, name, site, owner, [spec(offer) for offer in _one_per_type(offered)])
    found += _quotas(api, site)
    return found


def _identity(api: AwsApi, site: AwsSite) -> Check:
    try:
        who = api.sts("GetCallerIdentity")
    except NetworkError as error:
        remedy = "open the way to STS, or set endpoint, sts_endpoint, proxy or ca of the site"
        return Check("reachable", False, str(error), remedy)
    except ProviderError as error:
        remedy = "renew the credentials that the site's profile, credentials file or the machine's role gives"
        if error.cloud_code == _CLOCK:
            remedy = f"set this machine's clock (NTP); if it is right, {remedy}"
        return Check("credentials", False, str(error), remedy)
    return Check("credentials", True, f"{who.get('Arn')} in account {who.get('Account')}, region {site.region}")


def _prices(offers: Callable[[], Sequence[Offer]]) -> tuple[Check, Sequence[Offer]]:
    try:
        found = offers()
    except BadRequestError as error:
        return Check("prices", False, str(error), "write a price, or refresh the price files"), ()
    return Check("prices", True, f"{len(found)} offers have a price"), found


def _image(images: Images, site: AwsSite) -> Check:
    images.forget()
    try:
        image = images.get()
    except ProviderError as error:
        return _failed("image", error, "DescribeImages", "name an image that exists in the region and that you may use")
    return Check("image", True, f"{site.image} is {image.image_id} ({image.architecture}, root disk {image.root})")


def _network(api: AwsApi, site: AwsSite) -> Iterator[Check]:
    network = site.network
    wanted = {**network.subnets, **({"": network.subnet} if network.subnet else {})}
    if wanted:
        try:
            found = {item["SubnetId"]: item for item in _subnets(api, sorted(set(wanted.values())))}
        except ProviderError as error:
            yield _failed("subnets", error, "DescribeSubnets", "name subnets of this region")
            found = {}
        for zone, subnet in wanted.items():
            if subnet in found:
                yield _subnet(found[subnet], zone)
    if network.security_groups:
        try:
            api.ec2("DescribeSecurityGroups", GroupIds=list(network.security_groups))
            yield Check("security groups", True, f"{', '.join(network.security_groups)} exist")
        except ProviderError as error:
            yield _failed("security groups", error, "DescribeSecurityGroups", "name security groups of the VPC")


def _subnets(api: AwsApi, ids: Sequence[str]) -> Sequence[dict[str, Any]]:
    return api.ec2("DescribeSubnets", SubnetIds=list(ids)).get("Subnets", [])


def _subnet(item: dict[str, Any], zone: str) -> Check:
    subnet, there = item["SubnetId"], item.get("AvailabilityZone", "")
    if zone and zone != there:
        detail = f"{subnet} is in {there}, not in {zone}"
        return Check("subnets", False, detail, f"name a subnet of {zone} under network.subnets")
    if item.get("AvailableIpAddressCount", 1) == 0:
        return Check("subnets", False, f"{subnet} has no free address", "free addresses, or name a larger subnet")
    return Check("subnets", True, f"{subnet} in {there} has {item.get('AvailableIpAddressCount')} free addresses")


def _types(api: AwsApi, site: AwsSite) -> Iterator[Check]:
    wanted = sorted({block.instance_type for block in site.node_types.values()})
    where: dict[str, set[str]] = {}
    request: dict[str, Any] = {
        "LocationType": "availability-zone",
        "Filters": [{"Name": "instance-type", "Values": wanted}],
    }
    try:
        while True:
            page = api.ec2("DescribeInstanceTypeOfferings", **request)
            for item in page.get("InstanceTypeOfferings", []):
                where.setdefault(item["InstanceType"], set()).add(item["Location"])
            if not page.get("NextToken"):
                break
            request["NextToken"] = page["NextToken"]
    except ProviderError as error:
        yield _failed("instance types", error, "DescribeInstanceTypeOfferings", "name instance types of the region")
        return
    for key, block in site.node_types.items():
        there = where.get(block.instance_type, set())
        missing = sorted(set(block.zones) - there) if there else sorted(block.zones) or [site.region]
        if missing:
            detail = f"{block.instance_type} is not offered in {', '.join(missing)}"
            choice = f"offered in {', '.join(sorted(there))}" if there else "not offered in the region at all"
            yield Check("instance types", False, detail, f"change zones or instance_type of {key}; it is {choice}")
        else:
            yield Check("instance types", True, f"{block.instance_type} is offered in {', '.join(sorted(there))}")


def _permissions(
    api: AwsApi, images: Images, name: str, site: AwsSite, owner: str, specs: Sequence[LaunchSpec]
) -> Iterator[Check]:
    ours = {"Filters": [{"Name": f"tag:{TAG_OWNER}", "Values": [owner]}]}
    yield _allowed(api, "DescribeInstances", **ours)
    yield _allowed(api, "TerminateInstances", InstanceIds=[_victim(api, ours)])
    for spec in specs:
        block = site.node_types[spec.offer.node_type.removeprefix(f"{name}.")]
        try:
            image = images.get()
        except ProviderError:
            return  # said already
        if requests.by_fleet(spec.offer, block):
            yield _allowed(api, "CreateLaunchTemplate", **requests.launch_template(spec, site, block, image))
            yield _allowed(api, "CreateFleet", **requests.create_fleet(spec, site, block))
            yield _allowed(api, "DescribeLaunchTemplates", **ours)
            yield _allowed(api, "DeleteLaunchTemplate", LaunchTemplateName=requests.template_name(spec.token))
        else:
            request = requests.run_instances(spec, site, block, image)
            # A dry run makes nothing, so it must not take the token of something that is made.
            del request["ClientToken"]
            yield _allowed(api, "RunInstances", **request)


def _allowed(api: AwsApi, call: str, **request: Any) -> Check:
    title = f"permission ec2:{call}"
    try:
        api.ec2(call, DryRun=True, **request)
    except NotFoundError:
        return Check(title, True, "allowed, as far as can be told without an instance")
    except ProviderError as error:
        if error.cloud_code == "DryRunOperation":
            return Check(title, True, "allowed")
        return _failed(title, error, call, "what the site's block asks for is refused; the message says why")
    return Check(title, True, "allowed")


def _victim(api: AwsApi, ours: dict[str, Any]) -> str:
    """An instance to try the end of, in a dry run: one of ours, so that conditions on tags are met."""
    try:
        page = api.ec2("DescribeInstances", MaxResults=5, **ours)
    except ProviderError:
        return _NOBODY
    found = [item["InstanceId"] for reservation in page["Reservations"] for item in reservation["Instances"]]
    return found[0] if found else _NOBODY


def _quotas(api: AwsApi, site: AwsSite) -> Iterator[Check]:
    """What the node types may take at most, in vCPUs, against each family's quota."""
    wanted: dict[tuple[Family, Market], int] = {}
    for block in site.node_types.values():
        for market in block.market:
            if block.cpus and not block.capacity_block:
                key = (family_of(block.instance_type), market)
                wanted[key] = wanted.get(key, 0) + block.cpus * block.max
    for (family, market), cpus in wanted.items():
        code = family.spot if market is Market.SPOT else family.on_demand
        if code:
            yield _quota(api, f"{family.name} {market}", code, cpus)


def _quota(api: AwsApi, what: str, code: str, cpus: int) -> Check:
    title = f"quota {what}"
    try:
        reply = api.quotas("GetServiceQuota", ServiceCode="ec2", QuotaCode=code)
        limit = float(reply["Quota"]["Value"])
    except CredentialsError as error:
        detail = f"not known: {denied_action(error, 'GetServiceQuota')} is not allowed"
        return Check(title, False, detail, f"allow servicequotas:GetServiceQuota, as {POLICY} does")
    except (ProviderError, KeyError) as error:
        # Service Quotas is a service of its own; where it is out of reach, launches still say so by themselves.
        return Check(title, True, f"not known: {error}")
    if limit < cpus:
        remedy = f"ask AWS for more under quota {code}, or lower max"
        return Check(title, False, f"{limit:g} vCPUs; the node types may take {cpus}", remedy)
    return Check(title, True, f"{limit:g} vCPUs; the node types may take {cpus}")


def _failed(title: str, error: ProviderError, call: str, remedy: str) -> Check:
    if isinstance(error, CredentialsError):
        action = denied_action(error, call)
        return Check(f"permission {action}", False, str(error), f"allow {action}, as {POLICY} does")
    if isinstance(error, NetworkError):
        remedy = "open the way to EC2, or set endpoint, proxy or ca of the site"
    return Check(title, False, str(error), remedy)


def _one_per_type(offers: Iterable[Offer]) -> list[Offer]:
    """One offer for each node type and market."""
    return list({(offer.node_type, offer.market): offer for offer in offers}.values())
