"""The addresses of Azure Resource Manager that the test server knows, and what may be asked of each.

Written down apart from the provider's own table, so that the two can be held against each other.
https://learn.microsoft.com/azure/role-based-access-control/permissions/compute
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_GROUP = "/subscriptions/(?P<subscription>[^/]+)/resourceGroups/(?P<group>[^/]+)"
_REGION = "/subscriptions/(?P<subscription>[^/]+)/providers/Microsoft.Compute/locations/(?P<region>[^/]+)"
_MACHINE = (
    f"{_GROUP}/providers/Microsoft.Compute/virtualMachines/(?P<name>[A-Za-z0-9][A-Za-z0-9._-]{{0,62}}[A-Za-z0-9])"
)
_SKU = "/publishers/(?P<publisher>[^/]+)/artifacttypes/vmimage/offers/(?P<offer>[^/]+)/skus/(?P<sku>[^/]+)"

# name: verb, address, the query that may be there beside api-version, the permission
ROUTES: dict[str, tuple[str, str, frozenset[str], str]] = {
    "group.get": ("GET", _GROUP, frozenset(), "Microsoft.Resources/subscriptions/resourceGroups/read"),
    "permissions.list": (
        "GET",
        "(?P<scope>/subscriptions/.+)/providers/Microsoft.Authorization/permissions",
        frozenset(),
        "Microsoft.Authorization/permissions/read",
    ),
    "machines.put": ("PUT", _MACHINE, frozenset(), "Microsoft.Compute/virtualMachines/write"),
    "machines.get": ("GET", _MACHINE, frozenset({"$expand"}), "Microsoft.Compute/virtualMachines/read"),
    "machines.delete": ("DELETE", _MACHINE, frozenset({"forceDeletion"}), "Microsoft.Compute/virtualMachines/delete"),
    "machines.list": (
        "GET",
        f"{_GROUP}/providers/Microsoft.Compute/virtualMachines",
        frozenset({"$expand", "$filter", "$skiptoken"}),
        "Microsoft.Compute/virtualMachines/read",
    ),
    "operations.get": (
        "GET",
        f"{_REGION}/operations/(?P<operation>[^/]+)",
        frozenset({"p"}),
        "Microsoft.Compute/locations/operations/read",
    ),
    "usages.list": ("GET", f"{_REGION}/usages", frozenset(), "Microsoft.Compute/locations/usages/read"),
    "images.list": (
        "GET",
        f"{_REGION}{_SKU}/versions",
        frozenset({"$top", "$expand", "$orderby"}),
        "Microsoft.Compute/locations/publishers/artifacttypes/offers/skus/versions/read",
    ),
    "image.get": (
        "GET",
        f"{_GROUP}/providers/Microsoft.Compute/images/(?P<image>[^/]+)",
        frozenset(),
        "Microsoft.Compute/images/read",
    ),
    "gallery.get": (
        "GET",
        f"{_GROUP}/providers/Microsoft.Compute/galleries/(?P<gallery>[^/]+)/images/(?P<image>[^/]+)/versions/[0-9.]+",
        frozenset(),
        "Microsoft.Compute/galleries/images/versions/read",
    ),
    "subnet.get": (
        "GET",
        f"{_GROUP}/providers/Microsoft.Network/virtualNetworks/(?P<network>[^/]+)/subnets/(?P<subnet>[^/]+)",
        frozenset(),
        "Microsoft.Network/virtualNetworks/subnets/read",
    ),
    "nsg.get": (
        "GET",
        f"{_GROUP}/providers/Microsoft.Network/networkSecurityGroups/(?P<nsg>[^/]+)",
        frozenset(),
        "Microsoft.Network/networkSecurityGroups/read",
    ),
}
_PATTERNS = {name: re.compile(route[1], re.IGNORECASE) for name, route in ROUTES.items()}


@dataclass(frozen=True)
class Call:
    """One call: its route's name, what its address and query say, its headers (in lower case) and its JSON."""

    route: str
    given: dict[str, str]
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


def find(verb: str, path: str) -> tuple[str, dict[str, str]] | None:
    """The route that an address belongs to, with its parts; None for an address nobody has."""
    for name, pattern in _PATTERNS.items():
        if ROUTES[name][0] == verb and (match := pattern.fullmatch(path)):
            return name, match.groupdict()
    return None


def query_complaints(route: str, query: dict[str, str]) -> Iterator[str]:
    """What Azure would not take after the question mark."""
    version = query.get("api-version", "")
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}(-preview)?", version):
        yield f"{route}: the api-version is {version!r}"
    for name in query.keys() - {"api-version"} - ROUTES[route][2]:
        yield f"{route}: there is no query parameter {name!r}"
    if "$expand" in query and route.startswith("machines.") and query["$expand"] != "instanceView":
        yield f"{route}: $expand is {query['$expand']!r}"


def needed(route: str, body: Any) -> Iterator[str]:
    """The permissions of one call."""
    yield ROUTES[route][3]
    if route == "machines.put":
        yield from _of_machine(body)
    if route == "machines.delete":
        yield from (
            "Microsoft.Compute/disks/delete",
            "Microsoft.Network/networkInterfaces/delete",
        )


def _of_machine(body: Any) -> Iterator[str]:
    """Whoever makes a machine needs what its parts need: each is written or joined in their name."""
    yield "Microsoft.Compute/disks/write"
    properties = body["properties"]
    if image := properties["storageProfile"]["imageReference"].get("id", ""):
        gallery = "/galleries/" in image
        yield "Microsoft.Compute/galleries/images/versions/read" if gallery else "Microsoft.Compute/images/read"
    if "capacityReservation" in properties:
        yield "Microsoft.Compute/capacityReservationGroups/deploy/action"
    for interface in properties["networkProfile"]["networkInterfaceConfigurations"]:
        yield from ("Microsoft.Network/networkInterfaces/write", "Microsoft.Network/networkInterfaces/join/action")
        if "networkSecurityGroup" in interface["properties"]:
            yield "Microsoft.Network/networkSecurityGroups/join/action"
        for address in interface["properties"]["ipConfigurations"]:
            yield "Microsoft.Network/virtualNetworks/subnets/join/action"
            if "publicIPAddressConfiguration" in address["properties"]:
                yield from (
                    "Microsoft.Network/publicIPAddresses/write",
                    "Microsoft.Network/publicIPAddresses/join/action",
                    "Microsoft.Network/publicIPAddresses/delete",
                )
