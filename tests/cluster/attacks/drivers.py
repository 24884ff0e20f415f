"""One job that starts drivers of its own, each in other clothes, and lets every one of them try everything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent
ADDRESS, TOKEN_PATH = os.environ["RAY_ADDRESS"], os.environ["RAY_AUTH_TOKEN_PATH"]
CLIENT, DASHBOARD = sys.argv[1:3]
BARE = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/tmp",
    "RAY_ADDRESS": ADDRESS,
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN_PATH": TOKEN_PATH,
    "PATIENCE": os.environ.get("PATIENCE", "20"),
}
MINE = dict(os.environ)
AS_ANOTHER = {"FABRIC_JOB": "open", "FABRIC_ATTEMPT": "1", "FABRIC_BADGE": "0" * 64, "CANARY": "SOVEREIGN"}
FILES = {"working_dir": str(HERE), "env_vars": {"CANARY": "SOVEREIGN"}}


def config(**job: object) -> dict[str, str]:
    return {"RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps(job)}


def init(**options: object) -> dict[str, str]:
    return {"ATTACK_INIT": json.dumps(options)}


SOME = {"ONLY": "label of the cloud|actor|placement group"}
DRIVERS = {
    "as the job": MINE,
    "nothing of the fabric": BARE,
    "with files": {**BARE, **SOME, **init(runtime_env=FILES)},
    "as another job": {**BARE, **SOME, **AS_ANOTHER, **init(runtime_env={"env_vars": AS_ANOTHER})},
    "with another job's metadata": {**BARE, **SOME, **config(metadata={"job_submission_id": "open"})},
    "as Ray itself": {
        **BARE,
        **SOME,
        **init(namespace="_ray_internal_dashboard", runtime_env={"env_vars": AS_ANOTHER}),
    },
    "through ray://": {**BARE, **SOME, **init(address=CLIENT)},
}


def straight_to_ray(name: str, **body: object) -> None:
    """Ray's own port, past the gateway."""
    token = Path(TOKEN_PATH).read_text().strip()
    request = urllib.request.Request(
        f"{DASHBOARD}/api/jobs/",
        json.dumps({"entrypoint": f"echo SOVEREIGN {name}", "submission_id": f"straight-{name}", **body}).encode(),
        {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            outcome = f"taken: {reply.status}"
    except OSError as error:
        outcome = f"refused: {error}"
    print("OUTCOME", json.dumps(["straight to Ray's port", name, outcome]), flush=True)


SKY = {"fabric/site": "sky"}
straight_to_ray("plain", entrypoint_label_selector=SKY)
straight_to_ray("class", entrypoint_label_selector=SKY, metadata={"fabric.data_class": "open"})
straight_to_ray("badge", entrypoint_label_selector=SKY, runtime_env={"env_vars": AS_ANOTHER})
running = [
    subprocess.Popen([sys.executable, str(HERE / "tasks.py"), name], env=environment)
    for name, environment in DRIVERS.items()
]
running.append(subprocess.Popen([sys.executable, str(HERE / "libraries.py"), "libraries"], env=MINE))
for driver in running:
    driver.wait(120)
