"""Ray's own command line and client, side by side: the same calls to the gateway and straight to Ray's Jobs API."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import wait_until
from tests.fabrics import Fabric

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

HELLO = """
import os, sys
import helper
print(helper.WORDS, os.environ["COLOUR"], sys.argv[1:])
"""
IN_THE_JOB = """
import ray
ray.init(log_to_driver=False)
metadata = ray._private.worker.global_worker.core_worker.get_job_config().metadata
print(dict(sorted(metadata.items())))
"""
# What differs by nature: where Ray is, when, and under which random ids.
NOISE = re.compile(r"\x1b\[[0-9;]*m|^\S+ \S+\s+(INFO|SUCC|WARN|ERR)\w* \S+ -- ", re.MULTILINE)
MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+")


class Side:
    """One of the two: the gateway with a user's token, or Ray with the cluster's."""

    def __init__(self, name: str, url: str, token: Path, environment: dict[str, str], folder: Path) -> None:
        self.name = name
        self.url = url
        self._token = token.read_text().strip()
        self._folder = folder
        self._environment = {
            **environment,
            "RAY_API_SERVER_ADDRESS": url,
            "RAY_AUTH_TOKEN_PATH": str(token),
            "PYTHONWARNINGS": "ignore",
        }

    def job(self, name: str) -> str:
        """The id of one job on this side."""
        return f"{name}-{self.name}"

    def ray(self, *arguments: str) -> tuple[int, str]:
        """Exit code and output of ``ray job …``, without what differs by nature; JOB stands for ``name``'s id."""
        done = subprocess.run(
            [sys.executable, "-m", "ray.scripts.scripts", "job", *(each.replace("@", self.name) for each in arguments)],
            env=self._environment,
            cwd=self._folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        lines = NOISE.sub("", done.stdout + done.stderr).replace(self.url, "URL").splitlines()
        kept = [MOMENT.sub("WHEN", line).replace(f"-{self.name}", "-@") for line in lines]
        return done.returncode, "\n".join(line.replace("-" * len(self.name), "") for line in kept if _said(line))

    def client(self) -> Any:
        """Ray's own client."""
        from ray.job_submission import JobSubmissionClient

        return JobSubmissionClient(self.url, headers={"Authorization": f"Bearer {self._token}"})

    def answers(self) -> bool:
        """Whether it is there."""
        try:
            with self.http() as http:
                return http.get("/api/version").status_code == 200
        except httpx.HTTPError:
            return False

    def get(self, path: str) -> Any:
        """What one page says."""
        with self.http() as http:
            return http.get(path).raise_for_status().json()

    def http(self) -> httpx.Client:
        """A plain client."""
        headers = {"Authorization": f"Bearer {self._token}"}
        return httpx.Client(base_url=self.url, headers=headers, trust_env=False, timeout=30)


def _said(line: str) -> bool:
    """Whether a line is about the job: packages are found or uploaded, tracebacks name files, rules are of dashes."""
    other = ("package", "WebSocket closed", "  File ", "    ")
    return bool(line.strip("- ")) and not any(word in line for word in other)


@pytest.fixture(scope="module")
def fabric() -> Iterator[Fabric]:
    made = Fabric(maximum=1)
    try:
        made.start_head()
        made.start("sandbox", "gateway", "controller")
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def sides(fabric: Fabric) -> tuple[Side, Side]:
    folder = fabric.directory / "project"
    for path, text in {
        "work/hello.py": HELLO,
        "work/inside.py": IN_THE_JOB,
        "modules/helper/__init__.py": "WORDS = 'hello from'",
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    env = {"working_dir": "work", "py_modules": ["modules/helper"], "env_vars": {"COLOUR": "blue"}}
    (folder / "env.json").write_text(json.dumps(env))
    places = (("ray", "dashboard", fabric.token_path), ("fab", "gateway", fabric.user_token))
    ray, gateway = (
        Side(name, f"http://127.0.0.1:{fabric.ports[port]}", token, fabric.environment, folder)
        for name, port, token in places
    )
    for side in (ray, gateway):
        wait_until(side.answers, 90, f"{side.name} to answer")
    return ray, gateway


def both(sides: tuple[Side, Side], *arguments: str) -> tuple[int, str]:
    """The same call on both sides: the exit code and the output, which have to be the same."""
    first, second = (side.ray(*arguments) for side in sides)
    assert (second[0], second[1].splitlines()) == (first[0], first[1].splitlines())
    return second


def test_a_job_that_is_waited_for_prints_the_same_and_ends_the_same(sides: tuple[Side, Side]) -> None:
    code, said = both(
        sides,
        *("submit", "--submission-id", "hello-@", "--runtime-env", "env.json"),
        *("--metadata-json", '{"owner": "me"}', "--", "python", "hello.py", "a b", "{x}"),
    )
    assert code == 0
    assert "hello from blue ['a b', '{x}']" in said and "Job 'hello-@' succeeded" in said
    assert both(sides, "logs", "hello-@")[1].count("hello from blue") == 1
    assert both(sides, "logs", "--follow", "hello-@")[1].count("hello from blue") == 1
    assert both(sides, "status", "hello-@")[0] == 0


def test_what_is_told_of_a_job_that_is_over_is_the_same(sides: tuple[Side, Side]) -> None:
    told = [side.get(f"/api/jobs/{side.job('hello')}") for side in sides]
    listed = [side.get("/api/jobs/") for side in sides]
    assert all(one in every for one, every in zip(told, listed, strict=True))
    for each in told:
        assert each.pop("start_time") < each.pop("end_time")
        assert each["driver_info"] is None or each["driver_info"]["id"] == each["job_id"]
        # Packages are named by their content here and by Ray's own hash there.
        assert each["runtime_env"].pop("working_dir").startswith("gcs://_ray_pkg_")
        assert len(each["runtime_env"].pop("py_modules")) == 1
    names = [each.pop("submission_id") for each in told]
    assert names == [side.job("hello") for side in sides]
    assert told[0] == told[1]
    assert told[1]["driver_exit_code"] == 0 and told[1]["driver_node_id"]


def test_a_job_that_fails_says_so_in_the_same_words(sides: tuple[Side, Side]) -> None:
    script = "print('oh no'); raise SystemExit(3)"
    code, said = both(sides, "submit", "--submission-id", "fails-@", "--", "python", "-c", script)
    assert code == 1 and "Job 'fails-@' failed" in said and "exit code 3" in said
    told = [side.client().get_job_info(side.job("fails")) for side in sides]
    assert told[0].error_type == told[1].error_type == "JOB_ENTRYPOINT_COMMAND_ERROR"
    assert told[0].driver_exit_code == told[1].driver_exit_code == 3
    assert MOMENT.sub("", told[0].message).replace("-ray", "") == MOMENT.sub("", told[1].message).replace("-fab", "")


def test_the_job_itself_sees_the_same_metadata(sides: tuple[Side, Side]) -> None:
    arguments = ("submit", "--submission-id", "inside-@", "--working-dir", "work", "--metadata-json", '{"k": "v"}')
    for side in sides:
        code, said = side.ray(*arguments, "--", "python", "inside.py")
        assert code == 0
        assert "{'job_name': 'inside-@', 'job_submission_id': 'inside-@', 'k': 'v'}" in said.splitlines()


def test_stop_and_delete_do_and_say_the_same(sides: tuple[Side, Side]) -> None:
    assert both(sides, "submit", "--no-wait", "--submission-id", "sleeps-@", "--", "sleep", "600")[0] == 0
    for side in sides:
        wait_until(lambda side=side: side.client().get_job_status(side.job("sleeps")) == "RUNNING", 60, "its start")
    assert both(sides, "status", "sleeps-@")[1].endswith("Status message: Job is currently running.")
    # Ray wraps the same words into two tracebacks and a 500.
    words = "RuntimeError: Attempted to delete job 'sleeps-@', but it is in a non-terminal state RUNNING."
    assert [(code, words in said) for code, said in (side.ray("delete", "sleeps-@") for side in sides)] == [
        (1, True)
    ] * 2
    stopped = [side.ray("stop", "sleeps-@") for side in sides]
    # How often the command line looks until it is over is a matter of time.
    assert [(code, said.splitlines()[-1]) for code, said in stopped] == [(0, "Job 'sleeps-@' was stopped")] * 2
    assert both(sides, "delete", "sleeps-@") == (0, both_of("delete"))
    assert both(sides, "status", "sleeps-@")[0] == 1
    for side in sides:
        assert side.job("sleeps") not in [each["submission_id"] for each in side.get("/api/jobs/")]


def both_of(verb: str) -> str:
    """What the command line says when a verb worked."""
    return f"Job submission server address: URL\nJob 'sleeps-@' {verb}d successfully"


def test_a_job_that_ended_is_told_of_after_the_head_is_gone(fabric: Fabric, sides: tuple[Side, Side]) -> None:
    gateway = sides[1]
    before = gateway.client().get_job_info(gateway.job("hello"))
    fabric.kill_tree("head")
    assert gateway.client().get_job_info(gateway.job("hello")) == before
    assert "hello from blue" in gateway.client().get_job_logs(gateway.job("hello"))
    with gateway.http() as http:
        assert http.get("/dashboard/api/v0/nodes").status_code == 503
        waiting = http.post("/api/jobs/", json={"entrypoint": "true"}).json()["submission_id"]
        assert http.get(f"/api/jobs/{waiting}").json()["status"] == "PENDING"
