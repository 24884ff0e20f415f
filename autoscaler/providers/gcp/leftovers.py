"""What stays behind and costs money although no instance runs: disks of failed launches, machines that only stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

from autoscaler.providers.base import NotFoundError, ProviderError
from autoscaler.providers.gcp.instances import Instances

SCAN_EVERY_S = 600.0


class Leftovers:
    """Clears away what is left behind, at every listing, until Google says that it is not there.

    Disks that nobody told it of (this process may be new) are found by their owner label. One that a launch is just
    about to use looks the same, so only what two scans have seen, ``SCAN_EVERY_S`` apart, is deleted.

    Args:
        instances: the calls.
        scan_every_s: seconds between two scans for disks.
    """

    def __init__(self, instances: Instances, scan_every_s: float = SCAN_EVERY_S) -> None:
        self._instances = instances
        self._scan_every_s = scan_every_s
        self._lock = threading.Lock()
        self._disks: set[tuple[str, str]] = set()
        self._stopped: set[tuple[str, str]] = set()
        self._suspects: set[tuple[str, str]] = set()
        self._scan_at = 0.0
        self._log = structlog.get_logger()

    def disk(self, zone: str, name: str) -> None:
        """A launch under this name failed: its disk may have been made. Tried at once, and again until it is gone."""
        if not self._gone(lambda: self._instances.delete_disk(zone, name), zone, name):
            with self._lock:
                self._disks.add((zone, name))

    def stopped(self, zone: str, name: str) -> None:
        """This instance has stopped without being deleted."""
        with self._lock:
            self._stopped.add((zone, name))

    def clear(self) -> None:
        """One round. What could not be cleared stays for the next; nothing is raised."""
        self._scan()
        with self._lock:
            disks, stopped = set(self._disks), set(self._stopped)
            self._stopped.clear()
        for zone, name in stopped:
            self._gone(lambda zone=zone, name=name: self._instances.delete(zone, name), zone, name)
        gone = {
            (zone, name)
            for zone, name in disks
            if self._gone(lambda zone=zone, name=name: self._instances.delete_disk(zone, name), zone, name)
        }
        with self._lock:
            self._disks -= gone

    def _scan(self) -> None:
        with self._lock:
            if time.monotonic() < self._scan_at:
                return
            self._scan_at = time.monotonic() + self._scan_every_s
        try:
            loose = self._instances.loose_disks()
        except ProviderError as error:
            self._log.warning("disks could not be listed", error=error.code, message=str(error))
            return
        with self._lock:
            self._disks |= loose & self._suspects
            self._suspects = loose

    def _gone(self, ask: Callable[[], object], zone: str, name: str) -> bool:
        """Ask for the end; True once Google says that it is not there."""
        try:
            ask()
        except NotFoundError:
            return True
        except ProviderError as error:
            self._log.warning("left behind", zone=zone, name=name, error=error.code, message=str(error))
        return False
