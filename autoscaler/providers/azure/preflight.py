"""``check`` for Azure: who we are, what we may do, and whether what the site names is there.

Azure has no dry runs; it tells the caller's own permissions in a resource group
(https://learn.microsoft.com/rest/api/authorization/permissions/list-for-resource-group).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from autoscaler.providers.azure.connect import Connection
from autoscaler.providers.azure.machines import DELETE, READ, WRITE, Machines
from autoscaler.providers.azure.request import UBUNTU
from autoscaler.providers.base import Check, CredentialsError, ProviderError
from fabric.config.sites import AzureSite

ROLE = "configs/iam/azure.json"
# What the provider does, one by one, as Azure's role definitions name it. ``ROLE`` grants these and no others.
PERMISSIONS = (
    READ,
    WRITE,
    DELETE,
    "Microsoft.Compute/disks/write",
    "Microsoft.Compute/disks/delete",
    "Microsoft.Network/networkInterfaces/read",
    "Microsoft.Network/networkInterfaces/write",
    "Microsoft.Network/networkInterfaces/delete",
    "Microsoft.Network/networkInterfaces/join/action",
)
_AUTHORIZATION = "2022-04-01"
_RESOURCES = "2021-04-01"
_NETWORK = "2024-05-01"


class Preflight:
    """The checks of one site.

    Args:
        site: its block.
        connection: the way to Azure.
        machines: the calls on virtual machines.
    """

    def __init__(self, site: AzureSite, connection: Connection, machines: Machines) -> None:
        self._site = site
        self._connection = connection
        self._machines = machines
        self._group = f"/subscriptions/{site.subscription}/resourceGroups/{site.resource_group}"

    def run(self) -> Sequence[Check]:
        """Every line; what cannot be looked at because of an earlier failure is left out."""
        first = self._credentials()
        if not first.ok:
            return [first]
        group = self._resource_group()
        if not group.ok:
            return [first, group]
        return [first, group, *self._permissions(), self._listing(), *self._network(), self._image(), *self._sizes()]

    def _credentials(self) -> Check:
        try:
            self._connection.call(
                "token", lambda _client: self._connection.credential().get_token(self._connection.scope)
            )
        except ProviderError as error:
            remedy = (
                "sign in (az login), give the machine a managed identity, or name a credentials file under credentials:"
            )
            if not isinstance(error, CredentialsError):
                remedy = "open the way to the authority, or set authority, proxy or ca of the site"
            return Check("credentials", False, str(error), remedy)
        return Check("credentials", True, f"a token for {self._connection.endpoint} was given")

    def _resource_group(self) -> Check:
        api = "Microsoft.Resources/subscriptions/resourceGroups/read"
        try:
            found = self._connection.get(self._group, _RESOURCES, api)
        except ProviderError as error:
            remedy = f"make the resource group {self._site.resource_group}, or grant {api} on it"
            return Check("resource group", False, str(error), remedy)
        return Check("resource group", True, f"{self._site.resource_group} in {found.get('location')}")

    def _permissions(self) -> Iterator[Check]:
        api = "Microsoft.Authorization/permissions/read"
        try:
            reply = self._connection.get(f"{self._group}/providers/{api.rpartition('/')[0]}", _AUTHORIZATION, api)
        except ProviderError as error:
            yield Check("permissions", False, str(error), f"grant {api} on the resource group, as {ROLE} does")
            return
        granted: list[Mapping[str, Sequence[str]]] = list(reply.get("value", []))
        for permission in PERMISSIONS:
            ok = any(_grants(grant, permission) for grant in granted)
            remedy = f"grant {permission} on {self._site.resource_group}; {ROLE} is a role with all that is needed"
            yield Check(f"permission {permission}", ok, "granted" if ok else "not granted", "" if ok else remedy)

    def _listing(self) -> Check:
        try:
            count = sum(1 for _ in self._machines.owned())
        except ProviderError as error:
            return Check("listing", False, str(error), f"grant {READ} on {self._site.resource_group}")
        return Check("listing", True, f"{count} machines of ours are there")

    def _network(self) -> Iterator[Check]:
        network = self._site.network
        wanted: list[str] = sorted({*network.subnets.values(), *([network.subnet] if network.subnet else [])})
        if not wanted:
            yield Check(
                "subnet", False, "no subnet is named and Azure has no default", "write network.subnet: its full id"
            )
        kinds: list[tuple[str, str, list[str]]] = [
            ("subnet", "Microsoft.Network/virtualNetworks/subnets/read", wanted),
            ("security group", "Microsoft.Network/networkSecurityGroups/read", network.security_groups),
        ]
        for kind, api, ids in kinds:
            for resource in ids:
                try:
                    self._connection.get(resource, _NETWORK, api)
                except ProviderError as error:
                    yield Check(
                        kind, False, str(error), f"name one that exists in {self._site.region}, and grant {api}"
                    )
                else:
                    yield Check(kind, True, resource.rpartition("/")[2])

    def _image(self) -> Check:
        image, region = self._site.image, self._site.region
        api = "Microsoft.Compute/images/read"
        try:
            if image.startswith("/"):
                self._connection.get(image, "2024-03-03" if "/galleries/" in image.lower() else "2024-07-01", api)
                return Check("image", True, image.rpartition("/")[2])
            publisher, offer, sku, _ = UBUNTU.values() if image == "ubuntu" else image.split(":")
            api = "Microsoft.Compute/locations/publishers/artifacttypes/offers/skus/versions/read"
            found: Sequence[Any] = self._connection.call(
                api, lambda client: client.virtual_machine_images.list(region, publisher, offer, sku, top=1)
            )
        except (ProviderError, ValueError) as error:
            return Check("image", False, str(error), f"name an image that exists in {region}, and grant {api}")
        remedy = "" if found else f"name an image that is published in {region}"
        return Check("image", bool(found), f"{publisher}:{offer}:{sku} has {len(found) or 'no'} version", remedy)

    def _sizes(self) -> Iterator[Check]:
        """Cores left of each family's quota; Azure tells no family of a size without listing all of them."""
        api = "Microsoft.Compute/locations/usages/read"
        try:
            usages = self._connection.call(api, lambda client: list(client.usage.list(self._site.region)))
        except ProviderError as error:
            yield Check("quotas", False, str(error), f"grant {api} on the subscription")
            return
        for usage in usages:
            if usage.name.value in ("cores", "lowPriorityCores"):
                left = usage.limit - usage.current_value
                remedy = "" if left > 0 else "ask Azure for more, or end machines: az vm list-usage shows them"
                yield Check(f"quota {usage.name.value}", left > 0, f"{left} of {usage.limit} cores are left", remedy)


def _grants(grant: Mapping[str, Sequence[str]], permission: str) -> bool:
    allowed = any(_matches(pattern, permission) for pattern in grant.get("actions", ()))
    return allowed and not any(_matches(pattern, permission) for pattern in grant.get("notActions", ()))


def _matches(pattern: str, permission: str) -> bool:
    """Azure's wildcards: a star stands for any text, and case does not matter."""
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), permission, re.IGNORECASE) is not None
