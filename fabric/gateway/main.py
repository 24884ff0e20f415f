"""The gateway process: ``python -m fabric.gateway.main --config fabric.yaml``. Everything it uses is wired here."""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import structlog
import uvicorn

from autoscaler.boot.trust import cluster_token_file, ensure_certificate, guard_key_file, is_loopback
from fabric.config.reload import BadConfigError, ConfigFile
from fabric.config.schema import Config
from fabric.gateway.app import build_app
from fabric.gateway.book import Book
from fabric.gateway.callers import Callers
from fabric.gateway.credentials import Credentials
from fabric.gateway.guard import Guard
from fabric.gateway.jobs.desk import JobDesk
from fabric.gateway.jobs.drivers import Drivers
from fabric.gateway.jobs.logs import JobLogs
from fabric.gateway.jobs.packages import PackageStore
from fabric.gateway.jobs.queue_watch import QueueWatch
from fabric.gateway.jobs.ray import RayClient
from fabric.gateway.jobs.register import JobRegister
from fabric.gateway.jobs.routes import JobsApi
from fabric.gateway.jobs.sealed import Seal
from fabric.gateway.join import Cluster, Registrar
from fabric.gateway.lease import ControllerWatch, Leases
from fabric.gateway.ray_table import HeadTable
from fabric.gateway.refusals import Versions
from fabric.identity.authenticators import authenticator
from fabric.journal.base import Journal, JournalUnavailableError
from fabric.journal.stores import open_journal
from fabric.telemetry.emit import Metrics, configure_logging

RELOAD_EVERY_S = 2.0
# Submissions are written by threads, which have to get their turn while the event loop answers thousands of questions.
THREAD_TURN_S = 0.0005

log = structlog.get_logger()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM. Returns 0, 2 for a bad configuration, 3 for a journal that cannot be opened."""
    parser = argparse.ArgumentParser(prog="python -m fabric.gateway.main", description="Run the gateway.")
    parser.add_argument("--config", required=True, type=Path, help="path of fabric.yaml")
    parser.add_argument("--keep", type=Path, help="file that always holds the last good configuration")
    options = parser.parse_args(arguments)
    configure_logging("gateway")
    sys.setswitchinterval(THREAD_TURN_S)
    # uvicorn ends gracefully on SIGTERM and then raises it again: leave with 0, through the clean-up below.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        file = ConfigFile(options.config, keep=options.keep)
        journal = open_journal(file.current.fabric.journal, "gateway", options.config.parent)
    except BadConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except JournalUnavailableError as error:
        print(error, file=sys.stderr)
        return 3
    try:
        _serve(file, journal)
    finally:
        journal.close()
    return 0


def here() -> Versions:
    """Python and Ray of this process, and so of the head: what every node has to have."""
    return Versions(platform.python_version(), version("ray"))


def _serve(file: ConfigFile, journal: Journal) -> None:
    config = file.current
    book = Book(journal)
    book.refresh()
    watch = ControllerWatch(f"http://{config.listen.controller}/healthz", book, config.burst.lease)
    follower = _ConfigFollower(file)
    leases = Leases(lambda: file.current.burst.lease, watch.seen_at)
    cluster = Cluster(f"{config.ray.address}:{config.ray.port}", here())
    credentials = Credentials(Path(config.fabric.state))
    registrar = Registrar(journal, book, credentials, cluster, leases, time.time)

    def health() -> dict[str, Any]:
        seq = journal.last_seq()
        return {"ok": True, "pid": os.getpid(), "journal_seq": seq, "controller_seen_at": watch.seen_at()}

    metrics = Metrics()
    jobs = jobs_api(journal, lambda: file.current, credentials.cluster_token, metrics, time.time)
    table = HeadTable(cluster.ray_address, cluster_token_file(Path(config.fabric.state)))
    guard = Guard(
        journal,
        book,
        credentials,
        lambda: file.current,
        jobs.register,
        table,
        guard_key_file(Path(config.fabric.state)),
    )
    app = build_app(registrar, health, metrics, jobs, guard)
    watch.start()
    follower.start()
    jobs.register.start()
    log.info("gateway listens", address=config.listen.gateway)
    try:
        uvicorn.Server(_listen(config, app)).run()
    finally:
        table.close()
        jobs.register.stop()
        follower.stop()
        watch.stop()


def jobs_api(
    journal: Journal,
    config: Callable[[], Config],
    cluster_token: Callable[[], str],
    metrics: Metrics,
    clock: Callable[[], float],
) -> JobsApi:
    """Wire the Jobs API. All of the journal is read before this returns.

    Args:
        journal: where jobs and tokens are kept.
        config: the configuration in force; its state directory and addresses are taken once.
        cluster_token: what Ray itself asks for.
        metrics: counted into.
        clock: Unix seconds.

    Raises:
        JournalUnavailableError: the journal cannot be read.
        OSError: the folder for packages cannot be used.
    """
    state = Path(config().fabric.state)
    register = JobRegister(journal)
    register.refresh()

    def limits() -> tuple[int, int]:
        return config().access.upload, config().access.uploads

    seal = Seal(state)
    packages = PackageStore(state / "packages", limits, register.needs_package, clock)
    ray = RayClient(lambda: config().ray.dashboard, cluster_token)
    queue = QueueWatch(lambda: f"http://{config().listen.controller}/queue")
    return JobsApi(
        callers=Callers(authenticator(config, journal, clock), config),
        desk=JobDesk(journal, register, packages, seal, config, clock),
        seal=seal,
        register=register,
        packages=packages,
        queue=queue,
        drivers=Drivers(ray, state, register),
        logs=JobLogs(state, ray, register, queue),
        ray=ray,
        config=config,
        metrics=metrics,
    )


def _listen(config: Config, app: Any) -> uvicorn.Config:
    """Serve plain http on loopback, and https with the certificate that nodes pin everywhere else."""
    host, _, port = config.listen.gateway.rpartition(":")
    host = host.strip("[]")
    options = uvicorn.Config(
        app,
        host=host,
        port=int(port),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=5,
        # Who follows a log has nothing to say.
        ws_max_size=4096,
    )
    if not is_loopback(host):
        pair = ensure_certificate(Path(config.fabric.state), host)
        options.ssl_certfile, options.ssl_keyfile = str(pair.certificate), str(pair.key)
    return options


class _ConfigFollower:
    """Looks at the configuration file beside the requests, so that an edit counts without a restart."""

    def __init__(self, file: ConfigFile) -> None:
        self._file = file
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="config-follower", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._stopped.wait(RELOAD_EVERY_S):
            self._file.poll()


if __name__ == "__main__":
    sys.exit(main())
