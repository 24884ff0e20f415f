"""Where sandbox machines are on the network: all on this host's address, or each in a namespace of its own.

With namespaces a site is a bridge on this host; each machine has a network namespace, a cable (a veth pair) and
an address in the site's subnet. The host has the subnet's first address. Machines reach each other and whatever
on this host listens on that address, and nothing else: there is no route out.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from fabric.config.sites import SandboxNetwork


class NetworkError(Exception):
    """The network cannot be built: says why and what to do."""


class NoAddressLeftError(Exception):
    """The subnet is used up."""


class Network(Protocol):
    """Gives machines their place on the network; every method can be repeated."""

    @property
    def host_address(self) -> str:
        """The address at which machines reach this host."""
        ...

    def start(self) -> None:
        """Build what all machines share."""
        ...

    def pick_address(self, taken: Iterable[str]) -> str:
        """An address for a new machine, given those in use."""
        ...

    def connect(self, address: str) -> str:
        """Connect the machine with this address; the name of its network namespace, ``""`` for the host's."""
        ...

    def disconnect(self, address: str) -> None:
        """Remove what ``connect`` made."""
        ...

    def keep_only(self, addresses: Iterable[str]) -> None:
        """Remove what belongs to machines that are no more (a killed server's leftovers)."""
        ...

    def stop(self) -> None:
        """Remove what all machines share."""
        ...


def network_for(block: SandboxNetwork, site_key: str, host_address: str) -> Network:
    """The network that a site's configuration asks for.

    Args:
        block: the configuration.
        site_key: what makes this site's names differ from those of every other on this host.
        host_address: this host's address as the cluster knows it, for machines that share it.

    Raises:
        NetworkError: it needs root or the ``ip`` command, and there is none.
    """
    return Namespaces(block.subnet, site_key) if block.mode == "namespaces" else SharedHost(host_address)


class SharedHost:
    """Every machine has this host's address."""

    def __init__(self, address: str) -> None:
        self.host_address = address

    def start(self) -> None:
        """Nothing to build."""

    def pick_address(self, taken: Iterable[str]) -> str:  # noqa: ARG002
        """This host's address."""
        return self.host_address

    def connect(self, address: str) -> str:  # noqa: ARG002
        """Nothing to connect."""
        return ""

    def disconnect(self, address: str) -> None:
        """Nothing to remove."""

    def keep_only(self, addresses: Iterable[str]) -> None:
        """Nothing is left over."""

    def stop(self) -> None:
        """Nothing to remove."""


class Namespaces:
    """A bridge for the site, and a network namespace with its own address for each machine (Linux, root)."""

    def __init__(self, subnet: str, site_key: str) -> None:
        self._subnet = ipaddress.IPv4Network(subnet)
        if os.geteuid() != 0:
            raise NetworkError("network mode `namespaces` needs root; start as root, or set `network: {mode: host}`")
        if shutil.which("ip") is None:
            raise NetworkError(
                "network mode `namespaces` needs the command `ip`; install the package iproute2,"
                " or set `network: {mode: host}`"
            )
        self._key = hashlib.sha256(site_key.encode()).hexdigest()[:6]
        self.bridge = f"fsb-{self._key}"
        self.host_address = str(self._subnet[1])

    def start(self) -> None:
        """Make the bridge and give this host its address on it.

        Raises:
            NetworkError: another interface has the subnet, or the kernel refuses.
        """
        links: list[dict[str, Any]] = json.loads(_ip("-json", "address", "show"))
        for link in links:
            for entry in link.get("addr_info", []):
                if entry.get("family") != "inet" or link["ifname"] == self.bridge:
                    continue
                other = ipaddress.IPv4Interface(f"{entry['local']}/{entry['prefixlen']}").network
                if other.overlaps(self._subnet):
                    raise NetworkError(
                        f"the subnet {self._subnet} is in use by the interface {link['ifname']} ({other});"
                        " choose another `network.subnet`"
                    )
        if not any(link["ifname"] == self.bridge for link in links):
            _ip("link", "add", self.bridge, "type", "bridge")
        _ip("address", "replace", f"{self.host_address}/{self._subnet.prefixlen}", "dev", self.bridge)
        _ip("link", "set", self.bridge, "up")

    def pick_address(self, taken: Iterable[str]) -> str:
        """The lowest free address after this host's.

        Raises:
            NoAddressLeftError: none is free.
        """
        used = {*taken, self.host_address}
        for address in self._subnet.hosts():
            if str(address) not in used:
                return str(address)
        raise NoAddressLeftError(f"all addresses of {self._subnet} are in use")

    def connect(self, address: str) -> str:
        """Namespace, cable and address of one machine, as far as they are missing; the namespace's name."""
        name, cable = self._namespace(address), self._cable(address)
        if not Path("/run/netns", name).exists():
            _ip("netns", "add", name)
        if not Path("/sys/class/net", cable).exists():
            _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("link", "set", cable, "master", self.bridge, "up")
        _ip("-netns", name, "address", "replace", f"{address}/{self._subnet.prefixlen}", "dev", "eth0")
        _ip("-netns", name, "link", "set", "lo", "up")
        _ip("-netns", name, "link", "set", "eth0", "up")
        return name

    def disconnect(self, address: str) -> None:
        """Remove namespace and cable of one machine, as far as they exist."""
        self._remove(self._namespace(address), self._cable(address))

    def keep_only(self, addresses: Iterable[str]) -> None:
        """Remove this site's namespaces whose machines are no more."""
        kept = {self._namespace(address) for address in addresses}
        for name in self._namespaces():
            if name not in kept:
                self._remove(name, self._cable_of(name))

    def stop(self) -> None:
        """Remove what is left of the site, its bridge last."""
        self.keep_only(())
        with contextlib.suppress(NetworkError):
            _ip("link", "delete", self.bridge)

    def _namespaces(self) -> list[str]:
        directory = Path("/run/netns")
        names = [path.name for path in directory.iterdir()] if directory.is_dir() else []
        return [name for name in names if name.startswith(f"{self.bridge}-")]

    def _namespace(self, address: str) -> str:
        offset = int(ipaddress.IPv4Address(address)) - int(self._subnet.network_address)
        return f"{self.bridge}-{offset}"

    def _cable(self, address: str) -> str:
        return self._cable_of(self._namespace(address))

    def _cable_of(self, namespace: str) -> str:
        """Interface names have at most 15 characters."""
        return f"fsv{self._key}{int(namespace.rpartition('-')[2]):x}"

    def _remove(self, namespace: str, cable: str) -> None:
        if Path("/sys/class/net", cable).exists():
            with contextlib.suppress(NetworkError):
                _ip("link", "delete", cable)
        if Path("/run/netns", namespace).exists():
            _ip("netns", "delete", namespace)


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False, timeout=30)
    if done.returncode != 0:
        raise NetworkError(f"`ip {' '.join(arguments)}` failed: {done.stderr.strip() or done.returncode}")
    return done.stdout
