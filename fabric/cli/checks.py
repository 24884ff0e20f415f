"""What ``fabric doctor`` looks at. Each check is a function of the context and returns its findings."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from urllib.error import HTTPError

from fabric.cli.context import Context, local_opener
from fabric.cli.made_for import made_for
from fabric.cli.ports import gateway_url
from fabric.cli.price_age import stale_prices

OK, WARN, FAIL = "ok", "warn", "fail"

_GIB = 1024**3
_LEAST_SQLITE = (3, 37, 0)  # STRICT tables
_CLOCK_SKEW_S = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's report; ``remedy`` says what to do where it is not ok."""

    name: str
    state: str
    detail: str
    remedy: str = ""


Check = Callable[[Context], Iterator[Finding]]


def versions(_context: Context) -> Iterator[Finding]:
    """Python and Ray are the ones the fabric is made for."""
    wanted, python = made_for(), platform.python_version()
    good = wanted.takes_python(python)
    yield Finding("Python", OK if good else FAIL, python, "" if good else f"Use a Python {wanted.python}.")
    install = f"Install {wanted.ray or 'ray'} beside the fabric."
    try:
        ray = version("ray")
    except PackageNotFoundError:
        yield Finding("Ray", FAIL, "not installed", install)
        return
    if not wanted.ray:
        yield Finding("Ray", WARN, f"{ray}; which one is needed is not known", "Install elastic-ai-fabric again.")
        return
    good = ray == wanted.ray_version
    remedy = "" if good else f"{install} Its autoscaler changes with every release, and only that one is tested."
    yield Finding("Ray", OK if good else FAIL, ray, remedy)


def import_name(_context: Context) -> Iterator[Finding]:
    """The SSH library called ``fabric`` is not installed beside us: it would shadow this package."""
    import fabric

    here = Path(__file__).resolve().parents[1]
    found = Path(str(fabric.__file__)).resolve().parent
    try:
        other = distribution("fabric")
    except PackageNotFoundError:
        other = None
    if other is not None or found != here:
        what = f"fabric {other.version}, an SSH library, is installed" if other else f"fabric is imported from {found}"
        yield Finding(
            "import name", FAIL, what, "Remove it: pip uninstall fabric; then install elastic-ai-fabric again."
        )
    else:
        yield Finding("import name", OK, f"fabric is {here}")


def configuration(context: Context) -> Iterator[Finding]:
    """The configuration is good; its rules know also how long Ray's socket paths may be."""
    yield Finding("configuration", OK, f"{context.config_path} is good: {len(context.config.sites)} sites")


def prices(context: Context) -> Iterator[Finding]:
    """The price files of the clouds in use are young enough to spend money by."""
    for cloud, stale in stale_prices(context.config, context.state_dir):
        remedy = f"Get newer ones: fabric prices {'refresh' if cloud == 'azure' else f'import --cloud {cloud}'}"
        yield Finding(
            "prices", WARN if stale else OK, stale or f"the {cloud} prices are young", remedy if stale else ""
        )


def secrets(context: Context) -> Iterator[Finding]:
    """Secrets are readable by their owner only."""
    place = context.state_dir / "secrets"
    files = sorted(path for path in place.glob("*") if path.is_file()) if place.exists() else []
    if not files:
        yield Finding("secrets", OK, "none yet; fabric up makes them")
        return
    for path in (place, *files):
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            yield Finding("secrets", FAIL, f"{path} is {mode:04o}", f"Run: chmod go-rwx {path}; then renew it.")
        elif path.is_file() and path.stat().st_uid != os.getuid():
            yield Finding("secrets", FAIL, f"{path} belongs to another user", f"Run: chown {os.getuid()} {path}")
    if all(not stat.S_IMODE(path.stat().st_mode) & 0o077 for path in (place, *files)):
        yield Finding("secrets", OK, f"{len(files)} files, readable by their owner only")


def clocks(context: Context) -> Iterator[Finding]:
    """The wall clock runs as the monotonic one does, and agrees with the gateway's."""
    # On a busy machine we may be interrupted between two readings; a clock that drifts does so every time.
    drift = min(_drift() for _ in range(3))
    steady = drift < 0.02
    yield Finding(
        "clock", OK if steady else WARN, f"{drift * 1000:.1f} ms of drift in 50 ms", "" if steady else "Look at NTP."
    )
    newest = _newest_entry(context)
    if newest is not None and newest > time.time() + _CLOCK_SKEW_S:
        ahead = newest - time.time()
        yield Finding("clock", FAIL, f"the journal's newest entry is {ahead:.0f} s in the future", "Set the clock.")
    skew = _gateway_skew(gateway_url(context.config))
    if skew is not None:
        near = abs(skew) <= _CLOCK_SKEW_S
        remedy = "" if near else "Set both clocks by NTP: nodes are refused when clocks differ."
        yield Finding("gateway clock", OK if near else FAIL, f"{skew:+.0f} s from here", remedy)


def disk(context: Context) -> Iterator[Finding]:
    """There is room for the journal, Ray's sessions and the object store."""
    for name, path, least in (
        ("state", _existing(context.state_dir), 1.0),
        ("temporary files", _existing(Path(context.config.ray.temp_dir or "/tmp")), 2.0),  # noqa: S108
        ("shared memory", Path("/dev/shm"), 0.5),  # noqa: S108
    ):
        if not path.exists():
            yield Finding(f"disk: {name}", WARN, f"there is no {path}", "Ray keeps objects on disk without it: slow.")
            continue
        free = shutil.disk_usage(path).free / _GIB
        enough = free >= least
        remedy = "" if enough else f"Make room: at least {least:g} GiB, else Ray begins to kill work."
        yield Finding(f"disk: {name}", OK if enough else WARN, f"{free:.1f} GiB free in {path}", remedy)
        if name == "state" and not os.access(path, os.W_OK):
            yield Finding(
                "disk: state", FAIL, f"{path} cannot be written by this user", "Change its owner, or the path."
            )


def sqlite(_context: Context) -> Iterator[Finding]:
    """SQLite is new enough for the journal."""
    good = sqlite3.sqlite_version_info >= _LEAST_SQLITE
    least = ".".join(map(str, _LEAST_SQLITE))
    remedy = "" if good else f"Use a Python built with SQLite {least} or newer."
    yield Finding("SQLite", OK if good else FAIL, sqlite3.sqlite_version, remedy)


def open_files(_context: Context) -> Iterator[Finding]:
    """Ray's head may open enough files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 1024:
        yield Finding("open files", FAIL, f"the limit is {soft}", "Raise it: ulimit -n 65536")
    elif soft < 8192:
        yield Finding("open files", WARN, f"the limit is {soft}; enough for a few dozen nodes", "ulimit -n 65536")
    else:
        yield Finding("open files", OK, f"the limit is {soft}")


CHECKS: tuple[Check, ...] = (
    versions,
    import_name,
    configuration,
    prices,
    secrets,
    clocks,
    disk,
    sqlite,
    open_files,
)


def _drift() -> float:
    """Seconds by which the wall clock and the monotonic one disagree on a twentieth of a second."""
    wall, mono = time.time(), time.monotonic()
    time.sleep(0.05)
    return abs((time.time() - wall) - (time.monotonic() - mono))


def _existing(path: Path) -> Path:
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _newest_entry(context: Context) -> float | None:
    if not context.journal_path.exists():
        return None
    with context.journal() as journal:
        last = journal.last_seq()
        return next((entry.at for entry in journal.read(after=last - 1)), None) if last else None


def _gateway_skew(url: str) -> float | None:
    """Seconds by which the gateway's clock is ahead of ours; None when it does not answer."""
    try:
        with local_opener().open(f"{url}/healthz", timeout=2) as answer:
            told = answer.headers.get("Date")
    except HTTPError as error:
        with error:
            told = error.headers.get("Date")
    except (OSError, ValueError, HTTPException):
        return None
    return parsedate_to_datetime(told).timestamp() - time.time() if told else None
