"""Instances, their operations and their disks, one call each, every error typed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from autoscaler.providers.base import TAG_OWNER, BadRequestError, NetworkError
from autoscaler.providers.gcp.connect import TIMEOUT_S, Connection
from autoscaler.providers.gcp.reply import FIELDS, INTERFACE_FIELDS, Found, found, last
from autoscaler.providers.gcp.request import LABEL_OWNER, bulk_insert, label_value
from fabric.config.sites import GcpSite

# A zone in a listing with one of these is not a zone without instances.
_INCOMPLETE = ("UNREACHABLE", "PARTIAL_SUCCESS", "LIST_OVERHEAD_QUOTA_EXCEED")
_TARGETS_A_CALL = 20


class Instances:
    """What is asked of Google about one site's machines; retries are the caller's.

    Args:
        name: the site's name.
        site: its block.
        owner: value of the owner tag.
        connection: the way to the API.
        page_size: instances a page.
    """

    def __init__(self, name: str, site: GcpSite, owner: str, connection: Connection, page_size: int) -> None:
        self._name = name
        self._site = site
        self._owner = owner
        self._connection = connection
        self._page_size = page_size
        self._masks = True
        self._zones: list[str] | None = None

    def insert(self, zone: str, resource: dict[str, Any], request_id: str) -> Any:
        """Begin to make an instance; the operation."""
        request = {"zone": zone, "instance_resource": resource, "request_id": request_id}
        return self._ask("instances", "insert_unary", request, f"making {resource['name']} in {zone}")

    def insert_anywhere(self, zones: Sequence[str], resource: dict[str, Any], request_id: str) -> Any:
        """Begin to make an instance in one of these zones, Google's choice; the operation is the region's."""
        others = sorted(set(self._region_zones()) - set(zones))
        wanted = bulk_insert(resource, zones, others)
        request = {
            "region": self._site.region,
            "bulk_insert_instance_resource_resource": wanted,
            "request_id": request_id,
        }
        what = f"making {resource['name']} in one of {', '.join(zones)}"
        return self._ask("region_instances", "bulk_insert_unary", request, what)

    def get(self, zone: str, name: str) -> Found:
        """One instance."""
        item = self._ask("instances", "get", {"zone": zone, "instance": name}, f"reading {name}")
        return found(item, zone, self._name)

    def delete(self, zone: str, name: str) -> Any:
        """Begin to end an instance; its disk goes with it.

        Without a ``requestId``: ending twice is harmless, and a repeat must not be answered from memory.
        """
        return self._ask("instances", "delete_unary", {"zone": zone, "instance": name}, f"ending {name} in {zone}")

    def operation(self, zone: str, name: str) -> Any:
        """An operation as it stands now; ``zone`` is ``""`` for one of the region.

        The SDK's own waiting would ask Google's public endpoint.
        """
        if not zone:
            request = {"region": self._site.region, "operation": name}
            return self._ask("region_operations", "get", request, f"reading operation {name}")
        return self._ask("zone_operations", "get", {"zone": zone, "operation": name}, f"reading operation {name}")

    def operations_on(self, zone: str, targets: Sequence[int]) -> Iterator[Any]:
        """The operations that name one of these instances, by Google's numeric ids."""
        for begin in range(0, len(targets), _TARGETS_A_CALL):
            wanted = " OR ".join(f"(targetId = {target})" for target in targets[begin : begin + _TARGETS_A_CALL])
            for page in self._pages("zone_operations", "list", {"zone": zone, "filter": wanted}, "reading operations"):
                yield from page.items

    def made_by(self, zone: str, group: str) -> int | None:
        """Google's number of the instance that a bulk insert made in this zone; None if it made none there."""
        wanted = {"zone": zone, "filter": f'operationGroupId = "{group}"'}
        for page in self._pages("zone_operations", "list", wanted, "reading operations"):
            for operation in page.items:
                if operation.operation_type == "insert":
                    return int(operation.target_id)
        return None

    def owned(self) -> Iterator[Found]:
        """Every instance of our owner in the site's region, all zones, all pages.

        Raises:
            NetworkError: a zone of the region could not be asked: its instances are unknown, not gone.
        """
        wanted = {"filter": self._mine(), "max_results": self._page_size}
        inner = [*FIELDS, *(f"networkInterfaces/{field}" for field in INTERFACE_FIELDS)]
        mask = ",".join(
            ["nextPageToken", "unreachables", "items/*/warning", *(f"items/*/instances/{field}" for field in inner)]
        )
        for zone, scope in self._scopes("instances", wanted, "listing instances", mask):
            for item in scope.instances:
                one = found(item, zone, self._name)
                # Two owners may share a label only if their digests meet; the exact tag decides.
                if one.instance.tags.get(TAG_OWNER) == self._owner and self._here(zone):
                    yield one

    def named(self, name: str) -> list[tuple[str, str]]:
        """Zone and name of every instance in the region that has this name."""
        wanted = {"filter": f'name = "{name}"'}
        scopes = self._scopes("instances", wanted, f"looking for {name}", "nextPageToken,items/*/instances/name")
        return [(zone, str(item.name)) for zone, scope in scopes if self._here(zone) for item in scope.instances]

    def loose_disks(self) -> set[tuple[str, str]]:
        """Zone and name of every disk of ours that no instance uses."""
        mask = "nextPageToken,unreachables,items/*/warning,items/*/disks/name,items/*/disks/users"
        scopes = self._scopes("disks", {"filter": self._mine()}, "listing disks", mask)
        return {
            (zone, str(disk.name))
            for zone, scope in scopes
            if self._here(zone)
            for disk in scope.disks
            if not disk.users
        }

    def delete_disk(self, zone: str, name: str) -> Any:
        """Begin to delete a disk; refused by Google while an instance uses it."""
        return self._ask("disks", "delete_unary", {"zone": zone, "disk": name}, f"deleting disk {name} in {zone}")

    def _region_zones(self) -> list[str]:
        if self._zones is None:
            region = self._ask("regions", "get", {"region": self._site.region}, f"reading {self._site.region}")
            self._zones = [last(str(link)) for link in region.zones]
        return self._zones

    def _mine(self) -> str:
        return f'labels.{LABEL_OWNER} = "{label_value(self._owner)}"'

    def _here(self, zone: str) -> bool:
        return zone.startswith(f"{self._site.region}-")

    def _scopes(self, service: str, wanted: dict[str, Any], what: str, mask: str) -> Iterator[tuple[str, Any]]:
        for page in self._pages(service, "aggregated_list", wanted, what, mask):
            for lost in getattr(page, "unreachables", ()):
                self._complete(last(str(lost)), "UNREACHABLE", str(lost))
            for scope, content in page.items.items():
                zone = last(str(scope))
                self._complete(zone, str(content.warning.code), str(content.warning.message))
                yield zone, content

    def _complete(self, zone: str, code: str, message: str) -> None:
        if code in _INCOMPLETE and self._here(zone):
            raise NetworkError(f"zone {zone} did not answer: {message}", cloud_code=code)

    def _pages(self, service: str, method: str, wanted: dict[str, Any], what: str, mask: str = "") -> Iterator[Any]:
        try:
            pages = iter(self._ask(service, method, wanted, what, mask if self._masks else "").pages)
        except BadRequestError:
            if not (mask and self._masks):
                raise
            # Not every emulator or proxy takes a field mask; without it the reply is longer, nothing else.
            self._masks = False
            pages = iter(self._ask(service, method, wanted, what).pages)
        while True:
            page = self._connection.call(what, lambda: next(pages, None))
            if page is None:
                return
            yield page

    def _ask(self, service: str, method: str, wanted: dict[str, Any], what: str, mask: str = "") -> Any:
        call = getattr(self._connection.client(service), method)
        request = {"project": self._site.project, **wanted}
        # https://cloud.google.com/apis/docs/system-parameters
        metadata = [("x-goog-fieldmask", mask)] if mask else []
        return self._connection.call(what, lambda: call(request, retry=None, timeout=TIMEOUT_S, metadata=metadata))
