"""AWS under the provider contract: botocore over real HTTP, moto's own server, and the proxy between them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import botocore.session
import httpx

from autoscaler.providers.aws import AwsProvider
from autoscaler.providers.base import (
    TAG_OWNER,
    CapacityError,
    CredentialsError,
    Provider,
    ProviderError,
    QuotaError,
    ThrottledError,
)
from fabric.config.sites import AwsSite
from fabric.model.nodes import Offer
from tests.conftest import wait_until
from tests.contract.aws.faults import APIS, Refusal
from tests.contract.aws.proxy import Proxy
from tests.contract.clouds import Cloud
from tests.sandboxes import unused_port

SITE = "aws"
REGION = "eu-central-1"
# One that moto knows.
IMAGE = "ami-785db401"
STRICTER = {"MOTO_ENABLE_AMI_VALIDATION": "1", "MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION": "1"}
NODE_TYPES: dict[str, dict[str, Any]] = {
    "l4": {
        "instance_type": "g6.12xlarge",
        "market": ["spot", "on-demand"],
        "zones": [f"{REGION}a", f"{REGION}b"],
        "max": 8,
        "cpus": 48,
        "price": {"on-demand": "5.75 USD/h", "spot": "2.30 USD/h"},
    },
    "t4": {
        "instance_type": "g4dn.xlarge",
        "zones": [f"{REGION}a"],
        "max": 8,
        "cpus": 4,
        "price": {"on-demand": "0.65 USD/h"},
    },
}
_REFUSALS = {
    CapacityError: ("InsufficientInstanceCapacity", "We currently do not have sufficient capacity in that zone.", 500),
    QuotaError: ("VcpuLimitExceeded", "You have requested more vCPU capacity than your current vCPU limit.", 400),
    ThrottledError: ("RequestLimitExceeded", "Request limit exceeded.", 503),
    CredentialsError: ("RequestExpired", "Request has expired.", 400),
}


class AwsCloud(Cloud):
    """A hand on the proxy and, behind it, on moto.

    Attributes:
        behind: a client of moto itself.
    """

    node_types = frozenset(f"{SITE}.{key}" for key in NODE_TYPES)
    stranger = "i-0123456789abcdef0"

    def __init__(self, proxy: Proxy, credentials: Path, behind: Any) -> None:
        super().__init__()
        self.behind = behind
        self.proxy = proxy
        self.faults = proxy.faults
        self.credentials = credentials

    def site(self, **more: Any) -> AwsSite:
        """The site's block; ``more`` wins."""
        block = {
            "kind": "aws",
            "region": REGION,
            "endpoint": self.proxy.url,
            "credentials": str(self.credentials),
            "image": IMAGE,
            "node_types": NODE_TYPES,
            **more,
        }
        return AwsSite.model_validate_json(json.dumps(block))

    def provider(self, owner: str | None = None, page_size: int = 200, **more: Any) -> Provider:
        return AwsProvider(SITE, self.site(**more), owner or self.owner, page_size)

    def nowhere(self) -> Provider:
        return self.provider(endpoint="http://127.0.0.1:1")

    def refuse(self, error: type[ProviderError], operation: str = "launch", times: int = 1) -> None:
        code, message, status = _REFUSALS[error]
        self.refuse_with(code, message, status, operation, times, error in (CapacityError, QuotaError))

    def refuse_with(
        self, code: str, message: str, status: int, operation: str = "launch", times: int = 1, new: bool = False
    ) -> None:
        """Make the next calls fail with a code of EC2's."""
        with self.faults.lock:
            refusal = Refusal(APIS[operation], code, message, status, times, new_tokens_only=new)
            self.faults.refusals.append(refusal)

    def lose_reply(self, operation: str = "launch", times: int = 1) -> None:
        self.faults.lost[operation] += times

    def ignore_terminate(self, times: int) -> None:
        self.faults.deaf = times

    def hide_new(self, seconds: float) -> None:
        self.faults.hide_s = seconds

    def clear(self) -> None:
        self.faults.clear()
        found, self.proxy.objections = self.proxy.objections, []
        assert found == [], "Amazon's own model objects to a request"

    def offer(self, runs: bool = False) -> Offer:  # noqa: ARG002 - every instance of moto's runs, and costs little
        return self.provider().offers()[0]

    def leftovers(self) -> list[str]:
        ours = [{"Name": f"tag:{TAG_OWNER}", "Values": [self.owner]}]
        ec2 = self.behind
        reservations = ec2.describe_instances(Filters=ours)["Reservations"]
        live = {
            item["InstanceId"]
            for reservation in reservations
            for item in reservation["Instances"]
            if item["State"]["Name"] != "terminated"
        }
        disks = [
            disk["VolumeId"]
            for disk in ec2.describe_volumes(Filters=ours)["Volumes"]
            if not live & {attachment["InstanceId"] for attachment in disk["Attachments"]}
        ]
        templates = [
            item["LaunchTemplateName"] for item in ec2.describe_launch_templates(Filters=ours)["LaunchTemplates"]
        ]
        loose = [{"Name": "status", "Values": ["available"]}]
        nics = [
            item["NetworkInterfaceId"] for item in ec2.describe_network_interfaces(Filters=loose)["NetworkInterfaces"]
        ]
        return [*disks, *templates, *nics]


@contextmanager
def serve(folder: Path) -> Iterator[Callable[[], AwsCloud]]:
    """See ``tests.contract.clouds``."""
    credentials = folder / "credentials"
    credentials.write_text("[default]\naws_access_key_id = AKIATESTTESTTESTTEST\naws_secret_access_key = secret\n")
    port = unused_port()
    with (folder / "moto.log").open("wb") as log:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        moto = subprocess.Popen(command, env={**os.environ, **STRICTER}, stdout=log, stderr=log)
    proxy = Proxy(port)
    try:
        wait_until(lambda: _answers(port), what="an answer of moto's server")
        _client("iam", port).create_instance_profile(InstanceProfileName="fabric-node")
        behind = _client("ec2", port)
        yield lambda: AwsCloud(proxy, credentials, behind)
    finally:
        proxy.close()
        moto.kill()
        moto.wait()


def _client(service: str, port: int) -> Any:
    return botocore.session.Session().create_client(
        service,
        region_name=REGION,
        endpoint_url=f"http://127.0.0.1:{port}",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/moto-api/data.json", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
