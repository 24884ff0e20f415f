"""The shape of ``fabric.yaml``. Unknown keys are refused everywhere; defaults are what a careful operator would pick."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from fabric.config.units import ByteCount, Duration, HourlyPrice, Money
from fabric.model.nodes import Market

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
Address = Annotated[str, Field(pattern=r"^[^\s:]+:\d{1,5}$|^\[[0-9a-fA-F:]+\]:\d{1,5}$")]


class Block(BaseModel):
    """A block of the file: frozen, and no key it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FabricBlock(Block):
    """Who this fabric is and where it keeps its state."""

    name: Name = "fabric"
    state: str = "state"
    journal: str = "sqlite:state/journal.db"


class ListenBlock(Block):
    """Where each process listens. Loopback unless you say otherwise."""

    gateway: Address = "127.0.0.1:8400"
    controller: Address = "127.0.0.1:8401"
    reaper: Address = "127.0.0.1:8402"


class RayBlock(Block):
    """The Ray head that ``fabric up`` starts on this machine."""

    address: str = "127.0.0.1"
    port: int = 6379
    dashboard: Address = "127.0.0.1:8265"
    cpus: int = Field(default=0, ge=0, description="CPUs the head offers to tasks; 0 keeps work off it")
    temp_dir: str | None = Field(default=None, description="Ray's session directory; short, its sockets live there")
    object_store: ByteCount | None = None


class PriceBlock(Block):
    """What one instance of a node type costs in each market."""

    on_demand: HourlyPrice | None = Field(default=None, alias="on-demand")
    spot: HourlyPrice | None = None
    minimum: Duration = Field(default=60.0, description="least time that is charged once an instance exists")


class OnPremNodeType(Block):
    """Machines you own, all of one shape."""

    nodes: list[str] = Field(min_length=1, description="one name or address per machine")
    local: bool = Field(default=False, description="`fabric up` starts these nodes on this very machine")
    gpus: int = Field(default=0, ge=0)
    gpu: str | None = Field(default=None, description="model, becomes the label fabric/gpu")
    cpus: PositiveInt
    memory: ByteCount | None = None
    labels: dict[str, str] = {}


class SandboxNodeType(Block):
    """A machine shape that the sandbox cloud sells."""

    gpus: int = Field(default=0, ge=0)
    gpu: str | None = None
    cpus: PositiveInt
    memory: ByteCount | None = None
    market: list[Literal[Market.SPOT, Market.ON_DEMAND]] = Field(default=[Market.ON_DEMAND], min_length=1)
    price: PriceBlock
    zones: list[Name] = Field(default=["a"], min_length=1)
    boot: Duration = Field(default=5.0, description="delay between the launch call and the machine running")
    min: int = Field(default=0, ge=0)
    max: PositiveInt
    labels: dict[str, str] = {}


class SandboxNetwork(Block):
    """How sandbox instances are connected: on this host's address, or each in a namespace of its own (root)."""

    mode: Literal["host", "namespaces"] = "host"
    subnet: str = "10.88.0.0/24"


class OnPremSite(Block):
    """A room of your own."""

    kind: Literal["onprem"]
    labels: dict[str, str] = {}
    node_types: dict[Name, OnPremNodeType] = Field(min_length=1)


class SandboxSite(Block):
    """The embedded cloud: real processes, real joins, pretended prices."""

    kind: Literal["sandbox"]
    endpoint: Address = "127.0.0.1:8410"
    labels: dict[str, str] = {}
    network: SandboxNetwork = SandboxNetwork()
    node_types: dict[Name, SandboxNodeType] = Field(min_length=1)


Site = Annotated[OnPremSite | SandboxSite, Field(discriminator="kind")]


class ThresholdBlock(Block):
    """The burst may open when the queue depth has been at least this for this long."""

    gpus: float = Field(default=0, ge=0)
    cpus: float = Field(default=0, ge=0)
    for_: Duration = Field(alias="for")


class BurstBlock(Block):
    """When to buy, how long to keep, when to give up on a machine."""

    baseline: list[ThresholdBlock] = Field(min_length=1)
    policy: Literal["threshold"] = "threshold"
    close_for: Duration = Field(default=60.0, description="an open burst closes after this long below the baseline")
    hold: Duration = Field(default=600.0, description="least time an instance is kept once it has joined")
    idle: Duration = Field(default=120.0, description="a burst node idle this long is given back")
    pending_idle: Duration = Field(default=30.0, description="a launch nobody needs any more is cancelled after this")
    join_deadline: Duration = 480.0
    lease: Duration = Field(default=900.0, description="how long an instance lives without hearing from us")
    grace: Duration = Field(default=60.0, description="what the reaper adds to every deadline before it acts")
    refusal_backoff: Duration = Field(default=60.0, description="first pause after a capacity refusal; doubles")
    refusal_backoff_max: Duration = 1800.0
    max_nodes: PositiveInt | None = None


class BudgetBlock(Block):
    """A limit on money. Reserved before launch, so it cannot be overrun by launching."""

    scope: str = Field(default="fabric", pattern=r"^fabric$|^site/[a-z0-9-]+$")
    per: Literal["hour", "day", "month", "total"]
    limit: Money
    at: dict[str, Literal["warn", "no_new_launches", "drain"]] = {}


class DataClassBlock(Block):
    """Where work on data of this class may run: ``any``, a list of sites, or labels a site must carry."""

    sites: Literal["any"] | list[Name] | dict[str, str]
    spot: Literal["allowed", "never"] = "allowed"


class DefaultsBlock(Block):
    """What applies where nothing is said."""

    data_class: Name = "home-only"
    retention: Duration = 400 * 86400.0


class Config(Block):
    """A whole ``fabric.yaml``."""

    fabric: FabricBlock = FabricBlock()
    defaults: DefaultsBlock = DefaultsBlock()
    listen: ListenBlock = ListenBlock()
    ray: RayBlock = RayBlock()
    sites: dict[Name, Site] = Field(min_length=1)
    burst: BurstBlock
    budgets: list[BudgetBlock] = []
    data_classes: dict[Name, DataClassBlock] = {}
