"""One running fabric on this machine: its short-lived directory, its record, and every process that belongs to it.

The directory is under ``/tmp`` because the paths of unix sockets must fit in 107 bytes. It is named after the
configuration file, so that ``fabric down`` finds it also when that file has been broken by an edit.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fabric.cli.exits import CliError, Exit

if TYPE_CHECKING:
    from psutil import Process

    from fabric.config.problems import Problems
    from fabric.config.schema import Config

RUN_MARK = "ELASTIC_FABRIC_RUN"  # not FABRIC_…: the node agent keeps those from the raylet
PROGRAM_MARK = "ELASTIC_FABRIC_PROGRAM"


@dataclass(frozen=True, slots=True)
class Record:
    """What ``up`` writes down for ``down`` and ``status``: all of it is also true while the configuration is bad."""

    config: str
    state: str
    started_at: float


@dataclass(frozen=True, slots=True)
class RunDir:
    """The directory of one configuration's run; it exists from ``up`` to ``down``."""

    root: Path

    @staticmethod
    def of(config_path: Path) -> RunDir:
        """Where the fabric of this configuration file runs."""
        name = hashlib.sha256(f"{os.getuid()}:{os.path.realpath(config_path)}".encode()).hexdigest()[:10]
        return RunDir(Path("/tmp") / f"fabric-{name}")  # noqa: S108 - made 0700, and refused if it is not ours

    @property
    def socket(self) -> Path:
        """Where supervisord listens."""
        return self.root / "supervisor.sock"

    @property
    def pid_file(self) -> Path:
        """Where supervisord writes its process id."""
        return self.root / "supervisord.pid"

    @property
    def ray(self) -> Path:
        """Ray's session directory, unless the configuration names another."""
        return self.root / "ray"

    @property
    def kept_config(self) -> Path:
        """The configuration that ``up`` started with."""
        return self.root / "fabric.yaml"

    def create(self, record: Record, config_text: bytes) -> None:
        """Make the directory, readable by its owner only, with the record in it.

        Raises:
            CliError: something of that name is there and is not a directory of ours.
        """
        self.root.mkdir(mode=0o700, exist_ok=True)
        found = self.root.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise CliError(
                Exit.CONFLICT,
                f"{self.root} is not a private directory of this user",
                "Find out who made it and remove it; nothing was started.",
            )
        self.kept_config.write_bytes(config_text)
        (self.root / "run.json").write_text(json.dumps(asdict(record)))

    def record(self) -> Record | None:
        """What ``up`` wrote; None when nothing was started here."""
        try:
            return Record(**json.loads((self.root / "run.json").read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def remove(self) -> None:
        """Take the directory away, with Ray's session files."""
        shutil.rmtree(self.root, ignore_errors=True)

    def processes(self, program: str | None = None) -> list[Process]:
        """Every process that was started for this run, or for one program of it; never this one or its parents.

        They carry the run's mark in their environment, or are machines of the sandbox whose files are under the
        state directory; so do or are what they started, which may have overwritten its own environment.
        """
        record = self.record()
        needles = [f"{RUN_MARK}={self.root}".encode()]
        if program is not None:
            needles.append(f"{PROGRAM_MARK}={program}".encode())
        machines = None if record is None or program is not None else f"{record.state}/sandbox/".encode()
        return _with_kin(pid for pid in _own_pids() if _is_marked(pid, needles, machines))


def config_in_force(config_path: Path) -> Config | Problems:
    """The configuration in the file; when an edit has broken it, the one the running fabric was started with."""
    from fabric.config.problems import Problems
    from fabric.config.reload import in_force, load_file, read

    config = read(config_path)
    if not isinstance(config, Problems):
        return config

    try:
        text = RunDir.of(config_path).kept_config.read_bytes()
    except OSError:
        return config
    kept = load_file(text, config_path)
    return config if isinstance(kept, Problems) else in_force(kept, config_path)


def end(processes: Iterable[Process], grace_s: float) -> list[Process]:
    """Ask processes to end, kill those that have not after ``grace_s``; returns those that are still there."""
    import psutil

    processes = list(processes)
    for process in processes:
        with _gone():
            process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=grace_s)
    for process in alive:
        with _gone():
            process.kill()
    return psutil.wait_procs(alive, timeout=5)[1]


@contextmanager
def _gone() -> Iterator[None]:
    """Pass over a process that ended while it was looked at."""
    import psutil

    with suppress(psutil.Error, ProcessLookupError):
        yield


def _own_pids() -> list[int]:
    pids = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                if entry.stat().st_uid == os.getuid():
                    pids.append(int(entry.name))
            except OSError:
                continue
    return pids


def _is_marked(pid: int, needles: list[bytes], machines: bytes | None) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        if all(needle in environment.split(b"\0") for needle in needles):
            return True
        return machines is not None and (
            machines in environment or machines in Path(f"/proc/{pid}/cmdline").read_bytes()
        )
    except OSError:
        return False


def _with_kin(pids: Iterable[int]) -> list[Process]:
    """The processes, what they started, and whoever shares a process group with them; without zombies and us."""
    import psutil

    found: dict[int, Process] = {}
    groups: set[int] = set()
    for pid in pids:
        with _gone():
            process = psutil.Process(pid)
            for member in (process, *process.children(recursive=True)):
                found[member.pid] = member
            groups.add(os.getpgid(pid))
    ours = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    groups -= {os.getpgid(pid) for pid in ours if psutil.pid_exists(pid)}
    for pid in _own_pids():
        with _gone():
            if pid not in found and os.getpgid(pid) in groups:
                found[pid] = psutil.Process(pid)
    alive = []
    for process in found.values():
        with _gone():
            if process.pid not in ours and process.status() != psutil.STATUS_ZOMBIE:
                alive.append(process)
    return alive
