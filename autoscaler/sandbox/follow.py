"""Follows the configuration file: an edit changes what is sold, a bad edit changes nothing."""

from __future__ import annotations

import threading

import structlog

from autoscaler.sandbox.catalogue import Catalogue
from fabric.config.reload import ConfigFile, Outcome
from fabric.config.sites import SandboxSite

EVERY_S = 1.0

_log = structlog.get_logger("sandbox")


class Follower:
    """A thread that looks at the file every second."""

    def __init__(self, file: ConfigFile, site_name: str, catalogue: Catalogue) -> None:
        self._file = file
        self._site_name = site_name
        self._catalogue = catalogue
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follow", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(EVERY_S):
            look = self._file.poll()
            site = self._file.current.sites.get(self._site_name)
            if look.outcome is Outcome.REJECTED:
                _log.error("config.rejected", problems=[str(problem) for problem in look.problems])
            elif look.outcome is Outcome.CHANGED and isinstance(site, SandboxSite):
                self._catalogue.load(site)
                _log.info("config.loaded", digest=look.digest, changes=look.changes)
