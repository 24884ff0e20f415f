"""One sandbox machine: runs its user data, outlives the server, and writes down exactly when it ended.

Run as a script with the machine's directory as its only argument; imports nothing but the standard library, so
that it starts in milliseconds. The directory holds:

    spec.json       what to run (``MachineSpec``)
    user-data       the sh script the machine was launched with
    machine.json    pid, start identity and time, written when the machine is up
    heartbeat       touched every second while the machine runs
    exit.json       when and how it ended, written as its last act
    console.log     output of the user data
    bin/            ``shutdown`` and ``poweroff``
    lock            held for the machine's life: one directory never runs two machines

Without namespaces the machine is a *child subreaper* (``prctl(2)``): a process that double-forks or starts its
own session is still its descendant, and powering off ends every one. With namespaces the machine is process 1 of
a PID namespace, and the kernel does the same.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

MARK = "FABRIC_SANDBOX_INSTANCE"

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_CLONE_NEWNS, _CLONE_NEWUTS, _CLONE_NEWPID, _CLONE_NEWNET = 0x20000, 0x4000000, 0x20000000, 0x40000000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000
_OUR_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}

Signaller = Callable[[signal.Signals], None]


@dataclass(frozen=True)
class MachineSpec:
    """What a machine is to be.

    Attributes:
        instance_id: the cloud's id.
        env: the whole environment of the user data.
        grace_s: seconds between asking processes to end and ending them.
        netns: network namespace to run in; ``""`` for the host's, and then no other namespace either.
        hosts: content of the machine's ``/etc/hosts`` (with namespaces).
        keep: directories that must stay visible under the private ``/tmp`` (with namespaces).
    """

    instance_id: str
    env: dict[str, str]
    grace_s: float = 3.0
    netns: str = ""
    hosts: str = ""
    keep: list[str] = field(default_factory=list)

    def write(self, directory: Path) -> None:
        """Put the spec where the machine will look for it."""
        write_json(directory / "spec.json", asdict(self))


def write_json(path: Path, value: object) -> None:
    """Write ``value`` so that a reader, or a crash at any moment, meets the whole file or none."""
    temporary = path.with_suffix(".new")
    with temporary.open("w") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def start_identity(pid: int) -> str:
    """When ``pid`` started, in a form no other process on any boot of this host shares; ``""`` if it is gone.

    A zombie counts as gone: it runs nothing any more.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
    return "" if fields[0] in ("Z", "X") else f"{boot}/{fields[19]}"


def descendants(root: int) -> list[int]:
    """Every living process below ``root``, in no particular order."""
    children: dict[int, list[int]] = {}
    for pid, parent in _parents():
        children.setdefault(parent, []).append(pid)
    found, queue = [], [root]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def main(directory: Path) -> int:
    """Be the machine in ``directory`` until it powers off."""
    with (directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return os.EX_TEMPFAIL
        if (directory / "exit.json").exists():
            return os.EX_TEMPFAIL
        signal.pthread_sigmask(signal.SIG_BLOCK, _OUR_SIGNALS)
        spec = MachineSpec(**json.loads((directory / "spec.json").read_text()))
        (directory / "heartbeat").touch()
        _write_power_switch(directory, pid=1 if spec.netns else os.getpid())
        up = {"pid": os.getpid(), "start": start_identity(os.getpid()), "at_ms": time.time_ns() // 1_000_000}
        write_json(directory / "machine.json", up)
        code, asked = _run_in_namespaces(directory, spec) if spec.netns else _run_on_host(directory, spec)
        ended_at_ms = time.time_ns() // 1_000_000
        write_json(directory / "exit.json", {"ended_at_ms": ended_at_ms, "code": code, "asked": asked})
    return 0


def _write_power_switch(directory: Path, pid: int) -> None:
    """``shutdown`` and ``poweroff`` for the machine's PATH: they end this machine, never the host."""
    for name in ("shutdown", "poweroff"):
        command = directory / "bin" / name
        command.parent.mkdir(exist_ok=True)
        command.write_text(f"#!/bin/sh\nexec kill -TERM {pid}\n")
        command.chmod(0o700)


def _run_on_host(directory: Path, spec: MachineSpec) -> tuple[int, bool]:
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)

    told: set[int] = set()

    def signal_all(number: signal.Signals) -> None:
        for pid in descendants(os.getpid()):
            # One request to end each is enough, but a process forked in the meantime has not had its own.
            if number == signal.SIGKILL or pid not in told:
                told.add(pid)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

    return _serve(_start_user_data(directory, spec), signal_all, spec.grace_s, directory / "heartbeat")


def _run_in_namespaces(directory: Path, spec: MachineSpec) -> tuple[int, bool]:
    libc = ctypes.CDLL(None, use_errno=True)
    with Path(f"/run/netns/{spec.netns}").open("rb") as netns:
        _call(libc.setns, netns.fileno(), _CLONE_NEWNET)
    _call(libc.unshare, _CLONE_NEWNS | _CLONE_NEWUTS | _CLONE_NEWPID)
    first = os.fork()
    if first == 0:
        with _exit_with_traceback():
            _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            os._exit(_be_process_one(libc, directory, spec))

    told: set[signal.Signals] = set()

    def signal_first(number: signal.Signals) -> None:
        if number not in told:
            told.add(number)
            with contextlib.suppress(ProcessLookupError):
                os.kill(first, number)

    # Process 1 keeps the grace itself; when it ends the kernel ends everything in its namespace.
    return _serve(first, signal_first, spec.grace_s + 1.0, directory / "heartbeat")


def _be_process_one(libc: ctypes.CDLL, directory: Path, spec: MachineSpec) -> int:
    _furnish(libc, spec)

    told: set[signal.Signals] = set()

    def signal_all(number: signal.Signals) -> None:
        # A process with a signal pending cannot fork, so one round reaches everything there is.
        if number == signal.SIGKILL or number not in told:
            told.add(number)
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, number)

    return _serve(_start_user_data(directory, spec), signal_all, spec.grace_s, None)[0]


def _furnish(libc: ctypes.CDLL, spec: MachineSpec) -> None:
    """A ``/tmp``, ``/dev/shm``, ``/proc``, host name and hosts file of the machine's own."""

    def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
        _call(libc.mount, source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode())

    mount("none", "/", flags=_MS_REC | _MS_PRIVATE)
    kept = [(path, os.open(path, os.O_PATH)) for path in spec.keep if Path(path).is_relative_to("/tmp")]  # noqa: S108
    mount("proc", "/proc", "proc")
    mount("tmpfs", "/tmp", "tmpfs", options="mode=1777")  # noqa: S108
    mount("tmpfs", "/dev/shm", "tmpfs", options="mode=1777")  # noqa: S108
    for path, held in kept:
        Path(path).mkdir(parents=True, exist_ok=True)
        mount(f"/proc/self/fd/{held}", path, flags=_MS_BIND | _MS_REC)
        os.close(held)
    socket.sethostname(spec.instance_id)
    hosts = Path("/tmp/.hosts")  # noqa: S108
    hosts.write_text(spec.hosts)
    mount(str(hosts), "/etc/hosts", flags=_MS_BIND)
    hosts.unlink()


def _start_user_data(directory: Path, spec: MachineSpec) -> int:
    os.chdir(spec.env["FABRIC_WORK_DIR"])
    command = ["/bin/sh", str(directory / "user-data")]
    return os.posix_spawn(command[0], command, spec.env, setsid=True, setsigmask=[])


def _serve(main_pid: int, signal_all: Signaller, grace_s: float, heartbeat: Path | None) -> tuple[int, bool]:
    """Reap until ``main_pid`` ends or a signal asks for the end; then end the rest. Its code, and who ended it."""
    code = None
    asked = False
    while code is None and not asked:
        received = signal.sigtimedwait(_OUR_SIGNALS, 1.0)
        if heartbeat is not None:
            heartbeat.touch()
        code = dict(_reap()).get(main_pid)
        asked = received is not None and received.si_signo != signal.SIGCHLD
    ended = dict(_power_off(signal_all, grace_s, heartbeat))
    return (ended.get(main_pid, 0) if code is None else code), asked


def _power_off(signal_all: Signaller, grace_s: float, heartbeat: Path | None) -> Iterator[tuple[int, int]]:
    """Ask every process to end, then end it; yields pid and exit code until the machine has none left."""
    deadline = time.monotonic() + grace_s
    while _has_children():
        signal_all(signal.SIGTERM if time.monotonic() < deadline else signal.SIGKILL)
        yield from _reap()
        signal.sigtimedwait({signal.SIGCHLD}, 0.05)
        if heartbeat is not None:
            heartbeat.touch()


def _reap() -> Iterator[tuple[int, int]]:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        code = os.waitstatus_to_exitcode(status)
        yield pid, (code if code >= 0 else 128 - code)  # as a shell says it


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _parents() -> Iterator[tuple[int, int]]:
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                yield int(entry.name), int(Path(entry.path, "stat").read_text().rpartition(")")[2].split()[1])


def _prctl(option: int, value: int) -> None:
    _call(ctypes.CDLL(None, use_errno=True).prctl, option, ctypes.c_ulong(value), 0, 0, 0)


def _call(function: Callable[..., int], *arguments: object) -> None:
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{getattr(function, '__name__', function)}: {os.strerror(number)}")


@contextlib.contextmanager
def _exit_with_traceback() -> Iterator[None]:
    """A forked child must never run on into its parent's code, whatever goes wrong in it."""
    try:
        yield
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(70)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
