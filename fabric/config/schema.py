"""The shape of ``fabric.yaml``. Unknown keys are refused everywhere; defaults are what a careful operator would pick.

What a key means is said here once, in its ``description``; the JSON schema and ``docs/reference/configuration.md``
are generated from it. Rules that look at more than one key are in :mod:`fabric.config.rules`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from fabric.config.units import (
    Address,
    AtLeastOne,
    ByteCount,
    Count,
    Duration,
    HourlyPrice,
    LabelKey,
    LabelValue,
    Machine,
    Money,
    Name,
    Percent,
)
from fabric.model.nodes import Market

HOME_ONLY = "home-only"
Labels = dict[LabelKey, LabelValue]


class Block(BaseModel):
    """A block of the file: frozen, and no key it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class FabricBlock(Block):
    """Who this fabric is and where it keeps its state. A relative path is taken from the folder of the file."""

    name: Name = Field(default="fabric", description="name of this fabric; every cloud instance is tagged with it")
    state: str = Field(
        default="state", min_length=1, description="folder for secrets, logs and the sandbox; created if missing"
    )
    journal: str = Field(
        default="sqlite:state/journal.db",
        pattern=r"^sqlite:.+",
        description="where the journal is kept: `sqlite:` and the path of a file",
    )


class ListenBlock(Block):
    """Where each process listens. Loopback unless you say otherwise."""

    gateway: Address = Field(
        default="127.0.0.1:8400",
        description="gateway: nodes join and renew their leases here; must be reachable by them",
    )
    controller: Address = Field(default="127.0.0.1:8401", description="controller: health, status and metrics")
    reaper: Address = Field(default="127.0.0.1:8402", description="reaper: health and metrics")


class RayBlock(Block):
    """The Ray head that `fabric up` starts on this machine."""

    address: Machine = Field(default="127.0.0.1", description="address of this machine that every node can reach")
    port: int = Field(default=6379, ge=1, le=65535, description="port of Ray's control store (GCS)")
    dashboard: Address = Field(default="127.0.0.1:8265", description="Ray's dashboard and Jobs API")
    cpus: Count = Field(default=0, description="CPUs the head offers to tasks; 0 keeps work off it")
    temp_dir: str | None = Field(
        default=None,
        min_length=1,
        description="Ray's session folder; keep it short, the paths of its sockets must fit in 107 bytes",
    )
    object_store: ByteCount | None = Field(
        default=None, description="size of the head's object store; left out: Ray chooses"
    )


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


Site = Annotated[OnPremSite | SandboxSite, Field(discriminator="kind")]


class ThresholdBlock(Block):
    """The burst may open when the queue depth has been at least this for this long, in every unit given."""

    gpus: float = Field(default=0, ge=0, le=1_000_000, description="queue depth in GPUs; 0: not looked at")
    cpus: float = Field(default=0, ge=0, le=1_000_000, description="queue depth in CPUs; 0: not looked at")
    for_: Duration = Field(alias="for", description="how long the depth must have lasted; 0s: at once")


class BurstBlock(Block):
    """When to buy, how long to keep, when to give up on a machine."""

    baseline: list[ThresholdBlock] = Field(
        min_length=1,
        max_length=100,
        description="thresholds of queue depth and duration; any one of them opens the burst",
    )
    policy: Literal["threshold"] = Field(default="threshold", description="what is worth buying for")
    close_for: Duration = Field(default=60.0, description="an open burst closes after this long below the baseline")
    hold: Duration = Field(default=600.0, description="least time an instance is kept once it has joined")
    idle: Duration = Field(default=120.0, description="a burst node idle this long is given back")
    pending_idle: Duration = Field(default=30.0, description="a launch nobody needs any more is cancelled after this")
    join_deadline: Duration = Field(default=480.0, description="an instance that has not joined after this is ended")
    lease: Duration = Field(default=900.0, description="how long an instance lives without hearing from us")
    grace: Duration = Field(default=60.0, description="what the reaper adds to every deadline before it acts")
    refusal_backoff: Duration = Field(default=60.0, description="first pause after a capacity refusal; doubles")
    refusal_backoff_max: Duration = Field(default=1800.0, description="longest pause after capacity refusals")
    max_nodes: AtLeastOne | None = Field(
        default=None, description="most nodes of the whole cluster, head and your own included; left out: no limit"
    )


class BudgetBlock(Block):
    """A limit on money. Reserved before launch, so it cannot be overrun by launching."""

    scope: str = Field(
        default="fabric", pattern=r"^(fabric|site/[a-z0-9-]+)$", description="`fabric` for everything, or `site/NAME`"
    )
    per: Literal["hour", "day", "month", "total"] = Field(description="the span of time the limit is for (UTC)")
    limit: Money = Field(description="the most that may be spent in it")
    at: dict[Percent, Literal["warn", "no_new_launches", "drain"]] = Field(
        default={}, description="what to do when a part of it is used, for example `80%: warn`"
    )


def _kind_of_sites(value: Any) -> str | None:
    if isinstance(value, dict):
        return "labels"
    return "list" if isinstance(value, list) else "any" if isinstance(value, str) else None


class DataClassBlock(Block):
    """Where work on data of this class may run."""

    sites: Annotated[
        Annotated[Literal["any"], Tag("any")] | Annotated[list[Name], Tag("list")] | Annotated[Labels, Tag("labels")],
        Discriminator(_kind_of_sites),
    ] = Field(description="`any`, a list of sites, or labels that a site must carry")
    spot: Literal["allowed", "never"] = Field(
        default="allowed", description="whether it may run on machines that the cloud can take back"
    )


class DefaultsBlock(Block):
    """What applies where nothing is said."""

    data_class: Name = Field(
        default=HOME_ONLY,
        description="data class of work that names none; `home-only` is built in and never leaves home",
    )


class Config(Block):
    """A whole `fabric.yaml`."""

    fabric: FabricBlock = Field(default=FabricBlock(), description="who this fabric is and where its state is")
    defaults: DefaultsBlock = Field(default=DefaultsBlock(), description="what applies where nothing is said")
    listen: ListenBlock = Field(default=ListenBlock(), description="where each process listens")
    ray: RayBlock = Field(default=RayBlock(), description="the Ray head on this machine")
    sites: dict[Name, Site] = Field(min_length=1, description="places with capacity, by name")
    burst: BurstBlock = Field(description="when to buy, how long to keep, when to give up")
    budgets: list[BudgetBlock] = Field(default=[], max_length=1000, description="limits on money")
    data_classes: dict[Name, DataClassBlock] = Field(
        default={}, description="where work on which data may run, by name"
    )
