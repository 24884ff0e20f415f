"""Starts machines, finds them again after a restart, and makes sure that one that ended has really ended.

Nothing here remembers anything: a machine's directory and ``/proc`` are the truth, so a server that was killed
picks up where it was. Methods are called from one thread, the cloud's.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from autoscaler.sandbox import machine
from autoscaler.sandbox.machine import MARK, MachineSpec, start_identity
from autoscaler.sandbox.network import Network

PACKAGE_ROOT = Path(__file__).resolve().parents[2]
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Exit:
    """How a machine ended: when (Unix ms), its user data's exit code (None: nobody wrote it down), on whose wish.

    Attributes:
        asked: it was told to end, from outside or by its own ``shutdown``.
    """

    ended_at_ms: int
    code: int | None
    asked: bool


class Hypervisor:
    """The machines of one site, each in a directory below ``directory``."""

    def __init__(self, directory: Path, network: Network, metadata_url: str, grace_s: float = 3.0) -> None:
        self._directory = directory
        self._network = network
        self._metadata_url = metadata_url
        self._grace_s = grace_s
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def id_for(self, token: str) -> str:
        """The instance id that goes with a token; no other sandbox on this host has it."""
        return "i-" + hashlib.sha256(f"{self._directory.resolve()}/{token}".encode()).hexdigest()[:12]

    def prepare(self, instance_id: str, user_data: str) -> None:
        """Put the user data where the machine will find it."""
        home = self._home(instance_id)
        home.mkdir(mode=0o700, exist_ok=True)
        script = home / "user-data"
        script.touch(mode=0o600)
        script.write_text(user_data)

    def boot(self, instance_id: str, address: str) -> bool:
        """Switch the machine on, unless it is on its way; whether it is.

        Can be repeated until ``up_since_ms`` knows the machine, also by the next server when this one is killed in
        the middle of it: the machine's lock lets one run only.
        """
        if instance_id in self._started:
            return self._starting(instance_id) is not None
        home = self._home(instance_id)
        (home / "work").mkdir(mode=0o700, exist_ok=True)
        netns = self._network.connect(address)
        MachineSpec(
            instance_id=instance_id,
            env=self._environment(instance_id, address),
            grace_s=self._grace_s,
            netns=netns,
            hosts=f"127.0.0.1 localhost\n{address} {instance_id}\n{self._network.host_address} host\n",
            keep=[str(home), sys.prefix, sys.base_prefix, str(PACKAGE_ROOT)],
        ).write(home)
        with (home / "console.log").open("ab") as console:
            self._started[instance_id] = subprocess.Popen(
                [sys.executable, "-ISE", machine.__file__, str(home)],
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                cwd=home,
                env={MARK: instance_id},
            )
        return True

    def up_since_ms(self, instance_id: str) -> int | None:
        """Since when the machine runs, or when it began if it has ended; None if it never came up."""
        try:
            return int(json.loads(self._home(instance_id, "machine.json").read_text())["at_ms"])
        except (OSError, ValueError):
            return None

    def pid(self, instance_id: str) -> int | None:
        """The machine's process while it runs."""
        with contextlib.suppress(OSError, ValueError):
            up = json.loads(self._home(instance_id, "machine.json").read_text())
            if start_identity(up["pid"]) == up["start"]:
                return int(up["pid"])
        return None

    def watch(self, instance_id: str) -> int | None:
        """A file descriptor that becomes readable when the machine ends; None if it does not run."""
        pid = self.pid(instance_id) or self._starting(instance_id)
        if pid is None:
            return None
        try:
            return os.pidfd_open(pid)
        except ProcessLookupError:
            return None

    def runs(self, instance_id: str) -> bool:
        """Whether the machine is up or on its way up."""
        return self._starting(instance_id) is not None or self.pid(instance_id) is not None

    def power_off(self, instance_id: str) -> bool:
        """Ask the machine to end: SIGTERM to all on it and SIGKILL after the grace. Whether it was there to ask."""
        pid = self.pid(instance_id)
        if pid is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        return True

    def kill(self, instance_id: str) -> None:
        """End everything on the machine now, itself included."""
        for pid in (self.pid(instance_id), self._starting(instance_id)):
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._sweep(instance_id)

    def collect(self, instance_id: str, fallback_ms: int) -> Exit:
        """How a machine that does not run any more ended, after making sure that nothing of it is left.

        A machine writes down its own end. If it could not (it was killed, the host failed), the end is when the
        last of its processes was killed just now, or else its last heartbeat; ``fallback_ms`` if it never ran.
        """
        process = self._started.pop(instance_id, None)
        if process is not None:
            process.wait()
        swept = self._sweep(instance_id)
        try:
            written = json.loads(self._home(instance_id, "exit.json").read_text())
            return Exit(written["ended_at_ms"], written["code"], written["asked"])
        except (OSError, ValueError):
            pass
        if swept:
            return Exit(time.time_ns() // 1_000_000, None, False)
        try:
            return Exit(self._home(instance_id, "heartbeat").stat().st_mtime_ns // 1_000_000, None, False)
        except OSError:
            return Exit(fallback_ms, None, False)

    def release(self, instance_id: str, address: str) -> None:
        """Give back what an ended machine had; its console stays."""
        self._network.disconnect(address)
        for name in ("work", "bin"):
            shutil.rmtree(self._home(instance_id, name), ignore_errors=True)
        shutil.rmtree(_temp_dir(instance_id), ignore_errors=True)
        for name in ("user-data", "spec.json"):
            self._home(instance_id, name).unlink(missing_ok=True)

    def forget(self, instance_id: str) -> None:
        """Remove the directory of a machine that ended long ago."""
        shutil.rmtree(self._home(instance_id), ignore_errors=True)

    def console(self, instance_id: str, limit: int) -> str:
        """The last ``limit`` bytes the machine's user data printed."""
        try:
            with self._home(instance_id, "console.log").open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - limit))
                return log.read().decode(errors="replace")
        except OSError:
            return ""

    def _environment(self, instance_id: str, address: str) -> dict[str, str]:
        home = self._home(instance_id)
        environment = {
            "PATH": f"{home}/bin:{Path(sys.executable).parent}:{_SYSTEM_PATH}",
            "HOME": f"{home}/work",
            "LANG": "C.UTF-8",
            "FABRIC_METADATA_URL": f"{self._metadata_url}/metadata/{instance_id}",
            "FABRIC_NODE_ADDRESS": address,
            "FABRIC_WORK_DIR": f"{home}/work",
            "FABRIC_TEMP_DIR": str(_temp_dir(instance_id)),
            "FABRIC_END_COMMAND": f"'{home}/bin/shutdown' -h now",
            "FABRIC_PYTHON": sys.executable,
            MARK: instance_id,
        }
        if not _is_installed():
            environment["PYTHONPATH"] = str(PACKAGE_ROOT)
        return environment

    def _starting(self, instance_id: str) -> int | None:
        """The process started here, while it lives; reaps it when it does not."""
        process = self._started.get(instance_id)
        return process.pid if process is not None and process.poll() is None else None

    def _sweep(self, instance_id: str) -> int:
        """Kill whatever carries the machine's mark in its environment, until nothing does; how many there were."""
        killed: set[int] = set()
        for _ in range(100):
            found = [pid for pid in _marked(instance_id) if start_identity(pid)]
            if not found:
                break
            for pid in found:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            killed.update(found)
            time.sleep(0.01)
        return len(killed)

    def _home(self, instance_id: str, *parts: str) -> Path:
        return self._directory.joinpath(instance_id, *parts)


def _temp_dir(instance_id: str) -> Path:
    """Short, for the raylet's sockets, and its own: two raylets that start together in one would share a socket."""
    return Path("/tmp") / f"fabric-{instance_id}"  # noqa: S108 - in namespaces /tmp is the machine's own


def _marked(instance_id: str) -> list[int]:
    needle = f"{MARK}={instance_id}".encode()
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if needle in Path(entry.path, "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def _is_installed() -> bool:
    try:
        distribution("elastic-ai-fabric")
    except PackageNotFoundError:
        return False
    return True
