"""supervisord: its configuration file, starting it, and talking to it over its unix socket."""

from __future__ import annotations

import http.client
import os
import re
import shlex
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fabric.cli.exits import CliError, Exit
from fabric.cli.programs import Program, program_environment
from fabric.cli.run_dir import RUN_MARK, RunDir

LOG_BYTES = "20MB"
# It waits one second longer after each failed start, so this many are never used up.
START_RETRIES = 1_000_000


@dataclass(frozen=True, slots=True)
class ProcessState:
    """One program as supervisord sees it: ``state`` is its word (RUNNING, STARTING, BACKOFF, STOPPED, …)."""

    name: str
    state: str
    pid: int
    up_s: float
    detail: str

    @property
    def running(self) -> bool:
        """Whether it is up."""
        return self.state == "RUNNING"


def render(run: RunDir, log_dir: Path, programs: Sequence[Program], environment: Mapping[str, str]) -> str:
    """The text of ``supervisord.conf``."""
    head = f"""\
; Written by `fabric up`; edits are lost.
[unix_http_server]
file={_escaped(run.socket)}
chmod=0700

[supervisord]
logfile={_escaped(log_dir / "supervisord.log")}
logfile_maxbytes={LOG_BYTES}
pidfile={_escaped(run.pid_file)}
directory={_escaped(run.root)}
childlogdir={_escaped(log_dir)}
identifier=fabric
umask=077
environment={_environment(environment)}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""
    return head + "".join(_program(program, log_dir) for program in programs)


def start(conf: Path, run: RunDir, *, foreground: bool) -> subprocess.Popen[bytes] | None:
    """Start supervisord: as a daemon, or as a child that is returned.

    Raises:
        CliError: it does not start; the sentence has its own words.
    """
    environment = {**os.environ, RUN_MARK: str(run.root)}
    command = [sys.executable, "-m", "supervisor.supervisord", "--configuration", str(conf)]
    if foreground:
        # Ctrl-C is for us alone: we give everything back before supervisord may stop the clouds.
        return subprocess.Popen(
            [*command, "--nodaemon"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=environment,
            process_group=0,
        )
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, env=environment
    )
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise CliError(
            Exit.FAILED, f"supervisord did not start: {words[-1] if words else 'it said nothing'}", f"It read {conf}."
        )
    return None


class Supervisor:
    """A running supervisord."""

    def __init__(self, run: RunDir) -> None:
        self._socket = run.socket

    def is_up(self) -> bool:
        """Whether it answers."""
        try:
            self._call("supervisor.getState")
        except (OSError, xmlrpc.client.Error, http.client.HTTPException):
            return False
        return True

    def states(self) -> list[ProcessState]:
        """Every program; empty when supervisord does not answer."""
        try:
            listed = self._call("supervisor.getAllProcessInfo")
        except (OSError, xmlrpc.client.Error, http.client.HTTPException):
            return []
        return [
            ProcessState(
                name=str(info["name"]),
                state=str(info["statename"]),
                pid=int(info["pid"]),
                up_s=float(max(0, int(info["now"]) - int(info["start"]))) if info["statename"] == "RUNNING" else 0.0,
                detail=str(info["spawnerr"] or info["description"]),
            )
            for info in listed
        ]

    def stop(self, names: Sequence[str], timeout_s: float = 60.0) -> None:
        """Stop programs, all at once, and wait until they have; one that is not running is passed over."""
        for name in names:
            try:
                self._call("supervisor.stopProcess", name, False)
            except xmlrpc.client.Fault:
                continue
            except (OSError, http.client.HTTPException):
                return
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if not any(state.name in names and state.pid for state in self.states()):
                return
            time.sleep(0.1)

    def shutdown(self, timeout_s: float = 60.0) -> bool:
        """Stop everything and end supervisord itself; whether it has ended after ``timeout_s``."""
        deadline = time.monotonic() + timeout_s
        while self.is_up():
            if time.monotonic() > deadline:
                return False
            with suppress(OSError, xmlrpc.client.Error, http.client.HTTPException):
                self._call("supervisor.shutdown")
            time.sleep(0.2)
        return True

    def _call(self, method: str, *arguments: str | bool) -> list[dict[str, str | int]]:
        link = _UnixConnection(str(self._socket), timeout=60)
        try:
            body = xmlrpc.client.dumps(arguments, method)
            link.request("POST", "/RPC2", body, {"Content-Type": "text/xml"})
            answer = link.getresponse()
            if answer.status != 200:
                raise http.client.HTTPException(f"supervisord answered {answer.status}")
            (value,), _ = xmlrpc.client.loads(answer.read())
        finally:
            link.close()
        return value  # pyright: ignore[reportReturnType]


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        import socket

        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _program(program: Program, log_dir: Path) -> str:
    return f"""
[program:{program.name}]
command={_escaped(shlex.join(program.command))}
environment={_environment(program_environment(program))}
priority={program.priority}
autostart=true
autorestart=true
startsecs=2
startretries={START_RETRIES}
stopwaitsecs={program.stop_s}
stopasgroup=true
killasgroup=true
redirect_stderr=true
stdout_logfile={_escaped(log_dir / program.name)}.log
stdout_logfile_maxbytes={LOG_BYTES}
stdout_logfile_backups=3
"""


def _environment(variables: Mapping[str, str]) -> str:
    for name, value in variables.items():
        if '"' in value or "\n" in value:
            raise CliError(
                Exit.CONFLICT,
                f"{name} has a quotation mark or a line break in it, which supervisord cannot pass on: {value!r}",
                "Use a path without them.",
            )
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in variables.items())


def _escaped(text: str | os.PathLike[str]) -> str:
    """As supervisord reads it back: it expands ``%`` and cuts what follows a blank and a semicolon."""
    if re.search(r"(^|\s);|\n", str(text)):
        raise CliError(
            Exit.CONFLICT,
            f"supervisord would take the semicolon in {str(text)!r} for the beginning of a comment",
            "Use a path without it.",
        )
    return str(text).replace("%", "%%")
