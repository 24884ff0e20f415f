"""The raylet of this node: started, watched, drained and ended through Ray's command line only."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from autoscaler.boot.guard import SOCKET, stands_before
from autoscaler.boot.join import Joined
from autoscaler.boot.private import write_private
from autoscaler.boot.settings import Settings

_STARTED = "Ray runtime started"
_NODE_ID = "--node_id="
# ``ray start``, with the guard before every worker.
_GUARDED_START = (sys.executable, "-m", "autoscaler.ray.guard.start", "start")
_NOT_INHERITED = ("RAY_AUTH_TOKEN", "RAY_ADDRESS")
DRAIN_S = 5


class Raylet:
    """One raylet, as a child of this process.

    Args:
        settings: what the node offers, and where its files are.
        joined: where the cluster is.
    """

    def __init__(self, settings: Settings, joined: Joined) -> None:
        self._settings = settings
        self._joined = joined
        self._log = settings.work_dir / "ray-start.log"
        self._start: subprocess.Popen[bytes] | None = None
        self._process: psutil.Process | None = None
        self._up = self._guarded = False
        self.node_id = ""

    def start(self) -> None:
        """Start it; whether it comes up is for ``up`` and ``ended`` to tell."""
        with self._log.open("wb") as log:
            self._start = subprocess.Popen(
                start_command(self._settings, self._joined),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment(self._settings, self._joined),
            )
        self._remember()

    def up(self) -> bool:
        """Whether Ray has said that the node is part of the cluster."""
        self._find()
        if not self._up and self._process is not None:
            self._up = _STARTED in self._log.read_text(encoding="utf-8", errors="replace")
        return self._up

    def ended(self) -> str:
        """How it ended, for people; ``""`` while it lives or is still starting."""
        if self._start is None:
            return ""
        code = self._start.poll()
        if code is not None:
            return f"`ray start` ended with code {code}"
        self._find()
        # `ray start --block` stays when the raylet leaves in peace, for example after a drain.
        if self._process is not None and not _alive(self._process):
            return "the raylet is gone"
        return ""

    def unguarded(self) -> bool:
        """Whether it runs, and would start workers without asking."""
        self._find()
        return self._process is not None and not self._guarded

    @property
    def pid(self) -> int:
        """Process id of `ray start`; 0 before it was started."""
        return self._start.pid if self._start is not None else 0

    def process(self) -> psutil.Process | None:
        """The raylet itself; None while it is not there."""
        return self._process

    def drain(self, remaining_s: float) -> str:
        """Ask Ray to move work away because the machine goes in ``remaining_s``; ``""`` or what went wrong.

        No new work is placed here; tasks that cannot finish in time are retried elsewhere.
        """
        command = [
            *_ray("drain-node"),
            f"--address={self._joined.ray_address}",
            f"--node-id={self.node_id}",
            "--reason=DRAIN_NODE_REASON_PREEMPTION",
            "--reason-message=The cloud takes this machine back.",
            f"--deadline-remaining-seconds={max(int(remaining_s), 1)}",
        ]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                env=environment(self._settings, self._joined),
                timeout=max(remaining_s, 5.0),
                check=False,
            )
        except subprocess.TimeoutExpired:
            return "the head did not answer in time"
        return "" if done.returncode == 0 else (done.stderr or done.stdout).strip()[-500:]

    def stop(self, drain: bool) -> None:
        """End it and everything it started.

        Args:
            drain: let Ray move work away first, for ``DRAIN_S`` at most; False ends it at once.
        """
        if self._start is not None:
            self._find()
            ours = [process for process in (_process(self._start.pid), self._process) if process is not None]
            # `ray start` drains when it is asked to end. The raylet itself just says goodbye to the head.
            _end(ours, ask=ours[0] if drain and ours else self._process, grace_s=DRAIN_S + 3.0 if drain else 2.0)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._start.wait(timeout=1.0)
        _pid_file(self._settings.work_dir).unlink(missing_ok=True)

    def last_words(self) -> str:
        """The end of what `ray start` printed, for whoever has to find out why it did not come up."""
        try:
            return self._log.read_text(encoding="utf-8", errors="replace").strip()[-1500:]
        except OSError:
            return ""

    def _find(self) -> None:
        """Look for the raylet below `ray start`, once; its command line has the node id."""
        if self._process is not None or self._start is None:
            return
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(self._start.pid).children():
                arguments = child.cmdline()
                told = next((item for item in arguments if item.startswith(_NODE_ID)), "")
                if told and Path(arguments[0]).name == "raylet":
                    self._process, self.node_id = child, told.removeprefix(_NODE_ID)
                    self._guarded = stands_before(arguments)
                    self._remember()

    def _remember(self) -> None:
        """Write down which processes are ours, for the agent that comes after this one."""
        ours = [_process(self._start.pid) if self._start else None, self._process]
        marks = [(process.pid, process.create_time()) for process in ours if process is not None]
        write_private(_pid_file(self._settings.work_dir), json.dumps(marks).encode())


def end_leftover(work_dir: Path) -> bool:
    """End the raylet that an earlier agent of this node left behind; whether there was one.

    A process counts only if it has the recorded pid *and* start time: pids are used again.
    """
    try:
        marks = json.loads(_pid_file(work_dir).read_text(encoding="utf-8"))
        leftover = [
            process
            for pid, created in marks
            if (process := _process(int(pid))) is not None and abs(process.create_time() - float(created)) < 0.01
        ]
    except (OSError, ValueError, TypeError):
        return False
    _end(leftover, ask=leftover[-1] if leftover else None, grace_s=2.0)
    _pid_file(work_dir).unlink(missing_ok=True)
    return bool(leftover)


def start_command(settings: Settings, joined: Joined) -> list[str]:
    """The `ray start` of this node; it holds no secret."""
    resources = dict(settings.resources)
    command = [*_GUARDED_START, f"--address={joined.ray_address}", "--block", f"--temp-dir={settings.session_root}"]
    # Any free port: of several nodes on one machine only one gets the port Ray would choose, and the others stay
    # without the service that hands out the logs of drivers. Ray tells the head which it became.
    command.append("--dashboard-agent-listen-port=0")
    for flag, name in (("--num-cpus", "CPU"), ("--num-gpus", "GPU"), ("--memory", "memory")):
        command.append(f"{flag}={int(resources.pop(name, 0))}")
    if resources:
        command.append(f"--resources={json.dumps(resources, sort_keys=True)}")
    if joined.labels:
        command.append("--labels=" + ",".join(f"{key}={value}" for key, value in sorted(joined.labels.items())))
    if settings.node_address:
        command.append(f"--node-ip-address={settings.node_address}")
    if settings.object_store_bytes is not None:
        command.append(f"--object-store-memory={settings.object_store_bytes}")
    return [item for item in command if item != "--memory=0"]


def environment(settings: Settings, joined: Joined) -> Mapping[str, str]:
    """What Ray's processes are told through the environment: who they are, and where the token file is."""
    inherited = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    # A start that the guard denied counts as starting until this passes; Ray's own 60 s would hold others up.
    inherited.setdefault("RAY_worker_register_timeout_seconds", "30")
    return inherited | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(joined.token_file),
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": settings.token,
        "RAY_NODE_TYPE_NAME": settings.node_type,
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": str(DRAIN_S),
        SOCKET: str(settings.guard_socket),
        # Ray would start workers for no job, to give them to any job later; the guard lets none of those in.
        "RAY_prestart_worker_first_driver": "0",
        "RAY_enable_worker_prestart": "0",
    }


def _ray(verb: str) -> list[str]:
    beside = Path(sys.executable).with_name("ray")
    program = str(beside) if beside.exists() else shutil.which("ray")
    return [program or "ray", verb]


def _pid_file(work_dir: Path) -> Path:
    return work_dir / "raylet.pid"


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.Error:
        return None


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _end(roots: Sequence[psutil.Process], ask: psutil.Process | None, grace_s: float) -> None:
    """Ask one process to end, wait for all roots and what is below them, then force what is left."""
    tree = {process.pid: process for process in roots}
    for root in roots:
        with contextlib.suppress(psutil.Error):
            tree |= {child.pid: child for child in root.children(recursive=True)}
    if ask is not None:
        with contextlib.suppress(psutil.Error):
            ask.terminate()
        psutil.wait_procs([ask], timeout=grace_s)
    for process in tree.values():
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(list(tree.values()), timeout=2.0)
