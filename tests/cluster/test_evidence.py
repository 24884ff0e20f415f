"""The evidence of jobs that ran on a real Ray cluster, one at home and one on a rented machine."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest

from fabric.model.jobs import JobPhase
from tests.conftest import wait_until
from tests.fabrics import Fabric

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

WORK = """
import os, ray, sys, time
ray.init(log_to_driver=False)

@ray.remote(num_gpus=1, num_cpus=0)
def work(runs, go):
    open(runs, "w").close()
    while not os.path.exists(go):
        time.sleep(0.1)

ray.get(work.remote(*sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def fabric() -> Iterator[Fabric]:
    made = Fabric(maximum=1, more="teams: {lab: {data_class: stays}, web: {}}")
    text = made.path.read_text()
    made.path.write_text(text.replace("{open: {sites: any}}", "{open: {sites: any}, stays: {sites: [home]}}"))
    try:
        made.start_head()
        made.start("sandbox", "gateway", "controller")
        made.start_home()
        wait_until(lambda: home_is_up(made), 150, "the on-prem node to join")
        yield made
    finally:
        made.close()


def home_is_up(fabric: Fabric) -> bool:
    return any(node["instance"] == "onprem/home/a" and node["phase"] == "running" for node in fabric.status()["nodes"])


def typed(fabric: Fabric, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fabric.cli", "--config", str(fabric.path), *arguments]
    return subprocess.run(command, env=fabric.environment, capture_output=True, text=True, timeout=60, check=False)


class Job:
    """A job of one GPU, submitted with a user's own token, that goes on until it is let go."""

    def __init__(self, fabric: Fabric, name: str, user: str, team: str) -> None:
        self.name = name
        self._fabric = fabric
        self._runs, self._go = fabric.directory / f"{name}.runs", fabric.directory / f"{name}.go"
        script = fabric.directory / "gpu_work.py"
        script.write_text(WORK)
        token = typed(fabric, "token", "create", "--user", user, "--team", team).stdout.strip()
        reply = httpx.post(
            f"http://127.0.0.1:{fabric.ports['gateway']}/api/jobs/",
            headers={"Authorization": f"Bearer {token}"},
            json={
                "entrypoint": f"python {script} {self._runs} {self._go}",
                "submission_id": name,
                "metadata": {"fabric.gpus": "1"},
            },
            trust_env=False,
        )
        assert reply.status_code == 200, reply.text

    def runs(self) -> bool:
        return self._runs.exists()

    def let_go(self) -> None:
        self._go.touch()
        wait_until(lambda: self._fabric.jobs()[self.name].phase.is_over, 60, f"{self.name} to end")
        assert self._fabric.jobs()[self.name].phase is JobPhase.SUCCEEDED


def verified(fabric: Fabric, job: str, key: str, folder: Path) -> dict[str, Any]:
    """The statement of a job's evidence, which is valid away from the fabric."""
    file = folder / f"{job}.json"
    made = typed(fabric, "evidence", job, "--output", str(file))
    assert made.returncode == 0, made.stderr
    said = subprocess.run(
        [sys.executable, "-m", "fabric.cli", "evidence", "verify", str(file), "--key", key, "--json"],
        env={"PATH": "", "PYTHONPATH": fabric.environment["PYTHONPATH"]},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stdout + said.stderr
    statement: dict[str, Any] = json.loads(said.stdout)["statement"]
    return statement


def test_evidence_names_the_nodes_that_rays_own_tables_name(fabric: Fabric, tmp_path: Path) -> None:
    at_home = Job(fabric, "at-home", "mia", "lab")
    wait_until(at_home.runs, 90, "the first job to run at home")
    rented = Job(fabric, "rented", "noa", "web")
    wait_until(rented.runs, 150, "the second job to run on a rented machine")
    at_home.let_go()
    rented.let_go()

    key = typed(fabric, "evidence", "key").stdout.strip()
    home = verified(fabric, "at-home", key, tmp_path)
    assert (home["user"], home["team"], home["data_class"], home["phase"]) == ("mia", "lab", "stays", "succeeded")
    assert home["token"]["roles"] == ["user"]
    assert home["rule"]["allowed_sites"] == ["home"]
    assert {node["site"] for node in home["nodes"]} == {"home"}
    assert "onprem/home/a" in {node["instance"] for node in home["nodes"]}
    assert (home["findings"], home["denials"], home["gaps"]) == ([], [], [])

    away = verified(fabric, "rented", key, tmp_path)
    (machine,) = [node for node in away["nodes"] if node["site"] == "sky"]
    assert (machine["python"], machine["ray"]) == (platform.python_version(), version("ray"))
    assert machine["instance"].startswith("fab-") and machine["market"] in ("spot", "on-demand")
    (attempt,) = away["attempts"]
    assert attempt["admitted_at"] <= attempt["started_at"] and machine["first_s"] <= machine["last_s"]
    assert "mia" not in (tmp_path / "rented.json").read_text()

    report = typed(fabric, "evidence", "report", "--from", "2020-01-01", "--to", "2099-01-01")
    told = json.loads(report.stdout)
    assert (report.returncode, told["violations"]) == (0, [])
    assert {(row["data_class"], row["site"]) for row in told["sites"]} >= {("stays", "home"), ("open", "sky")}
