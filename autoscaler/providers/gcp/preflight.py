"""What a site needs before it can be bought from, looked at one by one, each with what to do when it is missing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from autoscaler.providers.base import TAG_NODE_TYPE, Check, NetworkError, ProviderError
from autoscaler.providers.gcp.connect import TIMEOUT_S, Connection
from autoscaler.providers.gcp.instances import Instances
from autoscaler.providers.gcp.permissions import needed_by
from autoscaler.providers.gcp.quota import shortage
from autoscaler.providers.gcp.request import accelerator_of, image_link, subnet_link
from fabric.config.sites import GcpNodeType, GcpSite
from fabric.model.nodes import Market

# Google refuses tokens that were signed more than some minutes away from its own time.
_SKEW_S = 120.0


class Preflight:
    """The checks of one site.

    Args:
        name: the site's name.
        site: its block.
        connection: the way to the API.
        instances: the calls.
    """

    def __init__(self, name: str, site: GcpSite, connection: Connection, instances: Instances) -> None:
        self._name = name
        self._site = site
        self._connection = connection
        self._instances = instances

    def run(self) -> list[Check]:
        """Every check; those that cannot be made after a failed one are left out. Never raises."""
        first = self._reach()
        if not all(check.ok for check in first):
            return first
        return [
            *first,
            *self._guarded("permissions", self._permissions),
            *self._guarded("image", self._images),
            *self._guarded("shapes", self._shapes),
            *self._guarded("quota", self._quotas),
            *self._guarded("subnet", self._subnets),
        ]

    def _guarded(self, name: str, checks: Callable[[], Iterable[Check]]) -> list[Check]:
        try:
            return list(checks())
        except ProviderError as error:
            return [Check(name, False, str(error), _remedy(error))]

    def _reach(self) -> list[Check]:
        try:
            self._get("projects", "reading the project")
        except ProviderError as error:
            name = "reachable" if isinstance(error, NetworkError) else "credentials"
            return [Check(name, False, str(error), _remedy(error)), *self._guarded("clock", self._clock)]
        at = self._connection.endpoint()
        return [
            Check("reachable", True, f"{at} answers"),
            Check("credentials", True, f"they are accepted for project {self._site.project}"),
            *self._guarded("clock", self._clock),
        ]

    def _clock(self) -> Iterator[Check]:
        theirs = self._connection.clock()
        if theirs is None:
            return
        off = time.time() - theirs
        told = f"this machine's clock is {abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} Google's"
        remedy = "set this machine's clock, best with NTP: Google refuses what is signed at another time"
        yield Check("clock", abs(off) <= _SKEW_S, told, "" if abs(off) <= _SKEW_S else remedy)

    def _permissions(self) -> Iterator[Check]:
        """Asked of the Resource Manager, which says of each whether we have it on the project."""
        wanted = needed_by(self._site)
        url = f"{self._connection.iam_endpoint()}/v3/projects/{self._site.project}:testIamPermissions"
        try:
            granted = set(self._connection.post(url, {"permissions": wanted}).get("permissions", ()))
        except ProviderError as error:
            remedy = "name the endpoint of the Resource Manager API as iam_endpoint of the site, and enable that API"
            yield Check("permissions", False, f"{url}: {error}", remedy)
            return
        for missing in [permission for permission in wanted if permission not in granted]:
            remedy = f"add {missing} to the role of these credentials; configs/iam/gcp.yaml is a role that has it"
            yield Check(f"permission {missing}", False, f"not granted on project {self._site.project}", remedy)
        if granted.issuperset(wanted):
            yield Check("permissions", True, f"all {len(wanted)} are granted")

    def _images(self) -> Iterator[Check]:
        for link in sorted({image_link(self._site, block) for block in self._site.node_types.values()}):
            parts = link.partition("projects/")[2].split("/")
            what = f"reading image {link}"
            try:
                if parts[-2] == "family":
                    self._ask("images", "get_from_family", {"project": parts[0], "family": parts[-1]}, what)
                else:
                    self._ask("images", "get", {"project": parts[0], "image": parts[-1]}, what)
            except ProviderError as error:
                yield Check(
                    "image", False, str(error), "name an image of this project, or ubuntu, as image of the site"
                )
                continue
            yield Check("image", True, f"{link} is there")

    def _shapes(self) -> Iterator[Check]:
        for key, block in self._site.node_types.items():
            lacking: list[str] = []
            for zone in block.zones:
                lacking += self._lacking(zone, block)
            told = "; ".join(lacking) or f"{block.instance_type} is sold in {', '.join(block.zones) or 'no zone'}"
            remedy = f"take these zones out of zones: of {self._name}.{key}, or choose another shape" if lacking else ""
            yield Check(f"shape {key}", not lacking, told, remedy)

    def _lacking(self, zone: str, block: GcpNodeType) -> Iterator[str]:
        wanted = [("machine_types", "machine_type", block.instance_type)]
        if (accelerator := accelerator_of(block)) is not None:
            wanted.append(("accelerator_types", "accelerator_type", accelerator[0]))
        for service, argument, name in wanted:
            try:
                self._get(service, f"reading {name} in {zone}", zone=zone, **{argument: name})
            except NetworkError:
                raise
            except ProviderError as error:
                yield f"{zone} has no {name}: {error.message}"

    def _quotas(self) -> Iterator[Check]:
        region = self._get("regions", f"reading region {self._site.region}", region=self._site.region)
        free = {str(quota.metric): float(quota.limit) - float(quota.usage) for quota in region.quotas}
        living = Counter(one.instance.tags.get(TAG_NODE_TYPE, "") for one in self._instances.owned())
        for key, block in self._site.node_types.items():
            more = max(0, block.max - living[f"{self._name}.{key}"])
            for market in block.market:
                short = shortage(self._site, block, more, market is Market.SPOT, free)
                told = "; ".join(short) or f"there is room for {more} more {market} instances, as far as Google says"
                remedy = f"ask Google for more quota in {self._site.region}, or lower max: of {self._name}.{key}"
                yield Check(f"quota {key} {market}", not short, told, remedy if short else "")

    def _subnets(self) -> Iterator[Check]:
        zones = sorted({zone for block in self._site.node_types.values() for zone in block.zones})
        links = {link for zone in zones or [""] if (link := subnet_link(self._site, zone)) is not None}
        for link in sorted(links):
            parts = link.partition("projects/")[2].split("/")
            place = {"project": parts[0], "region": parts[2], "subnetwork": parts[4]}
            try:
                subnet = self._ask("subnetworks", "get", place, f"reading subnet {link}")
            except ProviderError as error:
                yield Check("subnet", False, str(error), "name a subnet of the site's region in network: of the site")
                continue
            yield Check("subnet", True, f"{link} is there, with {subnet.ip_cidr_range}")

    def _get(self, service: str, what: str, **request: str) -> Any:
        return self._ask(service, "get", {"project": self._site.project, **request}, what)

    def _ask(self, service: str, method: str, request: dict[str, str], what: str) -> Any:
        call = getattr(self._connection.client(service), method)
        return self._connection.call(what, lambda: call(request, retry=None, timeout=TIMEOUT_S))


def _remedy(error: ProviderError) -> str:
    return {
        "network": "is the endpoint right, and is there a route, a proxy or a CA bundle missing?",
        "credentials": "set credentials: of the site, GOOGLE_APPLICATION_CREDENTIALS, or gcloud auth "
        "application-default login; then bind the role of configs/iam/gcp.yaml",
        "throttled": "wait a minute and ask again",
        "not_found": "is project: of the site the project's id?",
    }.get(error.code, "the message says what Google refuses; correct the site's block")
