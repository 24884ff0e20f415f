"""``check`` for Azure: who we are, what we may do, and whether what the site names is there.

Azure has no dry runs; it tells the caller's own permissions in a resource group
(https://learn.microsoft.com/rest/api/authorization/permissions/list-for-resource-group).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from autoscaler.providers.azure.connect import Connection
from autoscaler.providers.azure.machines import Machines
from autoscaler.providers.azure.permissions import (
    GROUP_READ,
    PERMISSIONS_READ,
    READ,
    ROLE,
    SECURITY_GROUP_READ,
    SUBNET_READ,
    USAGES_READ,
    image_read,
    needed_by,
)
from autoscaler.providers.azure.request import UBUNTU, is_shared
from autoscaler.providers.base import Check, CredentialsError, ProviderError
from fabric.config.sites import AzureSite
from fabric.model.nodes import Market

_AUTHORIZATION = "2022-04-01"
_RESOURCES = "2021-04-01"
_NETWORK = "2024-05-01"
# Entra and Azure refuse tokens of another time than their own.
_SKEW_S = 120.0


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
        """Every line; what cannot be looked at because of an earlier failure is left out. Never raises."""
        first = self._credentials()
        if not first.ok:
            return [first]
        group = [self._resource_group(), *self._clock()]
        if not group[0].ok:
            return [first, *group]
        return [first, *group, *self._permissions(), self._listing(), *self._network(), self._image(), *self._quotas()]

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
        try:
            found = self._connection.get(self._group, _RESOURCES, GROUP_READ)
        except ProviderError as error:
            remedy = f"make the resource group {self._site.resource_group}, or grant {GROUP_READ} on it, as {ROLE} does"
            return Check("resource group", False, str(error), remedy)
        return Check("resource group", True, f"{self._site.resource_group} in {found.get('location')}")

    def _clock(self) -> Iterator[Check]:
        theirs = self._connection.clock_ms / 1000
        if not theirs:
            return
        off = time.time() - theirs
        ok = abs(off) <= _SKEW_S
        told = f"this machine's clock is {abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} Azure's"
        yield Check("clock", ok, told, "" if ok else "set this machine's clock, best with NTP: tokens are refused")

    def _permissions(self) -> Iterator[Check]:
        """Asked where each is needed: a subnet or an image may be another group's."""
        wanted, lacking = needed_by(self._site), 0
        for scope in dict.fromkeys(scope for scope, _ in wanted):
            try:
                reply = self._connection.get(
                    f"{scope}/providers/Microsoft.Authorization/permissions", _AUTHORIZATION, PERMISSIONS_READ
                )
            except ProviderError as error:
                lacking += 1
                remedy = f"grant {PERMISSIONS_READ} on {scope}, as {ROLE} does"
                yield Check(f"permission {PERMISSIONS_READ}", False, str(error), remedy)
                continue
            granted: list[Mapping[str, Sequence[str]]] = list(reply.get("value", []))
            for permission in [permission for there, permission in wanted if there == scope]:
                if not any(_grants(grant, permission) for grant in granted):
                    lacking += 1
                    remedy = f"grant {permission} on {scope}; {ROLE} is a role that has it"
                    yield Check(f"permission {permission}", False, f"not granted on {scope}", remedy)
        if not lacking:
            yield Check("permissions", True, f"all {len(wanted)} are granted")

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
            ("subnet", SUBNET_READ, wanted),
            ("security group", SECURITY_GROUP_READ, network.security_groups[:1]),
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
        if is_shared(image):
            return Check(
                "image", True, "it is in somebody else's gallery; the first launch shows whether it may be used"
            )
        api = image_read(image)
        try:
            if image.startswith("/"):
                self._connection.get(image, "2024-03-03" if "/galleries/" in image.lower() else "2024-07-01", api)
                return Check("image", True, image.rpartition("/")[2])
            publisher, offer, sku, _ = UBUNTU.values() if image == "ubuntu" else image.split(":")
            found: Sequence[Any] = self._connection.call(
                api, lambda client: client.virtual_machine_images.list(region, publisher, offer, sku, top=1)
            )
        except (ProviderError, ValueError) as error:
            return Check("image", False, str(error), f"name an image that exists in {region}, and grant {api}")
        remedy = "" if found else f"name an image that is published in {region}"
        return Check("image", bool(found), f"{publisher}:{offer}:{sku} has {len(found) or 'no'} version", remedy)

    def _quotas(self) -> Iterator[Check]:
        """Cores left of the two quotas that every size counts against; a family's own is told when it refuses."""
        try:
            usages = self._connection.call(USAGES_READ, lambda client: list(client.usage.list(self._site.region)))
        except ProviderError as error:
            yield Check("quotas", False, str(error), f"grant {USAGES_READ} on the subscription, as {ROLE} does")
            return
        markets = {market for block in self._site.node_types.values() for market in block.market}
        names = {"lowPriorityCores" if market is Market.SPOT else "cores" for market in markets}
        for usage in usages:
            if usage.name.value in names:
                left = usage.limit - usage.current_value
                remedy = "" if left > 0 else "ask Azure for more, or end machines: az vm list-usage shows them"
                yield Check(f"quota {usage.name.value}", left > 0, f"{left} of {usage.limit} cores are left", remedy)


def _grants(grant: Mapping[str, Sequence[str]], permission: str) -> bool:
    allowed = any(_matches(pattern, permission) for pattern in grant.get("actions", ()))
    return allowed and not any(_matches(pattern, permission) for pattern in grant.get("notActions", ()))


def _matches(pattern: str, permission: str) -> bool:
    """Azure's wildcards: a star stands for any text, and case does not matter."""
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), permission, re.IGNORECASE) is not None
