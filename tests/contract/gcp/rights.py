"""Which permissions a call needs, by its method and by what is in it, as the reference's pages say.

Written down here apart from the provider's own table, so that the two can be held against each other.
https://cloud.google.com/compute/docs/reference/rest/v1/instances/insert#iam-permissions
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.contract.gcp.catalog import PROJECT


def needed(method: str, given: dict[str, str], body: Any) -> Iterator[str]:
    """The permissions of one call."""
    service, resource, verb = method.split(".")
    if service != "compute":
        return
    if method == "compute.instances.insert":
        yield from _of_insert(body)
    elif method == "compute.regionInstances.bulkInsert":
        yield from _of_insert(body["instanceProperties"])
    elif resource == "images":
        # Google's own images may be read by everybody who has an account.
        if given["project"] == PROJECT:
            yield f"compute.images.{verb}"
    elif verb in ("list", "aggregatedList"):
        yield f"compute.{resource}.list"
    else:
        yield f"compute.{resource}.{verb}"


def _of_insert(body: Any) -> Iterator[str]:
    yield "compute.instances.create"
    for part, permission in {"labels": "setLabels", "metadata": "setMetadata", "tags": "setTags"}.items():
        if body.get(part):
            yield f"compute.instances.{permission}"
    if body.get("serviceAccounts"):
        yield "compute.instances.setServiceAccount"
    for interface in body["networkInterfaces"]:
        yield "compute.subnetworks.use"
        if interface.get("accessConfigs"):
            yield "compute.subnetworks.useExternalIp"
    for disk in body["disks"]:
        params = disk.get("initializeParams", {})
        yield "compute.disks.create"
        if params.get("labels"):
            yield "compute.disks.setLabels"
        if f"projects/{PROJECT}/" in params.get("sourceImage", ""):
            yield "compute.images.useReadOnly"
