"""Which AMI a site's ``image`` is, and what has to be known of it."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from typing import Any

from autoscaler.providers.aws.client import AwsApi
from autoscaler.providers.aws.requests import Image
from autoscaler.providers.base import BadRequestError
from fabric.config.sites import AwsSite

STOCK = "ubuntu"
_STOCK_NAME = "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-*"
# Canonical publishes under one account in each partition. https://documentation.ubuntu.com/aws/aws-how-to/instances/find-ubuntu-images/
_CANONICAL = ("099720109477", "513442679011", "837727238323")


class Images:
    """The site's image, looked up once and again after EC2 has refused it."""

    def __init__(self, api: AwsApi, site: AwsSite) -> None:
        self._api = api
        self._site = site
        self._lock = threading.Lock()
        self._known: Image | None = None

    def get(self) -> Image:
        """The image as it is now.

        Raises:
            BadRequestError: there is none.
            ProviderError: EC2 could not be asked.
        """
        with self._lock:
            if self._known is None:
                self._known = self._find()
            return self._known

    def forget(self) -> None:
        """Look it up again next time."""
        with self._lock:
            self._known = None

    def _find(self) -> Image:
        found = self._api.ec2("DescribeImages", **query(self._site.image)).get("Images", [])
        usable = [item for item in found if item.get("State") == "available"]
        if not usable:
            said = f"the image is {found[0].get('State')}" if found else "there is no such image"
            raise BadRequestError(f"image {self._site.image}: {said} in {self._site.region}", cloud_code="no image")
        return _image(max(usable, key=lambda item: item.get("CreationDate", "")))


def query(image: str) -> dict[str, Any]:
    """The members of ``DescribeImages`` that find an image.

    ``ami-…`` is an id; ``ubuntu`` Canonical's newest; ``123456789012/NAME`` a name of that account; any other a name of
    your own account: a name alone could be anybody's.
    """
    if image.startswith("ami-"):
        return {"ImageIds": [image]}
    if image == STOCK:
        return {"Owners": list(_CANONICAL), "Filters": [{"Name": "name", "Values": [_STOCK_NAME]}]}
    account, name = re.fullmatch(r"(?:(\d{12})/)?(.+)", image).groups()  # pyright: ignore[reportOptionalMemberAccess]
    return {"Owners": [account or "self"], "Filters": [{"Name": "name", "Values": [name]}]}


def _image(item: Mapping[str, Any]) -> Image:
    root = item.get("RootDeviceName") or "/dev/sda1"
    disks = {disk.get("DeviceName"): disk.get("Ebs", {}) for disk in item.get("BlockDeviceMappings", ())}
    gib = disks.get(root, {}).get("VolumeSize") or 0
    return Image(str(item["ImageId"]), str(root), int(gib), str(item.get("Architecture", "x86_64")))
