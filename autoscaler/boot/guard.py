"""The guard of this node: no process of a job whose data may not be here starts, and none stays.

Ray's scripts that start workers and fetch a job's files ask through a socket (``autoscaler/ray/guard``); the answer is
the gateway's. Behind that stands a sweep of the raylet's children, which ends what has no answer and what the answer
has changed for: a class that was narrowed in the configuration takes effect here within seconds.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from autoscaler.boot.link import GatewayLink, UnreachableError

# What Ray's scripts find the socket by, and what stands in the raylet's command where a worker would start.
SOCKET = "ELASTIC_FABRIC_GUARD"
WORKER_SCRIPT = "autoscaler/ray/guard/worker.py"
FILES_SCRIPT = "autoscaler/ray/guard/environments.py"
_COMMANDS = {"--python_worker_command=": WORKER_SCRIPT, "--runtime_env_agent_command=": FILES_SCRIPT}

_NO_JOB = "ffffffff"
# Workers that move objects between memory and disk belong to no job and run no user's code.
_OF_NO_JOB = ("--worker-type=SPILL_WORKER", "--worker-type=RESTORE_WORKER")
_CONTEXT = "--serialized-runtime-env-context="
_CLAIMS = ("FABRIC_JOB", "FABRIC_ATTEMPT", "FABRIC_BADGE")
_KEPT_S = 3.0
_SWEEP_EVERY_S = 1.0
_ASK_TIMEOUT_S = 8.0
_QUESTION_LIMIT = 256 * 1024
_MOST = 64

Claim = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Subject:
    """What is ruled on: a Ray job, and which attempt the process says it belongs to."""

    ray_job_id: str
    claim: Claim = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """The gateway's word on a subject. ``known`` is False where the gateway was silent."""

    allowed: bool
    sentence: str
    known: bool = True


class Verdicts:
    """Answers of the gateway, each kept for a few seconds so that a hundred workers cost one question.

    Args:
        link: the gateway.
        token, credential: who asks.
        clock: monotonic seconds.
    """

    def __init__(self, link: GatewayLink, token: str, credential: str, clock: Callable[[], float]) -> None:
        self._link = link
        self._who = {"token": token, "credential": credential}
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[Subject, tuple[float, Answer]] = {}
        self._when_silent = False
        self._trouble = "the gateway was not asked yet"

    def of(self, subject: Subject, quiet: bool = False) -> Answer:
        """The answer for one subject; never raises, and is no where nothing is known.

        Args:
            subject: whom it is about.
            quiet: a denial is no event yet.
        """
        return self.of_all([subject], quiet)[0]

    def of_all(self, subjects: Sequence[Subject], quiet: bool = False) -> list[Answer]:
        """The answers for several, asked in one message where they are not known."""
        now = self._clock()
        with self._lock:
            self._kept = {key: kept for key, kept in self._kept.items() if now < kept[0]}
            known = {subject: self._kept[subject][1] for subject in subjects if subject in self._kept}
        missing = [subject for subject in dict.fromkeys(subjects) if subject not in known]
        for start in range(0, len(missing), _MOST):
            known |= self._ask(missing[start : start + _MOST], quiet)
        return [known[subject] for subject in subjects]

    def look(self) -> None:
        """Learn what holds here while the gateway is silent, before anything has to be asked."""
        self._ask([], quiet=True)

    def _ask(self, subjects: Sequence[Subject], quiet: bool) -> dict[Subject, Answer]:
        asks = [
            {"ray_job_id": subject.ray_job_id, "claim": dict(subject.claim), "quiet": quiet} for subject in subjects
        ]
        try:
            answer = self._link.post("/v1/guard", {**self._who, "asks": asks}, timeout_s=_ASK_TIMEOUT_S)
            if answer.status != 200:
                raise UnreachableError(answer.sentence or f"the gateway answered {answer.status}")
            told = [Answer(item["allowed"] is True, str(item["sentence"])) for item in answer.body["answers"]]
            when_silent = answer.body["when_silent"] is True
            ruled = dict(zip(subjects, told, strict=True))
        except (UnreachableError, KeyError, TypeError, ValueError) as error:
            return dict.fromkeys(subjects, self._silent(error))
        until = self._clock() + _KEPT_S
        with self._lock:
            self._when_silent = when_silent
            # A quiet denial is not kept: the next one has to be an event.
            self._kept |= {key: (until, item) for key, item in ruled.items() if item.allowed or not quiet}
        return ruled

    def _silent(self, error: Exception) -> Answer:
        with self._lock:
            if self._when_silent:
                return Answer(True, "Work of every class may be here.", known=False)
        return Answer(False, f"The gateway does not say that this may run here: {error}.", known=False)


class Guard:
    """Answers Ray's scripts, and sweeps.

    Args:
        path: where the socket is made; nobody else may enter its folder.
        verdicts: the gateway's answers.
        say: one line of the agent's log.
    """

    def __init__(self, path: Path, verdicts: Verdicts, say: Callable[[str], None]) -> None:
        self.path = path
        self._verdicts = verdicts
        self._say = say
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._cleared: dict[tuple[int, float], Subject | None] = {}
        self._asked_for_files: set[str] = set()
        self._said: set[tuple[str, str]] = set()
        self._listener: socket.socket | None = None

    def start(self) -> None:
        """Listen.

        Raises:
            OSError: it cannot; the raylet must not be started then.
        """
        self.path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self.path.chmod(0o600)
        self._listener.listen(64)
        threading.Thread(target=self._serve, name="guard", daemon=True).start()

    def sweep_below(self, raylet: Callable[[], psutil.Process | None]) -> None:
        """Begin to sweep what ``raylet`` has started."""
        threading.Thread(target=self._sweep_again_and_again, args=(raylet,), name="sweep", daemon=True).start()

    def stop(self) -> None:
        """Stop answering: from now on nothing starts."""
        self._stopped.set()
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        self.path.unlink(missing_ok=True)

    def sweep(self, children: Iterable[psutil.Process]) -> list[int]:
        """End every worker that has no answer, or no longer a good one; returns their process ids."""
        ended: list[int] = []
        standing: list[tuple[psutil.Process, Subject]] = []
        alive: set[tuple[int, float]] = set()
        for process in children:
            with contextlib.suppress(psutil.Error, OSError):
                alive.add(_mark(process))
                if not _job_of(process) or _of_no_job(process):
                    continue
                with self._lock:
                    found = _mark(process) in self._cleared
                    subject = self._cleared.get(_mark(process))
                if subject is not None:
                    standing.append((process, subject))
                elif not found and not _is_asking(process):
                    self._end(process, f"process {process.pid} of Ray job {_job_of(process)} never asked the guard")
                    ended.append(process.pid)
        with self._lock:
            self._cleared = {mark: subject for mark, subject in self._cleared.items() if mark in alive}
        answers = self._verdicts.of_all([subject for _, subject in standing])
        for (process, _), answer in zip(standing, answers, strict=True):
            # While the gateway is silent nothing new starts, but nothing is ended either: the lease sees to that.
            if answer.known and not answer.allowed:
                self._end(process, f"process {process.pid} may not be here any more: {answer.sentence}")
                ended.append(process.pid)
        return ended

    def _serve(self) -> None:
        while not self._stopped.is_set() and self._listener is not None:
            try:
                line, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(line,), name="guard-answer", daemon=True).start()

    def _talk(self, line: socket.socket) -> None:
        with line, contextlib.suppress(OSError, psutil.Error, ValueError, KeyError, TypeError):
            line.settimeout(_ASK_TIMEOUT_S)
            with line.makefile("rb") as file:
                question = json.loads(file.readline(_QUESTION_LIMIT))
            answer = self._on_worker(_peer(line)) if question["kind"] == "worker" else self._on_files(question)
            line.sendall(json.dumps({"allowed": answer.allowed, "sentence": answer.sentence}).encode() + b"\n")

    def _on_worker(self, process: psutil.Process) -> Answer:
        """What it is comes from the kernel and the raylet, not from what the process says."""
        mark, job = _mark(process), _job_of(process)
        if _of_no_job(process):
            self._clear(mark, None)
            return Answer(True, "It moves objects for Ray.")
        if not job or job == _NO_JOB:
            return self._denied("no Ray job", Answer(False, "Workers that belong to no job do not start here."))
        subject = Subject(job, _claim(_context(process.cmdline())))
        answer = self._verdicts.of(subject)
        if not answer.allowed:
            return self._denied(f"Ray job {job}", answer)
        self._clear(mark, subject)
        return answer

    def _on_files(self, question: Mapping[str, Any]) -> Answer:
        """Ray fetches a job's files on every node as soon as the job begins; that first time nobody tried anything."""
        job = str(question["ray_job_id"])
        first = job not in self._asked_for_files
        self._asked_for_files.add(job)
        answer = self._verdicts.of(Subject(job, _claim(question["claim"])), quiet=first)
        return answer if answer.allowed or first else self._denied(f"Ray job {job}", answer)

    def _clear(self, mark: tuple[int, float], subject: Subject | None) -> None:
        with self._lock:
            self._cleared[mark] = subject

    def _denied(self, who: str, answer: Answer) -> Answer:
        if (who, answer.sentence) not in self._said:
            self._said.add((who, answer.sentence))
            self._say(f"the guard denied {who}: {answer.sentence}")
        return answer

    def _end(self, process: psutil.Process, why: str) -> None:
        self._say(f"the guard ends it: {why}")
        below = [process]
        with contextlib.suppress(psutil.Error):
            below += process.children(recursive=True)
        for one in below:
            with contextlib.suppress(psutil.Error):
                one.kill()

    def _sweep_again_and_again(self, raylet: Callable[[], psutil.Process | None]) -> None:
        while not self._stopped.wait(_SWEEP_EVERY_S):
            process = raylet()
            if process is not None:
                with contextlib.suppress(psutil.Error):
                    self.sweep(process.children())


def stands_before(raylet_command: Sequence[str]) -> bool:
    """Whether a raylet with this command line starts workers, and fetches files, through the guard only."""
    return all(
        any(argument.startswith(flag) and script in argument for argument in raylet_command)
        for flag, script in _COMMANDS.items()
    )


def _peer(line: socket.socket) -> psutil.Process:
    """The process at the other end, as the kernel says."""
    told = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return psutil.Process(struct.unpack("3i", told)[0])


def _mark(process: psutil.Process) -> tuple[int, float]:
    return process.pid, process.create_time()


def _job_of(process: psutil.Process) -> str:
    """The Ray job that the raylet started it for; ``""`` for a process that is no worker."""
    return process.environ().get("RAY_JOB_ID", "")


def _of_no_job(process: psutil.Process) -> bool:
    return _job_of(process) == _NO_JOB and any(kind in process.cmdline() for kind in _OF_NO_JOB)


def _is_asking(process: psutil.Process) -> bool:
    """Whether it is still the script that asks, or has not even become that."""
    command = process.cmdline()
    return not command or any(argument.endswith(WORKER_SCRIPT) for argument in command[:4]) or _newborn(process)


def _newborn(process: psutil.Process) -> bool:
    """Between fork and exec it looks like the raylet itself."""
    return time.time() - process.create_time() < 1.0


def _context(command: Sequence[str]) -> Mapping[str, Any]:
    told = next((item.removeprefix(_CONTEXT) for item in command if item.startswith(_CONTEXT)), "{}")
    return json.loads(told).get("env_vars") or {}


def _claim(variables: Mapping[str, Any]) -> Claim:
    return tuple((name, str(variables[name])) for name in _CLAIMS if name in variables)
