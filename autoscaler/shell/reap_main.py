"""The reaper process, ``python -m autoscaler.shell.reap_main --config fabric.yaml``, wired here."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import structlog

from autoscaler.providers.base import Provider
from autoscaler.providers.decorate import Observed, RateLimited
from autoscaler.providers.registry import provider_for
from autoscaler.shell.book import Book
from autoscaler.shell.reap import Reaper, pause_s
from autoscaler.shell.serve import Page, Server, metrics_page
from fabric.config.reload import BadConfigError, ConfigFile
from fabric.config.schema import Config
from fabric.journal.base import Journal, JournalUnavailableError
from fabric.journal.stores import open_journal
from fabric.telemetry.emit import Metrics, configure_logging

_LATE_SWEEPS = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM. Returns 0, 2 for a bad configuration, 3 for a journal or an address that cannot be had."""
    parser = argparse.ArgumentParser(prog="python -m autoscaler.shell.reap_main", description="Run the reaper.")
    parser.add_argument("--config", required=True, type=Path, help="path of fabric.yaml")
    parser.add_argument("--keep", type=Path, help="file that always holds the last good configuration")
    options = parser.parse_args(arguments)
    configure_logging("reaper")
    try:
        file = ConfigFile(options.config, keep=options.keep)
        journal = open_journal(file.current.fabric.journal, "reaper", options.config.parent)
    except BadConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except JournalUnavailableError as error:
        print(error, file=sys.stderr)
        return 3
    try:
        return _run(file, journal)
    finally:
        journal.close()


def _run(file: ConfigFile, journal: Journal) -> int:
    log, metrics, stopping = structlog.get_logger(), Metrics(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())

    def config() -> Config:
        file.poll()
        return file.current

    def provider(site: str, current: Config) -> Provider:
        cloud = RateLimited(provider_for(site, current.sites[site], current.fabric.name), time.monotonic)
        return Observed(site, cloud, metrics)

    reaper = Reaper(config, provider, Book(journal), time.time, metrics)
    started = time.time()

    def health() -> Page:
        results = reaper.results()
        late = time.time() - started > _LATE_SWEEPS * pause_s(file.current.burst)
        ok = bool(results) or not late
        sites = {site: {"ok_at": result.ok_at, "error": result.error} for site, result in results.items()}
        return Page.of_json({"ok": ok, "pid": os.getpid(), "sites": sites}, 200 if ok else 503)

    try:
        server = Server(file.current.listen.reaper, {"/healthz": health, "/metrics": metrics_page(metrics.exposition)})
    except OSError as error:
        print(f"the reaper cannot listen on {file.current.listen.reaper}: {error}", file=sys.stderr)
        return 3
    log.info("reaper runs", address=file.current.listen.reaper)
    reaper.run(stopping)
    server.close()
    log.info("reaper ends")
    return 0


if __name__ == "__main__":
    sys.exit(main())
