"""The ports a fabric listens on, and whether they are free."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_network

from fabric.cli.programs import sandbox_sites
from fabric.config.schema import Config


@dataclass(frozen=True, slots=True)
class Port:
    """An address something will listen on, and the configuration key it comes from."""

    key: str
    host: str
    number: int

    def __str__(self) -> str:
        return f"{self.host}:{self.number} ({self.key})"


@dataclass(frozen=True, slots=True)
class Listener:
    """A process that listens on a port of an address."""

    pid: int
    name: str
    host: str
    number: int

    def has(self, port: Port) -> bool:
        """Whether it keeps others from listening there."""
        every = {"0.0.0.0", "::"}  # noqa: S104 - recognised here, not listened on
        host = self.host.removeprefix("::ffff:")
        return self.number == port.number and (bool({port.host, host} & every) or host == _numeric(port.host))

    def __str__(self) -> str:
        return f"{self.name} (process {self.pid})"


def needed(config: Config) -> tuple[Port, ...]:
    """Every address that ``fabric up`` will listen on."""
    ray = config.ray
    return (
        Port("ray.port", ray.address, ray.port),
        _port("ray.dashboard", ray.dashboard),
        _port("listen.gateway", config.listen.gateway),
        _port("listen.controller", config.listen.controller),
        _port("listen.reaper", config.listen.reaper),
        *(_port(f"sites.{name}.endpoint", site.endpoint) for name, site in sandbox_sites(config).items()),
    )


def gateway_url(config: Config) -> str:
    """Where the gateway answers on this machine: beyond loopback it serves https."""
    from autoscaler.boot.trust import is_loopback

    host = config.listen.gateway.rpartition(":")[0].strip("[]")
    return f"{'http' if is_loopback(host) else 'https'}://{config.listen.gateway}"


def not_made_yet(config: Config) -> frozenset[str]:
    """This machine's addresses on the bridges of sandbox sites that ``fabric up`` has yet to make."""
    bridges = {
        str(ip_network(site.network.subnet)[1])
        for site in sandbox_sites(config).values()
        if site.network.mode == "namespaces"
    }
    return frozenset(host for host in bridges if not _is_ours(host))


def problems(ports: Iterable[Port], later: Collection[str] = ()) -> list[str]:
    """One sentence per port that is used twice in the configuration, taken, or not ours to take.

    Args:
        ports: what is to be listened on.
        later: hosts that are no address of this machine yet, so nothing can have their ports.
    """
    found: list[str] = []
    seen: dict[tuple[str, int], Port] = {}
    for port in ports:
        other = seen.setdefault((port.host, port.number), port)
        if other is not port:
            found.append(f"{port.key} and {other.key} both want {port.host}:{port.number}")
            continue
        reason = "" if port.host in later else why_not(port.host, port.number)
        if reason:
            found.append(f"{port}: {reason}")
    return found


def why_not(host: str, number: int) -> str:
    """Why this address cannot be listened on; ``""`` if it can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, number))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return f"it is taken{_by_whom(number)}"
            return os.strerror(error.errno) if error.errno else str(error)
    return ""


def free_port() -> int:
    """A loopback port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listeners() -> list[Listener]:
    """Who listens on TCP ports of this machine, as far as the kernel shows it to this user."""
    import psutil

    found: list[Listener] = []
    for link in psutil.net_connections("tcp"):
        if link.status == psutil.CONN_LISTEN and link.laddr and link.pid:
            with suppress(psutil.Error):
                found.append(Listener(link.pid, psutil.Process(link.pid).name(), link.laddr[0], link.laddr[1]))
    return found


def _by_whom(number: int) -> str:
    return next((f" by {who}" for who in listeners() if who.number == number), "")


def _numeric(host: str) -> str:
    """The address that a host name of the configuration stands for; the name itself if nobody knows."""
    try:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError:
        return host


def _is_ours(host: str) -> bool:
    """Whether this machine has the address."""
    with socket.socket() as probe:
        try:
            probe.bind((host, 0))
        except OSError as error:
            return error.errno != errno.EADDRNOTAVAIL
    return True


def _port(key: str, address: str) -> Port:
    host, _, number = address.rpartition(":")
    return Port(key, host.strip("[]"), int(number))
