"""What a well-formed configuration may still get wrong: rules that look at more than one key.

Every rule is a generator of findings; ``RULES`` lists them. A finding names the key it is about, and ``load`` gives it
its place in the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import IPv4Network, ip_address, ip_network

from fabric.config.problems import Finding, Path
from fabric.config.schema import HOME_ONLY, Config
from fabric.config.sites import NodeTypeBlock, OnPremNodeType, OnPremSite, PriceBlock, SandboxSite
from fabric.config.units import host_and_port, percent
from fabric.model.money import MicroUSD
from fabric.model.nodes import Market

RESERVED_SITE_LABELS = ("site", "site-kind", "node-type", "market", "zone", "gpu")
# Linux limits a Unix socket's path to 107 bytes. The longest that Ray 2.60 makes is that of a dashboard process; your
# own nodes have /n99 before the session and plasma_store.99 at the end, which is as long. Process ids have 7 digits.
LONGEST_TEMP_DIR = 107 - len("/session_2026-01-01_00-00-00_000000_1234567/sockets/dash_TaskEventsHead")
SHORTEST_LEASE_S = 3.0


def check(config: Config) -> list[Finding]:
    """Everything the rules object to."""
    return [finding for rule in RULES for finding in rule(config)]


def _home(config: Config) -> Iterator[Finding]:
    """At least one site has kind onprem: this machine and the Ray head stand in the first."""
    if not any(isinstance(site, OnPremSite) for site in config.sites.values()):
        yield Finding(
            ("sites",), "no site has kind onprem", "add the site in which this machine and the Ray head stand"
        )


def _machines(config: Config) -> Iterator[Finding]:
    """Every machine of a site is listed once."""
    for site_name, site in config.sites.items():
        if not isinstance(site, OnPremSite):
            continue
        seen: dict[str, str] = {}
        for key, block in site.node_types.items():
            for index, machine in enumerate(block.nodes):
                if machine in seen:
                    what = f"the machine {machine} is already listed under {seen[machine]}"
                    yield Finding(_type_path(site_name, key, "nodes", index), what, "list every machine once")
                seen.setdefault(machine, f"{site_name}.{key}")


def _shapes(config: Config) -> Iterator[Finding]:
    """A GPU model is named only where there are GPUs."""
    for site, key, block in _types(config):
        if block.gpu and not block.gpus:
            what = f"{site}.{key} names a GPU model but has no GPUs"
            yield Finding(_type_path(site, key, "gpu"), what, "set gpus, or remove gpu")


def _sold(config: Config) -> Iterator[Finding]:
    """Markets have prices and are listed once, zones too; min is at most max; boot is under burst.join_deadline."""
    for site, key, block in _types(config):
        if isinstance(block, OnPremNodeType):
            continue
        for index, market in enumerate(block.market):
            if block.price is not None and _price(block.price, market) is None:
                what = f"{site}.{key} is sold in the {market} market but has no {market} price"
                remedy = f"add {market}: to its price, for example {market}: 2.50 USD/h, or remove it from market"
                yield Finding(_type_path(site, key, "price"), what, remedy)
            if market in block.market[:index]:
                what, remedy = f"the market {market} is listed twice", "list it once"
                yield Finding(_type_path(site, key, "market", index), what, remedy)
        for index, zone in enumerate(block.zones):
            if zone in block.zones[:index]:
                yield Finding(_type_path(site, key, "zones", index), f"the zone {zone} is listed twice", "list it once")
        if block.min > block.max:
            what = f"{site}.{key} keeps at least {block.min} instances but may have only {block.max}"
            yield Finding(_type_path(site, key, "min"), what, "make min at most max")
        if block.boot >= config.burst.join_deadline:
            what = f"{site}.{key} takes as long to boot as burst.join_deadline allows for joining: none would ever join"
            yield Finding(_type_path(site, key, "boot"), what, "make boot shorter or burst.join_deadline longer")


def _addresses(config: Config) -> Iterator[Finding]:
    """No two processes use the same port of the same address; the sandbox cloud listens on loopback only."""
    places: list[tuple[Path, str, int]] = [(("ray", "port"), config.ray.address, config.ray.port)]
    places.append((("ray", "dashboard"), *host_and_port(config.ray.dashboard)))
    for name in ("gateway", "controller", "reaper"):
        places.append((("listen", name), *host_and_port(getattr(config.listen, name))))
    for name, site in config.sites.items():
        if isinstance(site, SandboxSite):
            host, port = host_and_port(site.endpoint)
            places.append((("sites", name, "endpoint"), host, port))
            if not _is_loopback(host):
                # The server runs whatever user data it is given and asks for no password.
                what = f"the sandbox cloud may listen on loopback only, not on {host}"
                yield Finding(("sites", name, "endpoint"), what, f"write 127.0.0.1:{port}")
    for index, (path, host, port) in enumerate(places):
        for other, other_host, other_port in places[:index]:
            if port == other_port and _same_host(host, other_host):
                what = f"{_dotted(path)} uses port {port} of {host}, which {_dotted(other)} uses too"
                yield Finding(path, what, "give one of them another port")
                break


def _networks(config: Config) -> Iterator[Finding]:
    """In mode namespaces a site has its own IPv4 subnet, and can reach the gateway and the Ray head."""
    taken: dict[str, IPv4Network] = {}
    for name, site in config.sites.items():
        if not isinstance(site, SandboxSite) or site.network.mode != "namespaces":
            continue
        path: Path = ("sites", name, "network")
        try:
            network = ip_network(site.network.subnet)
        except ValueError:
            network = None
        if not isinstance(network, IPv4Network) or network.prefixlen > 29:
            what = f"{site.network.subnet!r} is not an IPv4 subnet of at least eight addresses"
            yield Finding((*path, "subnet"), what, "write for example 10.88.0.0/24")
            continue
        for other, other_network in taken.items():
            if network.overlaps(other_network):
                what = f"the subnet {network} overlaps that of site {other}"
                yield Finding((*path, "subnet"), what, "give each sandbox site a subnet of its own")
        taken[name] = network
        gateway = host_and_port(config.listen.gateway)[0]
        for key, host in ((("listen", "gateway"), gateway), (("ray", "address"), config.ray.address)):
            if _is_loopback(host):
                what = (
                    f"{_dotted(key)} is {host}, which instances of site {name} in namespaces of their own cannot reach"
                )
                yield Finding(key, what, f"use {network[1]}, this machine's address in that site's subnet")


def _thresholds(config: Config) -> Iterator[Finding]:
    """Every threshold of the baseline names gpus, cpus or both."""
    for index, block in enumerate(config.burst.baseline):
        if not block.gpus and not block.cpus:
            what = f"burst.baseline[{index}] names neither gpus nor cpus"
            yield Finding(("burst", "baseline", index), what, "say at which depth it opens, for example gpus: 4")


def _times(config: Config) -> Iterator[Finding]:
    """Time-outs that cannot be zero are not: join_deadline, refusal_backoff; a lease is at least 3s."""
    burst = config.burst
    for key in ("join_deadline", "refusal_backoff"):
        if getattr(burst, key) <= 0:
            yield Finding(("burst", key), f"burst.{key} is zero", "write how long, for example 60s")
    if burst.lease < SHORTEST_LEASE_S:
        what = "burst.lease is under 3s: instances renew it every third of that and one slow answer would end them"
        yield Finding(("burst", "lease"), what, "write at least 3s; 15m is usual")
    if burst.refusal_backoff_max < burst.refusal_backoff:
        what = "burst.refusal_backoff_max is shorter than the first pause, burst.refusal_backoff"
        yield Finding(("burst", "refusal_backoff_max"), what, "make it at least as long")


def _limits(config: Config) -> Iterator[Finding]:
    """burst.max_nodes leaves room for the head, your own machines and every min."""
    most = config.burst.max_nodes
    # The head and every machine of your own are in the cluster whatever the limit says.
    own = 1 + sum(len(block.nodes) for _, _, block in _types(config) if isinstance(block, OnPremNodeType))
    kept = sum(block.min for _, _, block in _types(config) if not isinstance(block, OnPremNodeType))
    if most is not None and own + kept > most:
        what = f"burst.max_nodes is {most} but the head, your own machines and every min together make {own + kept}"
        yield Finding(("burst", "max_nodes"), what, f"write at least {own + kept}, or lower a min")


def _budgets(config: Config) -> Iterator[Finding]:
    """A budget names a site that sells machines; there is one per scope and span of time, with different parts."""
    seen: set[tuple[str, str]] = set()
    for index, block in enumerate(config.budgets):
        path: Path = ("budgets", index, "scope")
        site_name = block.scope.removeprefix("site/")
        if block.scope.startswith("site/"):
            site = config.sites.get(site_name)
            if site is None:
                yield Finding(path, f"there is no site {site_name}", f"use one of: {', '.join(config.sites)}")
            elif isinstance(site, OnPremSite):
                what = f"the site {site_name} is your own: nothing is bought there"
                yield Finding(path, what, "name a site that sells machines, or write fabric for all of them")
        if (block.scope, block.per) in seen:
            what = f"there are two budgets for {block.scope} per {block.per}"
            yield Finding(("budgets", index), what, "keep the one you mean")
        seen.add((block.scope, block.per))
        parts: dict[float, str] = {}
        for key in block.at:
            if percent(key) in parts:
                what = f"{key} is the same part of the budget as {parts[percent(key)]}"
                yield Finding(("budgets", index, "at", key), what, "keep one of the two")
            parts[percent(key)] = key


def _labels(config: Config) -> Iterator[Finding]:
    """Site labels are plain words, and not those that the fabric sets itself."""
    for name, site in config.sites.items():
        for key in site.labels:
            path: Path = ("sites", name, "labels", key)
            if "/" in key:
                yield Finding(
                    path, f"the site label {key!r} has a '/'", "use a plain word; nodes carry it as fabric/WORD"
                )
            elif key in RESERVED_SITE_LABELS:
                yield Finding(path, f"the site label {key!r} is set by the fabric itself", "choose another word")


def _data_classes(config: Config) -> Iterator[Finding]:
    """Data classes name existing sites or labels that a site carries; the default exists; home-only is built in."""
    if HOME_ONLY in config.data_classes:
        what = f"{HOME_ONLY} is built in and cannot be changed"
        yield Finding(("data_classes", HOME_ONLY), what, "give your data class another name")
    default = config.defaults.data_class
    if default != HOME_ONLY and default not in config.data_classes:
        known = ", ".join(dict.fromkeys([HOME_ONLY, *config.data_classes]))
        yield Finding(("defaults", "data_class"), f"there is no data class {default}", f"use one of: {known}")
    for name, block in config.data_classes.items():
        path: Path = ("data_classes", name, "sites")
        if isinstance(block.sites, dict):
            wanted = block.sites.items()
            if not wanted:
                yield Finding(path, "no label is given", "write any, a list of sites, or at least one label")
            elif not any(wanted <= site.labels.items() for site in config.sites.values()):
                text = ", ".join(f"{key}: {value}" for key, value in wanted)
                yield Finding(path, f"no site carries the labels {text}", "add them under labels: of a site")
        elif block.sites == []:
            yield Finding(path, "the list of sites is empty", f"name a site, or use the data class {HOME_ONLY}")
        elif isinstance(block.sites, list):
            for index, site in enumerate(block.sites):
                if site not in config.sites:
                    what, remedy = f"there is no site {site}", f"use one of: {', '.join(config.sites)}"
                    yield Finding((*path, index), what, remedy)


def _paths(config: Config) -> Iterator[Finding]:
    """ray.temp_dir is absolute and short enough for the paths of its sockets."""
    folder = config.ray.temp_dir
    if folder is not None and not folder.startswith("/"):
        what = "ray.temp_dir is not an absolute path"
        yield Finding(
            ("ray", "temp_dir"), what, f"begin it with a /, at most {LONGEST_TEMP_DIR} bytes, for example /tmp/ray"
        )
    if folder is not None and len(folder.encode()) > LONGEST_TEMP_DIR:
        what = f"ray.temp_dir has {len(folder.encode())} bytes; the paths of Ray's sockets in it would be too long"
        yield Finding(
            ("ray", "temp_dir"), what, f"use a path of at most {LONGEST_TEMP_DIR} bytes, for example /tmp/ray"
        )
    for key, value in (("state", config.fabric.state), ("journal", config.fabric.journal), ("temp_dir", folder or "")):
        if "\x00" in value or "\n" in value:
            path: Path = ("ray" if key == "temp_dir" else "fabric", key)
            yield Finding(path, f"{_dotted(path)} has a line break or a NUL in it", "write a plain path")


RULES: tuple[Callable[[Config], Iterator[Finding]], ...] = (
    _home,
    _machines,
    _shapes,
    _sold,
    _addresses,
    _networks,
    _thresholds,
    _times,
    _limits,
    _budgets,
    _labels,
    _data_classes,
    _paths,
)


def _types(config: Config) -> Iterator[tuple[str, str, NodeTypeBlock]]:
    for name, site in config.sites.items():
        for key, block in site.node_types.items():
            yield name, key, block


def _price(block: PriceBlock, market: Market) -> MicroUSD | None:
    return block.spot if market is Market.SPOT else block.on_demand


def _type_path(site: str, key: str, *rest: str | int) -> Path:
    return ("sites", site, "node_types", key, *rest)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _same_host(one: str, other: str) -> bool:
    """Whether two hosts name the same interface of this machine, as far as the text tells."""
    every = {"0.0.0.0", "::"}  # noqa: S104 - recognised here, not listened on
    return one in every or other in every or one == other or {one, other} == {"localhost", "127.0.0.1"}


def _dotted(path: Path) -> str:
    return ".".join(str(step) for step in path)
