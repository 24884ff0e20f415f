"""The ports a fabric listens on, and whether they are free."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from fabric.cli.programs import sandbox_sites
from fabric.cli.run_head import client_port
from fabric.config.schema import Config


@dataclass(frozen=True, slots=True)
class Port:
    """An address something will listen on, and the configuration key it comes from."""

    key: str
    host: str
    number: int

    def __str__(self) -> str:
        return f"{self.host}:{self.number} ({self.key})"


def needed(config: Config) -> tuple[Port, ...]:
    """Every address that ``fabric up`` will listen on."""
    ray = config.ray
    return (
        Port("ray.port", ray.address, ray.port),
        Port("the port beside ray.port, for Ray Client", ray.address, client_port(config)),
        _port("ray.dashboard", ray.dashboard),
        _port("listen.gateway", config.listen.gateway),
        _port("listen.controller", config.listen.controller),
        _port("listen.reaper", config.listen.reaper),
        *(_port(f"sites.{name}.endpoint", site.endpoint) for name, site in sandbox_sites(config).items()),
    )


def problems(ports: Iterable[Port]) -> list[str]:
    """One sentence per port that is used twice in the configuration, taken, or not ours to take."""
    found: list[str] = []
    seen: dict[tuple[str, int], Port] = {}
    for port in ports:
        other = seen.setdefault((port.host, port.number), port)
        if other is not port:
            found.append(f"{port.key} and {other.key} both want {port.host}:{port.number}")
            continue
        reason = why_not(port.host, port.number)
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


def _by_whom(number: int) -> str:
    import psutil

    try:
        for link in psutil.net_connections("tcp"):
            if link.status == psutil.CONN_LISTEN and link.laddr and link.laddr[1] == number and link.pid:
                return f" by {psutil.Process(link.pid).name()} (process {link.pid})"
    except psutil.Error:
        return ""
    return ""


def _port(key: str, address: str) -> Port:
    host, _, number = address.rpartition(":")
    return Port(key, host.strip("[]"), int(number))
