"""The ``sites:`` block of ``fabric.yaml``: rooms of your own, the sandbox, and the three clouds.

What a cloud's machine has (GPUs, CPUs, memory, price) is known from its instance type; a key that says otherwise wins.
Credentials never stand here: a site may only say which link of the cloud's own chain to use.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fabric.config.block import Block, FilePath, Labels
from fabric.config.units import (
    Address,
    AtLeastOne,
    ByteCount,
    Count,
    Duration,
    HourlyPrice,
    LabelValue,
    Machine,
    Name,
    Percent,
    Url,
)
from fabric.model.nodes import Market

CloudText = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[^\s\x00-\x1f]+$")]


class PriceBlock(Block):
    """What one instance of a node type costs in each market it is sold in. Billed by the second."""

    on_demand: HourlyPrice | None = Field(default=None, alias="on-demand", description="price in the on-demand market")
    spot: HourlyPrice | None = Field(default=None, description="price in the spot market")
    minimum: Duration = Field(default=60.0, description="least time that is charged once an instance exists")


class OnPremNodeType(Block):
    """Machines you own, all of one shape."""

    nodes: list[Machine] = Field(min_length=1, max_length=5_000, description="one name or address per machine")
    local: bool = Field(default=False, description="true: `fabric up` starts these nodes on this very machine")
    gpus: Count = Field(default=0, description="GPUs of one machine")
    gpu: LabelValue | None = Field(default=None, description="GPU model; becomes the label `fabric/gpu`")
    cpus: AtLeastOne = Field(description="CPUs of one machine")
    memory: ByteCount | None = Field(
        default=None, description="memory for tasks on one machine; left out: Ray measures it"
    )
    labels: Labels = Field(default={}, description="Ray labels that every node of this type carries")


class SandboxNodeType(Block):
    """A machine shape that the sandbox cloud sells."""

    gpus: Count = Field(default=0, description="GPUs of one instance")
    gpu: LabelValue | None = Field(default=None, description="GPU model; becomes the label `fabric/gpu`")
    cpus: AtLeastOne = Field(description="CPUs of one instance")
    memory: ByteCount | None = Field(
        default=None, description="memory for tasks on one instance; left out: Ray measures it"
    )
    market: list[Literal[Market.SPOT, Market.ON_DEMAND]] = Field(
        default=[Market.ON_DEMAND], min_length=1, description="markets it may be bought in; each needs its price"
    )
    price: PriceBlock = Field(description="what one instance costs")
    zones: list[Name] = Field(default=["a"], min_length=1, max_length=100, description="zones that sell it")
    boot: Duration = Field(default=5.0, description="delay between the launch call and the machine running")
    min: Count = Field(default=0, description="instances kept even when nothing waits")
    max: AtLeastOne = Field(description="instances of this type that may exist at once")
    labels: Labels = Field(default={}, description="Ray labels that every node of this type carries")


class SandboxNetwork(Block):
    """How sandbox instances are connected."""

    mode: Literal["host", "namespaces"] = Field(
        default="host",
        description="`host`: this machine's address; `namespaces`: each instance gets its own (needs root)",
    )
    subnet: str = Field(default="10.88.0.0/24", description="addresses for mode `namespaces`")


class OnPremSite(Block):
    """A room of your own."""

    kind: Literal["onprem"] = Field(description="this is a room of your own")
    labels: Labels = Field(
        default={}, description="facts about the site, for data classes; nodes carry them as `fabric/KEY`"
    )
    node_types: dict[Name, OnPremNodeType] = Field(min_length=1, description="machine shapes, by name")


class SandboxSite(Block):
    """The embedded cloud: real processes, real joins, pretended prices."""

    kind: Literal["sandbox"] = Field(description="this is the embedded cloud")
    endpoint: Address = Field(default="127.0.0.1:8410", description="where the sandbox cloud's API listens")
    labels: Labels = Field(
        default={}, description="facts about the site, for data classes; nodes carry them as `fabric/KEY`"
    )
    network: SandboxNetwork = Field(default=SandboxNetwork(), description="how instances are connected")
    node_types: dict[Name, SandboxNodeType] = Field(min_length=1, description="machine shapes, by name")


class CloudNodeType(Block):
    """One instance type of a cloud, and how many of it may be had."""

    instance_type: CloudText = Field(description="the cloud's own name of the shape, for example `g6.12xlarge`")
    market: list[Literal[Market.SPOT, Market.ON_DEMAND]] = Field(
        default=[Market.ON_DEMAND], min_length=1, description="markets it may be bought in, each with a price"
    )
    zones: list[Name] = Field(
        default=[], max_length=100, description="zones to try; left out: those the price files list for the region"
    )
    min: Count = Field(default=0, description="instances kept even when nothing waits")
    max: AtLeastOne = Field(description="instances of this type that may exist at once")
    labels: Labels = Field(default={}, description="Ray labels that every node of this type carries")
    gpus: Count | None = Field(default=None, description="GPUs of one instance; left out: known from the shape")
    gpu: LabelValue | None = Field(default=None, description="GPU model; left out: known from the shape")
    cpus: AtLeastOne | None = Field(default=None, description="CPUs of one instance; left out: known from the shape")
    memory: ByteCount | None = Field(
        default=None,
        description="memory for tasks on one instance; left out: what the shape has, less the system's share",
    )
    price: PriceBlock | None = Field(default=None, description="your own price; left out: from the price files")
    boot: Duration = Field(default=240.0, description="expected delay between the launch call and the joined node")
    disk: ByteCount = Field(default=200 * 1024**3, description="size of the root disk; it is encrypted")
    reservation: CloudText | None = Field(
        default=None, description="id of a reservation or capacity block that its on-demand instances use"
    )


class AwsNodeType(CloudNodeType):
    """An EC2 instance type."""

    fleet: bool = Field(default=False, description="true: several zones at once are asked through an instant fleet")
    capacity_block: bool = Field(default=False, description="true: `reservation` is a capacity block for ML")


class GcpNodeType(CloudNodeType):
    """A Compute Engine machine type."""

    accelerator: CloudText | None = Field(
        default=None, description="GPU to attach, for example `nvidia-tesla-t4`; machine families with GPUs need none"
    )
    accelerators: AtLeastOne | None = Field(default=None, description="how many to attach")
    bulk: bool = Field(default=False, description="true: several zones at once are asked through a bulk insert")
    disk_type: CloudText | None = Field(
        default=None,
        description="type of the root disk; left out: the balanced one that the machine family takes",
    )
    max_run: Duration | None = Field(
        default=None,
        description="the cloud itself deletes an instance after this time, whatever happens; left out: no limit",
    )


class AzureNodeType(CloudNodeType):
    """An Azure VM size."""


class CloudNetwork(Block):
    """How a cloud's instances reach the fabric."""

    mode: Literal["direct"] = Field(
        default="direct", description="`direct`: addresses are routed both ways already, as by a VPN"
    )
    subnet: CloudText | None = Field(default=None, description="subnet of the instances; left out: the cloud's default")
    subnets: dict[Name, CloudText] = Field(default={}, description="subnet by zone, where each zone has its own")
    security_groups: list[CloudText] = Field(
        default=[], max_length=16, description="security groups, network tags (GCP) or one NSG id (Azure)"
    )
    public_address: bool = Field(default=False, description="true: each instance gets a public address")


class CloudSiteBlock(Block):
    """What every cloud site has."""

    labels: Labels = Field(
        default={}, description="facts about the site, for data classes; nodes carry them as `fabric/KEY`"
    )
    region: CloudText = Field(description="the cloud's name of the region")
    endpoint: Url | None = Field(
        default=None,
        description="API endpoint, for sovereign clouds, private endpoints and emulators; left out: the cloud's",
    )
    ca: FilePath | None = Field(default=None, description="CA bundle that signs the endpoint; left out: the system's")
    proxy: Url | None = Field(
        default=None, description="HTTP proxy for the API; left out: none, whatever the environment says"
    )
    credentials: FilePath | None = Field(
        default=None, description="credentials file in the cloud's own format; left out: the cloud's own chain"
    )
    image: CloudText = Field(
        description="image of the instances, with the cluster's Python, Ray and the fabric on it: an id or full name; "
        "`ubuntu` is the cloud's stock image, which has none of them"
    )
    network: CloudNetwork = Field(default=CloudNetwork(), description="how instances are connected")
    discount: Percent | None = Field(default=None, description="your discount on listed on-demand prices")
    tags: dict[Name, LabelValue] = Field(default={}, description="tags of your own on everything created")


class AwsSite(CloudSiteBlock):
    """One AWS account and region."""

    kind: Literal["aws"] = Field(description="this is AWS")
    sts_endpoint: Url | None = Field(default=None, description="endpoint of STS; left out: beside `endpoint`")
    profile: CloudText | None = Field(default=None, description="profile of the shared AWS configuration")
    instance_profile: CloudText | None = Field(
        default=None, description="name of the IAM instance profile of the instances"
    )
    node_types: dict[Name, AwsNodeType] = Field(min_length=1, description="machine shapes, by name")


class GcpSite(CloudSiteBlock):
    """One Google Cloud project and region."""

    kind: Literal["gcp"] = Field(description="this is Google Cloud")
    project: CloudText = Field(description="project id")
    service_account: CloudText | None = Field(
        default=None, description="service account of the instances; left out: none, so they can call no Google API"
    )
    scopes: list[CloudText] = Field(
        default=["https://www.googleapis.com/auth/logging.write"],
        min_length=1,
        max_length=32,
        description="OAuth scopes of `service_account` on the instances",
    )
    iam_endpoint: Url | None = Field(
        default=None,
        description="endpoint of the Resource Manager API, which tells permissions; left out: beside `endpoint`",
    )
    node_types: dict[Name, GcpNodeType] = Field(min_length=1, description="machine shapes, by name")


class AzureSite(CloudSiteBlock):
    """One Azure subscription, resource group and location."""

    kind: Literal["azure"] = Field(description="this is Azure")
    subscription: CloudText = Field(description="subscription id")
    resource_group: CloudText = Field(description="resource group that holds the instances; must exist")
    authority: Url | None = Field(default=None, description="Entra authority; left out: the public cloud's")
    audience: Url | None = Field(
        default=None, description="what tokens are asked for; left out: the endpoint, which a private one is not"
    )
    admin_key: FilePath | None = Field(
        default=None,
        description="file with the SSH public key that Azure insists on; left out: one nobody has the key to",
    )
    node_types: dict[Name, AzureNodeType] = Field(min_length=1, description="VM sizes, by name")


class OtherSite(Block):
    """A cloud whose provider somebody else wrote and installed."""

    kind: Literal["other"] = Field(description="this is a cloud with a provider of its own")
    provider: Name = Field(description="name under which the provider is installed, its entry point")
    labels: Labels = Field(
        default={}, description="facts about the site, for data classes; nodes carry them as `fabric/KEY`"
    )
    settings: dict[Name, CloudText] = Field(
        default={}, description="what the provider wants to know; see its own pages"
    )
    node_types: dict[Name, SandboxNodeType] = Field(min_length=1, description="machine shapes, by name")


CloudSite = AwsSite | GcpSite | AzureSite
SellingSite = SandboxSite | AwsSite | GcpSite | AzureSite | OtherSite
Site = Annotated[OnPremSite | SandboxSite | AwsSite | GcpSite | AzureSite | OtherSite, Field(discriminator="kind")]
NodeTypeBlock = OnPremNodeType | SandboxNodeType | AwsNodeType | GcpNodeType | AzureNodeType
SellingNodeType = SandboxNodeType | AwsNodeType | GcpNodeType | AzureNodeType
