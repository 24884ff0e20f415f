"""The guard of a node: Ray's starters as real processes, the agent's socket, and a gateway that rules."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from autoscaler.boot.guard import SOCKET, Guard, Verdicts, stands_before
from autoscaler.boot.link import GatewayLink
from autoscaler.ray.guard import ask
from autoscaler.ray.guard.start import ENVIRONMENTS, OWN_NODE, WORKER, NoGuardError, guarded
from fabric.config.schema import Config
from fabric.sovereignty.badge import BADGE
from tests.conftest import wait_until
from tests.unit.gateway.ruling import CONFIG, OURS, Ruling

NO_JOB = "ffffffff"
PRIVATE = Path(sys.prefix) / "lib" / "python3.11" / "site-packages" / "ray" / "_private"


class Node:
    """One node's guard, and the processes its raylet would start."""

    def __init__(self, folder: Path, ruling: Ruling, token: str) -> None:
        self.ahead_s = 0.0
        self.said: list[str] = []
        link = GatewayLink(ruling.url, "")
        verdicts = Verdicts(link, token, ruling.credential(token), lambda: time.monotonic() + self.ahead_s)
        verdicts.look()
        self.guard = Guard(folder / "s", verdicts, self.said.append)
        self.guard.start()
        self.program = folder / "program.py"
        self.program.write_text("import time; print('started', flush=True); time.sleep(60)")
        self.processes: list[subprocess.Popen[str]] = []

    def worker(
        self, job: str = OURS, *arguments: str, guarded: bool = True, environment: dict[str, str] | None = None
    ) -> psutil.Process:
        """What the raylet starts for a job: our script, which then becomes the worker."""
        script = [WORKER, "--language=PYTHON", *arguments] if guarded else []
        process = subprocess.Popen(
            [sys.executable, *script, str(self.program)],
            env={"PATH": os.environ["PATH"], SOCKET: str(self.guard.path), "RAY_JOB_ID": job, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return psutil.Process(process.pid)

    def started(self) -> bool:
        """Whether the newest process became a worker."""
        process = self.processes[-1]
        assert process.stdout is not None
        return process.stdout.readline() == "started\n"

    def refused(self) -> str:
        """What the newest process printed when it was refused."""
        out, error = self.processes[-1].communicate(timeout=20)
        assert out == ""
        assert self.processes[-1].returncode == 1
        return error

    def close(self) -> None:
        self.guard.stop()
        for process in self.processes:
            process.kill()
            process.communicate()


@pytest.fixture
def ruling(tmp_path: Path) -> Iterator[Ruling]:
    ruling = Ruling(tmp_path)
    try:
        yield ruling
    finally:
        ruling.close()


@pytest.fixture
def node(tmp_path: Path, ruling: Ruling) -> Iterator[Node]:
    node = Node(tmp_path, ruling, "fab-steady")
    try:
        yield node
    finally:
        node.close()


def test_a_worker_starts_where_its_job_may_be_and_nowhere_else(node: Node, ruling: Ruling) -> None:
    ruling.ray_job(ruling.admit("j", "open"), "j")
    node.worker()
    assert node.started()

    node.ahead_s = 60
    ruling.ray_job(ruling.admit("k", "patient"), "k")
    node.worker()
    assert "fabric guard: Data of class patient may go only to the sites listed for it" in node.refused()
    assert len(ruling.denials()) == 1


def test_what_a_process_says_of_itself_does_not_count(node: Node, ruling: Ruling) -> None:
    ruling.ray_job(ruling.admit("k", "patient"), "k")
    mine = ruling.admit("j", "open")
    node.worker(environment=mine)
    assert "fabric guard" in node.refused()
    context = f'--serialized-runtime-env-context={{"env_vars": {{"FABRIC_JOB": "j", "{BADGE}": "{mine[BADGE]}"}}}}'
    node.worker(OURS, context)
    assert "fabric guard" in node.refused()


def test_workers_of_no_job_do_not_start_but_for_those_that_move_objects(node: Node) -> None:
    node.worker(NO_JOB)
    assert "belong to no job" in node.refused()
    # Ray's own script passes the flag on, here to a Python that does not know it.
    node.worker(NO_JOB, "--worker-type=SPILL_WORKER")
    assert "fabric guard" not in node.processes[-1].communicate(timeout=20)[1]


def test_no_answer_is_a_no(node: Node, ruling: Ruling) -> None:
    ruling.ray_job(ruling.admit("j", "open"), "j")
    node.worker(environment={SOCKET: "/nowhere"})
    assert "gives no answer" in node.refused()
    ruling.be_silent()
    node.worker()
    assert "The gateway does not say that this may run here" in node.refused()
    node.guard.stop()
    node.worker()
    assert "gives no answer" in node.refused()


def test_at_home_work_goes_on_while_the_gateway_is_silent(tmp_path: Path, ruling: Ruling) -> None:
    node = Node(tmp_path, ruling, "onprem/home/a")
    try:
        ruling.be_silent()
        node.worker()
        assert node.started()
    finally:
        node.close()


def test_a_room_to_which_not_every_class_may_go_is_closed_while_the_gateway_is_silent(
    tmp_path: Path, ruling: Ruling
) -> None:
    node = Node(tmp_path, ruling, "onprem/annex/b")
    try:
        ruling.be_silent()
        node.worker()
        assert "fabric guard" in node.refused()
    finally:
        node.close()


def test_a_worker_that_never_asked_is_ended(node: Node) -> None:
    process = node.worker(guarded=False)
    assert node.started()
    wait_until(lambda: node.guard.sweep([process]) == [process.pid], 5, "the end of it")
    assert node.processes[-1].wait(5) < 0
    assert "never asked the guard" in node.said[-1]


def test_a_worker_whose_class_was_narrowed_is_ended_with_all_it_started(node: Node, ruling: Ruling) -> None:
    node.program.write_text(
        "import subprocess, time; subprocess.Popen(['sleep', '60']); print('started', flush=True); time.sleep(60)"
    )
    ruling.ray_job(ruling.admit("j", "open"), "j")
    process = node.worker()
    assert node.started()
    below = process.children()
    assert len(below) == 1
    assert node.guard.sweep([process]) == []

    narrowed = CONFIG | {"data_classes": {"open": {"sites": ["home"]}}}
    ruling.config = Config.model_validate(narrowed)
    node.ahead_s = 60
    assert node.guard.sweep([process]) == [process.pid]
    assert node.processes[-1].wait(5) < 0
    wait_until(lambda: not below[0].is_running() or below[0].status() == psutil.STATUS_ZOMBIE, 5, "its child's end")


def test_a_silent_gateway_ends_nothing_that_runs(node: Node, ruling: Ruling) -> None:
    ruling.ray_job(ruling.admit("j", "open"), "j")
    process = node.worker()
    assert node.started()
    ruling.be_silent()
    node.ahead_s = 60
    assert node.guard.sweep([process]) == []


def test_files_are_fetched_only_for_jobs_that_may_be_here_and_rays_own_first_try_is_no_event(
    node: Node, ruling: Ruling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SOCKET, str(node.guard.path))
    ruling.ray_job(ruling.admit("k", "patient"), "k")
    question = {"kind": "files", "ray_job_id": OURS, "claim": {}}
    assert "Data of class patient" in ask.refusal(question)
    assert (ruling.denials(), node.said) == ([], [])
    assert "Data of class patient" in ask.refusal(question)
    assert len(ruling.denials()) == len(node.said) == 1


def test_nonsense_on_the_socket_is_no_answer_and_no_harm(node: Node, ruling: Ruling) -> None:
    for nonsense in (b"\n", b"{}\n", b"[1]\n", b'{"kind": "files"}\n', b"\xff\n", b""):
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(10)
            line.connect(str(node.guard.path))
            line.sendall(nonsense)
            line.shutdown(socket.SHUT_WR)
            assert line.recv(100) == b""
    ruling.ray_job(ruling.admit("j", "open"), "j")
    node.worker()
    assert node.started()


RAYLET = [
    "raylet",
    f"--python_worker_command=/usr/bin/python {PRIVATE}/workers/setup_worker.py {PRIVATE}/workers/default_worker.py",
    "--java_worker_command=",
    f"--cpp_worker_command=/usr/bin/python {PRIVATE}/workers/setup_worker.py default_worker",
    f"--runtime_env_agent_command=/usr/bin/python -u {PRIVATE}/runtime_env/agent/main.py --node-id=1",
    f"--dashboard_agent_command=/usr/bin/python -u {PRIVATE.parent}/dashboard/agent.py --node-id=1",
    "--maximum_startup_concurrency=2",
]


def test_whatever_the_raylet_starts_for_a_job_passes_the_guard() -> None:
    assert not stands_before(RAYLET)
    command = guarded(RAYLET)
    assert stands_before(command)
    assert sum(WORKER in argument for argument in command) == 2
    assert sum(ENVIRONMENTS in argument for argument in command) == 1
    assert sum(OWN_NODE in argument for argument in command) == 1
    assert not any("setup_worker.py" in argument or "agent/main.py" in argument for argument in command)


@pytest.mark.parametrize("gone", [1, 4])
def test_a_raylet_of_a_form_that_is_not_known_is_not_started(gone: int) -> None:
    with pytest.raises(NoGuardError):
        guarded([*RAYLET[:gone], *RAYLET[gone + 1 :]])
    with pytest.raises(NoGuardError):
        guarded([*RAYLET[:gone], RAYLET[gone].replace(str(PRIVATE), "/elsewhere"), *RAYLET[gone + 1 :]])
