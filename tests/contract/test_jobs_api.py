"""Ray's own client and command line against the gateway: everything that does not need a cluster."""

from __future__ import annotations

import json
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from ray.job_submission import JobStatus

from fabric.model.events import Event
from tests.conftest import wait_until
from tests.job_servers import JobServer, job_server

SUBMITTED = {"entrypoint": "echo hello"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobServer]:
    with job_server(tmp_path_factory.mktemp("jobs")) as server:
        yield server


@pytest.fixture
def client(server: JobServer) -> Any:
    return server.client()


def refused(server: JobServer, body: Any, user: str = "ada") -> tuple[int, str]:
    with server.http(user) as http:
        answer = http.post("/api/jobs/", content=body if isinstance(body, bytes) else json.dumps(body).encode())
    return answer.status_code, answer.text


# --- what Ray's own tests of its server check -------------------------------------------------------------------


def test_a_submission_comes_back_with_what_was_submitted(client: Any) -> None:
    env = {"env_vars": {"TEST": "123"}}
    job = client.submit_job(entrypoint="echo hello", runtime_env=env, metadata={"foo": "bar"})
    (listed,) = [info for info in client.list_jobs() if info.submission_id == job]
    assert listed == client.get_job_info(job)
    assert (listed.entrypoint, listed.runtime_env, listed.metadata) == ("echo hello", env, {"foo": "bar"})
    assert listed.status == JobStatus.PENDING and listed.message.startswith("Job has not started yet.")
    assert listed.type == "SUBMISSION" and listed.job_id is None and listed.driver_info is None
    assert job.startswith("raysubmit_") and len(job) == len("raysubmit_") + 16


def test_only_the_entrypoint_is_required(server: JobServer) -> None:
    with server.http() as http:
        answer = http.post("/api/jobs/", json=SUBMITTED).json()
        info = http.get(f"/api/jobs/{answer['submission_id']}").json()
    assert answer["job_id"] == answer["submission_id"]
    assert info["metadata"] is None and info["runtime_env"] is None


def test_an_outdated_client_may_call_the_id_job_id(client: Any) -> None:
    assert client.submit_job(entrypoint="true", job_id="my_custom_id") == "my_custom_id"
    with pytest.raises(RuntimeError, match="my_custom_id already exists"):
        client.submit_job(entrypoint="true", job_id="my_custom_id")


@pytest.mark.parametrize("kwargs", [{"entrypoint_num_cpus": 2}, {"entrypoint_memory": 4}, {"entrypoint_num_gpus": 1}])
def test_a_waiting_job_says_in_rays_words_that_it_may_wait_for_resources(client: Any, kwargs: dict[str, int]) -> None:
    job = client.submit_job(entrypoint="true", **kwargs)
    assert "waiting for resources" in client.get_job_info(job).message


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"key": "baaaad request"}, "TypeError: JobSubmitRequest.__init__() got an unexpected keyword argument 'key'"),
        ({}, "TypeError: JobSubmitRequest.__init__() missing 1 required positional argument: 'entrypoint'"),
        ({"entrypoint": 5}, "TypeError: entrypoint must be a string, got <class 'int'>"),
        ({**SUBMITTED, "metadata": {"a": 1}}, "TypeError: metadata values must be strings, got <class 'int'>"),
        ({**SUBMITTED, "runtime_env": []}, "TypeError: runtime_env must be a dict, got <class 'list'>"),
        ({**SUBMITTED, "entrypoint_memory": 1.5}, "TypeError: entrypoint_memory must be an integer"),
        ({**SUBMITTED, "entrypoint_resources": {"a": "b"}}, "entrypoint_resources values must be numbers"),
        ({**SUBMITTED, "entrypoint_label_selector": {"a": 1}}, "entrypoint_label_selector values must be strings"),
        ({**SUBMITTED, "entrypoint_label_selector": {"a": "-x"}}, "Invalid label selector value `-x`"),
        ({**SUBMITTED, "entrypoint_label_selector": {"-a": "x"}}, "Invalid label key name `-a`"),
    ],
)
def test_a_bad_request_is_refused_in_rays_words(server: JobServer, body: Any, words: str) -> None:
    status, text = refused(server, body)
    assert status == 400 and words in text


def test_a_label_selector_that_ray_takes_is_taken(client: Any) -> None:
    for value in ("spot", "!gpu", "in(a, b)", "!in(a,b)", ""):
        client.submit_job(entrypoint="true", entrypoint_label_selector={"fabric/site": value})


@pytest.mark.parametrize(
    ("method", "route"),
    [
        ("GET", "/api/jobs/fake_job_id"),
        ("DELETE", "/api/jobs/fake_job_id"),
        ("GET", "/api/jobs/fake_job_id/logs"),
        ("POST", "/api/jobs/fake_job_id/stop"),
        ("GET", "/api/packages/fake_package_uri"),
        ("GET", "/api/packages/gcs/_ray_pkg_none.zip"),
        ("GET", "/api/packages/s3/x.zip"),
    ],
)
def test_what_does_not_exist_is_a_404(client: Any, method: str, route: str) -> None:
    assert client._do_request(method, route).status_code == 404


def test_an_unknown_job_is_told_in_rays_words(client: Any) -> None:
    with pytest.raises(RuntimeError, match="nonexistent_job does not exist"):
        client.get_job_status("nonexistent_job")


def test_the_version_is_rays(client: Any) -> None:
    import ray

    body = client._do_request("GET", "/api/version").json()
    assert body == {"version": "4", "ray_version": ray.__version__, "ray_commit": ray.__commit__, "session_name": ""}


def test_only_what_is_over_can_be_deleted_and_then_it_is_gone(server: JobServer, client: Any) -> None:
    job = client.submit_job(entrypoint="true")
    with pytest.raises(RuntimeError, match="but it is in a non-terminal state PENDING"):
        client.delete_job(job)
    server.start(job, driver="aa000000")
    server.finish(job)
    assert client.delete_job(job) is True
    assert job not in [info.submission_id for info in client.list_jobs()]
    with pytest.raises(RuntimeError, match="does not exist"):
        client.get_job_info(job)
    with pytest.raises(RuntimeError, match="already exists"):
        client.submit_job(entrypoint="true", submission_id=job)


def test_a_job_can_be_named_by_the_id_of_its_driver(server: JobServer, client: Any) -> None:
    job = client.submit_job(entrypoint="true")
    server.start(job, driver="bb000000")
    assert client.get_job_info("bb000000").submission_id == job
    assert client.get_job_info(job).job_id == "bb000000"
    assert client.get_job_status(job) == JobStatus.RUNNING


def test_stop_is_written_down_once_and_says_whether_there_was_anything_to_stop(server: JobServer, client: Any) -> None:
    job = client.submit_job(entrypoint="true")
    assert client.stop_job(job) is True and client.stop_job(job) is True
    asked = [entry.data for entry in server.entries(Event.JOB_STOP_ASKED) if entry.data["job"] == job]
    assert asked == [{"job": job, "by": "ada"}]
    assert "ada asked for it to be stopped" in client.get_job_info(job).message
    server.finish(job, "stopped", "Job was intentionally stopped.")
    assert client.stop_job(job) is False


# --- the queue ----------------------------------------------------------------------------------------------------


def test_an_acknowledged_submission_is_in_the_journal_and_survives_a_restart(tmp_path: Path) -> None:
    with job_server(tmp_path) as server:
        metadata = {"fabric.gpus": "2", "fabric.dataset": "slides"}
        job = server.client().submit_job(entrypoint="true", metadata=metadata, entrypoint_num_cpus=1)
        (entry,) = server.entries(Event.JOB_SUBMITTED)
        assert (entry.data["user"], entry.data["team"], entry.data["data_class"]) == ("ada", "vision", "inside")
        assert entry.data["needs"]["bundle"] == {"GPU": 2.0} and entry.once == f"job:{job}"
        server.restart()
        assert server.client().get_job_status(job) == JobStatus.PENDING


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        ({"metadata": {"fabric.gpu": "1"}}, 400, "Did you mean fabric.gpus"),
        ({"metadata": {"fabric.gpus": "many"}}, 400, "Example: fabric.gpus=8"),
        ({"metadata": {"fabric.priority": "60"}}, 400, "your team may ask for 50 at most"),
        ({"metadata": {"fabric.dataset": "slices"}}, 400, "There is no data set 'slices'"),
        ({"metadata": {"fabric.data_class": "secret"}}, 400, "There is no data class 'secret'"),
        ({"metadata": {"fabric.dataset": "slides", "fabric.data_class": "open"}}, 403, "never for a wider one"),
        ({"metadata": {"fabric.after": "nobody"}}, 400, "fabric.after names the job nobody"),
        ({"submission_id": "../../etc/passwd"}, 400, "cannot be used"),
        ({"submission_id": "train.2"}, 400, "names a later attempt"),
        ({"submission_id": "x" * 129}, 400, "1 to 128"),
        ({"runtime_env": {"working_dir": "gcs://_ray_pkg_gone.zip"}}, 400, "does not exist. Submit again"),
        ({"runtime_env": {"env_vars": {"A": 1}}}, 400, "Dict[str, str]"),
        ({"runtime_env": {"env_vars": {"FABRIC_SITES": "sky"}}}, 400, "FABRIC_SITES"),
    ],
)
def test_a_refusal_is_a_sentence_and_a_journal_entry(tmp_path: Path, body: Any, status: int, word: str) -> None:
    with job_server(tmp_path) as server:
        answered, text = refused(server, {**SUBMITTED, **body})
        (entry,) = server.entries(Event.JOB_REJECTED)
        assert server.entries(Event.JOB_SUBMITTED) == []
    assert answered == status and word in text
    assert entry.data["sentence"] == text and entry.data["user"] == "ada" and entry.data["team"] == "vision"


def test_a_flood_of_refusals_is_one_entry_a_minute(server: JobServer) -> None:
    before = len(server.entries(Event.JOB_REJECTED))
    for _ in range(20):
        assert refused(server, {"entrypoint": 1}, "ben")[0] == 400
    assert len(server.entries(Event.JOB_REJECTED)) <= before + 1


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'"text"', b"[" * 9000, b"\xff\xfe", b'{"entrypoint": "a", "entrypoint_num_cpus": 1e999}',
     b'{"entrypoint": "\\ud800"}', b'{"entrypoint": "a", "entrypoint_num_gpus": NaN}',
     b'{"entrypoint": "a", "entrypoint_memory": 1' + b"0" * 5000 + b"}"],
)  # fmt: skip
def test_what_is_not_json_is_a_400_with_a_sentence(server: JobServer, body: bytes) -> None:
    status, text = refused(server, body)
    assert status == 400 and text.endswith(".")


def test_a_large_body_is_a_413(server: JobServer) -> None:
    status, text = refused(server, {"entrypoint": "x" * 70_000})
    assert status == 413 and "access.body" in text


def test_a_team_may_have_only_so_many_jobs_waiting(tmp_path: Path) -> None:
    with job_server(tmp_path, waiting=3) as server:
        answers: list[int] = []
        submit = [threading.Thread(target=lambda: answers.append(refused(server, SUBMITTED)[0])) for _ in range(12)]
        for thread in submit:
            thread.start()
        for thread in submit:
            thread.join()
        assert sorted(answers) == [200] * 3 + [429] * 9
        assert refused(server, SUBMITTED, "ben")[0] == 200
        job = server.entries(Event.JOB_SUBMITTED)[0].data["job"]
        server.start(job)
        assert refused(server, SUBMITTED)[0] == 200


# --- identity -----------------------------------------------------------------------------------------------------


def test_without_a_token_the_command_line_shows_the_sentence(server: JobServer) -> None:
    server.tokens["nobody"] = "fab_0000_wrong"
    done = server.ray("list", user="nobody")
    assert done.returncode == 1
    assert "Authentication required: This token is not known to this fabric" in done.stdout + done.stderr


def test_what_a_class_refuses_the_command_line_shows(server: JobServer) -> None:
    arguments = ("--no-wait", "--metadata-json", '{"fabric.data_class": "open"}', "--", "true")
    done = server.ray("submit", *arguments, user="ben")
    assert done.returncode == 1 and "The job asks for data class open" in done.stdout + done.stderr


def test_jobs_of_another_team_are_as_unknown_as_jobs_that_do_not_exist(server: JobServer) -> None:
    job = server.client("ben").submit_job(entrypoint="true")
    routes = [("GET", ""), ("DELETE", ""), ("GET", "/logs"), ("POST", "/stop")]
    with server.http("ada") as http:
        theirs = [http.request(method, f"/api/jobs/{job}{route}") for method, route in routes]
        nobodys = [http.request(method, f"/api/jobs/raysubmit_x{route}") for method, route in routes]
        assert [answer.status_code for answer in theirs] == [404] * 4
        assert [answer.text.replace(job, "raysubmit_x") for answer in theirs] == [answer.text for answer in nobodys]
        assert job not in http.get("/api/jobs/").text


def test_operators_see_and_stop_every_job_and_auditors_only_see(server: JobServer) -> None:
    env = {"env_vars": {"SECRET": "hush"}}
    job = server.client("ben").submit_job(entrypoint="true", runtime_env=env)
    assert server.client("ops").get_job_info(job).runtime_env == {"env_vars": {"SECRET": "<redacted>"}}
    assert server.client("ben").get_job_info(job).runtime_env == env
    with server.http("eve") as http:
        assert http.get(f"/api/jobs/{job}").status_code == 200
        assert http.post(f"/api/jobs/{job}/stop").status_code == 403
        assert http.post("/api/jobs/", json=SUBMITTED).status_code == 403
        assert http.put("/api/packages/gcs/a.zip", content=b"x").status_code == 403
    assert server.client("ops").stop_job(job) is True


def test_too_many_requests_are_told_when_to_come_again(tmp_path: Path) -> None:
    with job_server(tmp_path, rate=0.1, burst=3) as server, server.http() as http:
        answers = [http.get("/api/jobs/") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert int(answers[3].headers["retry-after"]) in (9, 10)


def test_the_token_may_come_in_the_header_that_ray_uses_behind_proxies(server: JobServer) -> None:
    with server.http() as http:
        token = http.headers.pop("authorization")
        assert http.get("/api/version", headers={"X-Ray-Authorization": token}).status_code == 200
        assert http.get("/api/version", headers={"Cookie": f"ray-authentication-token={token[7:]}"}).status_code == 401


# --- code ---------------------------------------------------------------------------------------------------------


def test_a_working_dir_and_py_modules_are_uploaded_once_and_named_by_their_content(
    server: JobServer, tmp_path: Path
) -> None:
    work, module = tmp_path / "work", tmp_path / "module"
    for folder in (work, module):
        folder.mkdir()
        (folder / "code.py").write_text(f"print({folder.name!r})")
    wheel = tmp_path / "pip_install_test-0.5-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("pip_install_test/__init__.py", "")
    env = {"working_dir": str(work), "py_modules": [str(module), str(wheel)]}
    jobs = [server.client().submit_job(entrypoint="true", runtime_env=dict(env)) for _ in range(2)]
    first, second = (entry.data for entry in server.entries(Event.JOB_SUBMITTED) if entry.data["job"] in jobs)
    assert first["code"] == second["code"] and len(first["code"]) == 3
    shown = server.client().get_job_info(jobs[0]).runtime_env
    assert {shown["working_dir"], *shown["py_modules"]} == set(first["code"])
    for uri, digest in first["code"].items():
        path = server.state / "packages" / uri.removeprefix("gcs://")
        assert digest in uri and path.exists()
    assert shown["py_modules"][1].startswith("gcs://pip_install_test-0.5-0")


def test_a_name_leads_each_team_to_what_it_uploaded_itself(server: JobServer, tmp_path: Path) -> None:
    def archive(text: str) -> bytes:
        path = tmp_path / "x.zip"
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("main.py", text)
        return path.read_bytes()

    name = "/api/packages/gcs/_ray_pkg_0123456789abcdef.zip"
    env = {"working_dir": "gcs://_ray_pkg_0123456789abcdef.zip"}
    with server.http("ada") as ada, server.http("ben") as ben:
        assert ada.put(name, content=archive("good")).status_code == 200
        assert ben.get(name).status_code == 404
        assert ben.put(name, content=archive("evil")).status_code == 200
        jobs = [http.post("/api/jobs/", json={**SUBMITTED, "runtime_env": env}).json() for http in (ada, ben)]
    uris = [server.client("ops").get_job_info(job["submission_id"]).runtime_env["working_dir"] for job in jobs]
    assert uris[0] != uris[1]


# --- the command line ---------------------------------------------------------------------------------------------


def test_the_command_line_follows_a_job_over_queue_and_attempts_to_its_end(server: JobServer) -> None:
    job = "followed"

    def controller() -> None:
        wait_until(lambda: server.api.register.known(job), what="the submission")
        server.start(job, driver="cc000000")
        server.printed(job, "first half\n")
        server.end_attempt(job)
        server.start(job, 2, driver="cd000000")
        server.printed(job, "second half é\n", 2)
        server.end_attempt(job, 2, "failed", "Job entrypoint command failed with exit code 3.")
        server.finish(job, "failed", "Job entrypoint command failed with exit code 3.")

    thread = threading.Thread(target=controller)
    thread.start()
    done = server.ray("submit", "--submission-id", job, "--", "python", "train.py")
    thread.join()
    assert done.returncode == 1, done.stderr
    begins = "[fabric: attempt 2 begins; attempt 1 was lost: The node a was lost.]"
    assert f"first half\n{begins}\nsecond half é\n" in done.stdout
    assert "failed with exit code 3" in done.stdout + done.stderr
    logs = server.ray("logs", job)
    assert logs.returncode == 0 and f"first half\n{begins}\nsecond half é\n" in logs.stdout


def test_the_verbs_of_the_command_line_work_with_headers_instead_of_a_token(server: JobServer) -> None:
    job = server.client().submit_job(entrypoint="true", submission_id="by-header")
    environment = server.environment("ada")
    environment["RAY_JOB_HEADERS"] = json.dumps({"Authorization": f"Bearer {environment.pop('RAY_AUTH_TOKEN')}"})
    environment["RAY_AUTH_MODE"] = "disabled"
    server.environment = lambda _user: environment  # type: ignore[method-assign]
    try:
        status, stop = server.ray("status", job), server.ray("stop", "--no-wait", job)
    finally:
        del server.environment
    assert status.returncode == 0 and f"Status for job '{job}': PENDING" in status.stdout
    assert stop.returncode == 0 and f"Attempting to stop job '{job}'" in stop.stdout


def test_the_command_line_verifies_the_gateways_own_certificate(tmp_path: Path) -> None:
    with job_server(tmp_path, tls=True) as server:
        assert server.certificate is not None
        verify = ("--verify", str(server.certificate.certificate))
        submitted = server.ray("submit", *verify, "--no-wait", "--submission-id", "safe", "--", "true")
        server.start("safe")
        server.printed("safe", "over TLS\n")
        server.finish("safe")
        logs = server.ray("logs", *verify, "--follow", "safe")
    assert submitted.returncode == 0, submitted.stderr
    assert logs.returncode == 0 and "over TLS" in logs.stdout, logs.stderr


async def _handshake(url: str, token: str) -> int:
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
        try:
            async with session.ws_connect(url):
                return 101
        except aiohttp.WSServerHandshakeError as error:
            return error.status


def test_a_tail_of_an_unknown_job_or_for_an_unknown_caller_is_refused_before_it_begins(server: JobServer) -> None:
    import asyncio

    url = f"{server.url}/api/jobs/raysubmit_nobody/logs/tail"
    assert asyncio.run(_handshake(url, server.tokens["ada"])) == 404
    assert asyncio.run(_handshake(url, "wrong")) == 401
