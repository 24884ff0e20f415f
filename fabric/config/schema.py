"""The shape of ``fabric.yaml``. Unknown keys are refused everywhere; defaults are what a careful operator would pick.

What a key means is said here once, in its ``description``; the JSON schema and ``docs/reference/configuration.md``
are generated from it. Rules that look at more than one key are in :mod:`fabric.config.rules`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from fabric.config.block import Block, FilePath, Labels
from fabric.config.sites import Site
from fabric.config.units import Address, AtLeastOne, ByteCount, Count, Duration, Machine, Money, Name, Percent, Url

HOME_ONLY = "home-only"


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
        default="fabric",
        pattern=r"^(fabric|(site|team)/[a-z0-9-]+)$",
        description="`fabric` for everything, `site/NAME`, or `team/NAME` for what the queue lets a team spend",
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


class TeamBlock(Block):
    """People who share a quota, a weight and a data class."""

    data_class: Name | None = Field(
        default=None, description="class of the team's jobs; a job may ask for a stricter one; left out: the default"
    )
    gpus: Count | None = Field(default=None, description="GPUs the team's running jobs may hold; left out: no limit")
    weight: float = Field(default=1.0, gt=0, le=1000, description="share of the fabric, against the other teams'")
    running: AtLeastOne | None = Field(default=None, description="jobs that may run at once; left out: no limit")
    undeclared: Count | None = Field(
        default=None, description="running jobs that declared no resources; left out: `queue.undeclared`"
    )
    max_priority: int = Field(default=100, ge=-1000, le=1000, description="highest priority its jobs may ask for")


class DatasetBlock(Block):
    """Data that jobs name with `fabric.dataset`: they are placed where it is, or its egress is paid for."""

    site: Name = Field(description="site where the data is")
    size: ByteCount = Field(description="how much a job away from it has to fetch")
    data_class: Name | None = Field(default=None, description="class of the data; jobs that read it get at least that")
    egress: Money = Field(default=0, description="price of one GB (1000^3 bytes) that leaves the site")


class QueueBlock(Block):
    """How waiting jobs are ordered, and what happens to those that lose their machine."""

    undeclared: Count = Field(
        default=20, description="running jobs without declared resources, per team; they take what Ray gives them"
    )
    waiting: AtLeastOne = Field(default=100_000, description="jobs one team may have waiting")
    half_life: Duration = Field(default=7 * 86400.0, description="how fast past use stops to count in the fair share")
    preemption: bool = Field(default=True, description="true: restartable jobs give way to higher priority")
    retries: Count = Field(default=3, description="times a job is tried again after its machine was lost")
    backoff: Duration = Field(default=10.0, description="pause before the first retry; doubles")
    backoff_max: Duration = Field(default=600.0, description="longest pause before a retry")


class OidcBlock(Block):
    """Bearer tokens of an OpenID Connect provider, beside the fabric's own."""

    issuer: Url = Field(description="issuer; its discovery document is read from there")
    audience: str = Field(min_length=1, max_length=512, description="audience that a token must be for")
    ca: FilePath | None = Field(default=None, description="CA bundle that signs the issuer; left out: the system's")
    user_claim: str = Field(default="email", min_length=1, max_length=128, description="claim that names the user")
    team_claim: str = Field(default="team", min_length=1, max_length=128, description="claim that names the team")
    roles_claim: str = Field(default="roles", min_length=1, max_length=128, description="claim that lists the roles")


class AccessBlock(Block):
    """Who may call the gateway, how often, and with how much."""

    oidc: OidcBlock | None = Field(
        default=None, description="OpenID Connect provider; left out: the fabric's own tokens"
    )
    requests_per_second: float = Field(default=50.0, gt=0, le=100_000, description="sustained requests of one user")
    requests_burst: AtLeastOne = Field(default=500, description="requests of one user at once")
    body: ByteCount = Field(default=1024**2, description="largest request body")
    upload: ByteCount = Field(default=512 * 1024**2, description="largest uploaded package")
    uploads: ByteCount = Field(default=20 * 1024**3, description="all uploaded packages together; the oldest unused go")


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
    teams: dict[Name, TeamBlock] = Field(default={}, description="people who share a quota, by name")
    datasets: dict[Name, DatasetBlock] = Field(default={}, description="data that jobs name, by name")
    queue: QueueBlock = Field(default=QueueBlock(), description="how waiting jobs are ordered and retried")
    access: AccessBlock = Field(default=AccessBlock(), description="who may call the gateway, and how often")
