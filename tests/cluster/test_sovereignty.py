"""What somebody who may submit jobs can do to get data that stays home to the cloud; measured on the machine there.

The measure is the list of processes below the burst machine's raylet, that raylet's own count of the bytes it ever
held, and the files on its disk; nothing that the fabric writes down.
"""

from __future__ import annotations

import io
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import wait_until
from tests.sovereign_fabric import SovereignFabric

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(170)]

ATTACKS = Path(__file__).parent / "attacks"
OURS = ("elastic_fabric_worker/__init__.py", "fabric/__init__.py", "autoscaler/__init__.py", "sitecustomize.py")
DRIVERS = {
    "straight to Ray's port",
    "as the job",
    "nothing of the fabric",
    "with files",
    "as another job",
    "with another job's metadata",
    "as Ray itself",
    "through ray://",
    "libraries",
}
# Ray's libraries in a driver that has nothing of the fabric.
BARE = "env -i PATH=/usr/bin:/bin HOME=/tmp RAY_ADDRESS=$RAY_ADDRESS RAY_AUTH_MODE=token"
BARE += f" RAY_AUTH_TOKEN_PATH=$RAY_AUTH_TOKEN_PATH {sys.executable} {ATTACKS}/libraries.py libraries"
OPEN_TASK = """
import os, ray
ray.init(log_to_driver=False)
@ray.remote(num_cpus=1, label_selector={"fabric/site": "sky"})
def work():
    ray.put(b"x" * 500_000)
    return os.environ["FABRIC_SITE"]
print("RAN AT", ray.get(work.remote()))
"""


@pytest.fixture(scope="module")
def fabric() -> Iterator[SovereignFabric]:
    fabric = SovereignFabric()
    try:
        fabric.bring_up()
        yield fabric
    finally:
        fabric.close()


def test_nothing_of_a_job_that_stays_home_reaches_the_cloud(fabric: SovereignFabric) -> None:
    clinic, here = fabric.token("clinic"), f"127.0.0.1:{fabric.ports['dashboard']}"
    door = {
        "another class": {"metadata": {"fabric.data_class": "open"}},
        "a badge": {"runtime_env": {"env_vars": {"FABRIC_BADGE": "x"}}},
        "no hook": {"runtime_env": {"env_vars": {"__RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR": ""}}},
    }
    for name, body in door.items():
        reply = fabric.post(clinic, {"entrypoint": "echo SOVEREIGN", **body})
        assert reply.status_code in (400, 403), (name, reply.text)

    drivers = f"{sys.executable} {ATTACKS}/drivers.py ray://127.0.0.1:{fabric.ports['client']} http://{here}"
    selector = {"fabric/site": "sky"}
    jobs = {
        "attack": {"entrypoint": drivers, "runtime_env": {"env_vars": {"CANARY": "SOVEREIGN", "PATIENCE": "20"}}},
        "shadow": {
            "entrypoint": f"{sys.executable} tasks.py shadow",
            "runtime_env": {
                "working_dir": upload(fabric, clinic),
                "env_vars": {"CANARY": "SOVEREIGN", "ONLY": "label of the cloud|actor|placement group"},
            },
        },
        "driver": {"entrypoint": "echo SOVEREIGN", "entrypoint_num_cpus": 1, "entrypoint_label_selector": selector},
    }
    for name, body in jobs.items():
        reply = fabric.post(clinic, {"submission_id": name, **body})
        assert reply.status_code == 200, reply.text
    wait_until(lambda: fabric.job(clinic, "attack")["status"] in ("SUCCEEDED", "FAILED"), 120, "the attacks")
    printed = fabric.printed(clinic, "attack")
    outcomes = [json.loads(line.partition(" ")[2]) for line in printed.splitlines() if line.startswith("OUTCOME")]

    print(*outcomes, sep="\n")
    assert {driver for driver, _, _ in outcomes} >= DRIVERS, printed
    assert len(outcomes) >= 60, printed
    assert not [outcome for outcome in outcomes if outcome[2].startswith("ran: sky")]
    assert ran_in_the_cloud(fabric) == []
    assert files_in_the_cloud(fabric) == []
    assert fabric.store() == [0, 0, 0, 0]
    assert fabric.job(clinic, "driver")["status"] == "PENDING"
    assert fabric.job(clinic, "shadow")["status"] in ("PENDING", "FAILED"), "its own files keep it from starting"
    denied = [entry.data for entry in fabric.entries() if entry.kind == "job.denied"]
    assert {entry["site"] for entry in denied} == {"sky"}
    assert all("patient" in entry["sentence"] or "home-only" in entry["sentence"] for entry in denied)


def test_libraries_without_placement_start_nothing_in_the_cloud(fabric: SovereignFabric) -> None:
    """Bytes are not asked here: Ray moves arguments before it starts a worker, see ``test_network_rules.py``."""
    clinic = fabric.token("clinic")
    reply = fabric.post(clinic, {"submission_id": "libraries", "entrypoint": BARE})
    assert reply.status_code == 200, reply.text
    wait_until(lambda: fabric.job(clinic, "libraries")["status"] in ("SUCCEEDED", "FAILED"), 90, "the libraries")

    printed = fabric.printed(clinic, "libraries")
    assert printed.count("OUTCOME") == 4, printed
    assert "ran: sky" not in printed
    assert ran_in_the_cloud(fabric) == []
    assert files_in_the_cloud(fabric) == []


def test_work_on_open_data_runs_there_and_the_measure_sees_it(fabric: SovereignFabric) -> None:
    vision = fabric.token("vision")
    script = fabric.directory / "open.py"
    script.write_text(OPEN_TASK)
    reply = fabric.post(vision, {"submission_id": "open", "entrypoint": f"{sys.executable} {script}"})
    assert reply.status_code == 200, reply.text
    wait_until(lambda: fabric.job(vision, "open")["status"] in ("SUCCEEDED", "FAILED"), 60, "the open job")

    assert "RAN AT sky" in fabric.printed(vision, "open")
    assert ran_in_the_cloud(fabric) != []
    assert fabric.store()[0] > 500_000


def upload(fabric: SovereignFabric, token: str) -> str:
    """A working directory in which files take the names of ours."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(ATTACKS / "tasks.py", "tasks.py")
        for name in OURS:
            archive.writestr(name, "SOVEREIGN = True\n")
    url = f"http://127.0.0.1:{fabric.ports['gateway']}/api/packages/gcs/_ray_pkg_00112233445566aa.zip"
    reply = httpx.put(
        url, content=packed.getvalue(), headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=30
    )
    assert reply.status_code == 200, reply.text
    return "gcs://_ray_pkg_00112233445566aa.zip"


def ran_in_the_cloud(fabric: SovereignFabric) -> list[str]:
    """Processes that the burst raylet had, but for those of Ray itself and those that only asked the guard."""
    return [
        seen[:300]
        for seen in fabric.seen.values()
        if ("SOVEREIGN" in seen or ("RAY_JOB_ID=" in seen and "RAY_JOB_ID=ffffffff" not in seen))
        and "guard/worker.py" not in seen
    ]


def files_in_the_cloud(fabric: SovereignFabric) -> list[Path]:
    """What Ray has fetched for jobs onto the machine in the cloud."""
    flag = "--resource_dir="
    folder = next(item.removeprefix(flag) for item in fabric.raylet.cmdline() if item.startswith(flag))
    return [path for path in Path(folder).rglob("*") if path.is_file() and path.suffix != ".lock"]
