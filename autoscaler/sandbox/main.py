"""Composition root of the sandbox cloud: ``python -m autoscaler.sandbox.main --config fabric.yaml --site NAME``.

SIGTERM switches the cloud off: every machine ends, the bill is closed, the network is removed. A server that is
killed takes nothing with it; started again, it goes on with every instance and the bill.
"""

from __future__ import annotations

import argparse
import fcntl
import logging
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TextIO

import structlog
import uvicorn

from autoscaler.sandbox.api import make_app
from autoscaler.sandbox.catalogue import Catalogue
from autoscaler.sandbox.cloud import Cloud
from autoscaler.sandbox.follow import Follower
from autoscaler.sandbox.hypervisor import Hypervisor
from autoscaler.sandbox.network import Network, NetworkError, network_for
from autoscaler.sandbox.store import Store
from fabric.config.reload import BadConfigError, ConfigFile
from fabric.config.schema import Config
from fabric.config.sites import SandboxSite
from fabric.telemetry.emit import configure_logging

SWITCHED_OFF = "cloud switched off"
SWITCH_OFF_S = 20.0
CONSOLES_KEPT_MS = 7 * 24 * 3_600_000

_log = structlog.get_logger("sandbox")


class CannotStartError(Exception):
    """Why the server does not start, and what to do about it."""


@dataclass(frozen=True, slots=True)
class Place:
    """One sandbox site of one configuration."""

    file: ConfigFile
    config: Config
    site_name: str
    site: SandboxSite
    state: Path

    @property
    def listen(self) -> tuple[str, int]:
        """Host and port of the API."""
        host, _, port = self.site.endpoint.rpartition(":")
        return host.strip("[]"), int(port)


class StopSignal:
    """SIGTERM or SIGINT, from the first moment on: the server stops, and the rest of the shutdown still runs."""

    def __init__(self) -> None:
        self._asked = False
        self._server: uvicorn.Server | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def tell(self, server: uvicorn.Server) -> None:
        """Stop this server when the signal comes, or at once if it has come."""
        self._server = server
        server.should_exit = self._asked

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True
        if self._server is not None:
            self._server.should_exit = True


def main(arguments: list[str] | None = None) -> int:
    """Serve until told to end; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m autoscaler.sandbox.main", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="fabric.yaml")
    parser.add_argument("--site", help="name of the sandbox site; may be left out if there is only one")
    parser.add_argument("--keep", type=Path, help="file that always holds the last good configuration")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--end-all", action="store_true", help="end what a killed server left behind, and exit")
    instead.add_argument(
        "--make-network", action="store_true", help="make the bridge, so that the head can listen on it, and exit"
    )
    given = parser.parse_args(arguments)
    try:
        place = _find_site(given.config, given.keep, given.site)
        configure_logging(f"sandbox-{place.site_name}")
        if given.make_network:
            _network(place).start()
        else:
            _serve(place, end_all=given.end_all)
    except (CannotStartError, NetworkError) as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 2
    return 0


def _serve(place: Place, *, end_all: bool) -> None:
    stop = StopSignal()
    place.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = _lock(place)
    host, port = place.listen
    listeners = [] if end_all else [_listen(host, port, "the sandbox API", "the site's `endpoint`")]
    network = _network(place)
    network.start()
    store = Store(place.state / "cloud.db")
    apart = place.site.network.mode == "namespaces"
    metadata_host = network.host_address if apart else host
    if apart and not end_all:
        listeners.append(_listen(metadata_host, port, "machine metadata", "the port of the site's `endpoint`"))
    hypervisor = Hypervisor(place.state / "machines", network, f"http://{_bracketed(metadata_host)}:{port}")
    catalogue = Catalogue(place.site_name, place.site, store, _now_ms)
    cloud = Cloud(place.site_name, catalogue, store, hypervisor, network, _now_ms)
    network.keep_only(record.address for record in store.live())
    _forget_old(store, hypervisor)
    cloud.lifecycle.start()
    if not end_all:
        follower = Follower(place.file, place.site_name, catalogue)
        follower.start()
        _answer(make_app(cloud, metadata_host if apart else None), listeners, place, stop)
        follower.stop()
    cloud.end_all(SWITCHED_OFF)
    _await_end_of_all(store)
    cloud.lifecycle.stop()
    network.stop()
    store.close()
    lock.close()


def _network(place: Place) -> Network:
    return network_for(place.site.network, str(place.state), place.config.ray.address)


def _answer(app: object, listeners: list[socket.socket], place: Place, stop: StopSignal) -> None:
    config = uvicorn.Config(app, log_config=None, log_level="warning", access_log=False, timeout_graceful_shutdown=2)  # pyright: ignore[reportArgumentType]
    # A scripted lost reply is no error of the server's.
    logging.getLogger("uvicorn.error").addFilter(lambda line: "without completing response" not in line.getMessage())
    server = uvicorn.Server(config)
    stop.tell(server)
    _log.info("sandbox.serving", site=place.site_name, endpoint=place.site.endpoint, state=str(place.state))
    server.run(sockets=listeners)


def _await_end_of_all(store: Store) -> None:
    deadline = time.monotonic() + SWITCH_OFF_S
    while (left := store.live()) and time.monotonic() < deadline:
        time.sleep(0.05)
    for record in left:
        _log.error("machine.not_ended", instance=record.id)


def _find_site(path: Path, keep: Path | None, name: str | None) -> Place:
    try:
        file = ConfigFile(path, keep=keep)
    except BadConfigError as error:
        raise CannotStartError(f"{path} has problems:\n{error}") from error
    config = file.current
    sandboxes = {key: site for key, site in config.sites.items() if isinstance(site, SandboxSite)}
    if name is None and len(sandboxes) == 1:
        name = next(iter(sandboxes))
    if name is None or name not in sandboxes:
        there = ", ".join(sandboxes) or "none"
        asked = "say which site with --site" if name is None else f"{path} has no sandbox site {name!r}"
        raise CannotStartError(f"{asked}; sandbox sites there: {there}")
    site = sandboxes[name]
    return Place(file, config, name, site, Path(config.fabric.state) / "sandbox" / name)


def _lock(place: Place) -> TextIO:
    lock = (place.state / "server.lock").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        raise CannotStartError(
            f"another sandbox server (process {lock.read().strip() or 'unknown'}) serves site {place.site_name} from"
            f" {place.state}; end it first"
        ) from None
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock


def _listen(host: str, port: int, what: str, where: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise CannotStartError(
            f"{what} cannot listen on {_bracketed(host)}:{port}: {os.strerror(error.errno or 0)};"
            f" end the program that has it, or change {where}"
        ) from error
    return listener


def _forget_old(store: Store, hypervisor: Hypervisor) -> None:
    for record in store.all():
        if record.ended_at_ms is not None and record.ended_at_ms < _now_ms() - CONSOLES_KEPT_MS:
            hypervisor.forget(record.id)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    sys.exit(main())
