"""The Jobs API when things go wrong: malformed requests, a locked journal, a full disk, slow and dead readers."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import sqlite3
import threading
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from fabric.journal.base import Draft, Entry, JournalUnavailableError
from fabric.journal.sqlite import SqliteJournal
from fabric.model.events import Event
from tests.bench.malformed import run
from tests.conftest import wait_until
from tests.job_servers import job_server


def test_malformed_requests_get_clear_refusals_and_nothing_is_lost(tmp_path: Path) -> None:
    with job_server(tmp_path, waiting=100_000) as server:
        report = run(server, 150, seed=7)
    assert report.requests >= 150
    assert report.wrong == []


class Full(SqliteJournal):
    """A journal whose disk is full while ``full`` is set."""

    full = False

    def append(self, drafts: Sequence[Draft]) -> list[Entry]:
        if self.full:
            raise JournalUnavailableError("database or disk is full")
        return super().append(drafts)


def test_a_journal_on_a_full_disk_is_a_503_and_nothing_is_taken_in_halfway(tmp_path: Path) -> None:
    journal = Full(tmp_path / "state" / "journal.db", "test")
    with job_server(tmp_path, journal=journal) as server, server.http() as http:
        job = http.post("/api/jobs/", json={"entrypoint": "true"}).json()["submission_id"]
        journal.full = True
        answers = [
            http.post("/api/jobs/", json={"entrypoint": "true", "submission_id": "later"}),
            http.post(f"/api/jobs/{job}/stop"),
            http.post("/api/jobs/", json={"entrypoint": 5}),
        ]
        assert [answer.status_code for answer in answers] == [503] * 3
        assert all(answer.text.startswith("The journal cannot be used now.") for answer in answers)
        assert http.get(f"/api/jobs/{job}").json()["status"] == "PENDING"
        journal.full = False
        again = http.post("/api/jobs/", json={"entrypoint": "true", "submission_id": "later"})
        assert again.status_code == 200
        assert [entry.data["job"] for entry in server.entries(Event.JOB_SUBMITTED)] == [job, "later"]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process in the middle of a write that does not end."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


def test_a_journal_that_another_process_locks_is_a_503_while_status_is_still_answered(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "state" / "journal.db", "test", busy_s=0.5)
    with job_server(tmp_path, journal=journal) as server, server.http() as http:
        job = http.post("/api/jobs/", json={"entrypoint": "true"}).json()["submission_id"]
        with locked(journal.path):
            answers: list[int] = []

            def submit() -> None:
                with server.http() as own:
                    answers.append(own.post("/api/jobs/", json={"entrypoint": "true"}).status_code)

            threads = [threading.Thread(target=submit) for _ in range(4)]
            for thread in threads:
                thread.start()
            assert http.get(f"/api/jobs/{job}").json()["status"] == "PENDING"
            for thread in threads:
                thread.join()
            assert answers == [503] * 4
        assert http.post("/api/jobs/", json={"entrypoint": "true"}).status_code == 200
        assert len(server.entries(Event.JOB_SUBMITTED)) == 2 and server.journal.verify() is None


def test_what_another_process_writes_is_shown_within_a_second(tmp_path: Path) -> None:
    with job_server(tmp_path) as server, server.http() as http:
        job = http.post("/api/jobs/", json={"entrypoint": "true"}).json()["submission_id"]
        other = SqliteJournal(tmp_path / "state" / "journal.db", "controller")
        other.append([Draft(Event.JOB_FINISHED, {"job": job, "phase": "failed", "message": "It cannot run."})])
        other.close()
        wait_until(lambda: http.get(f"/api/jobs/{job}").json()["status"] == "FAILED", timeout=1.0, what="the news")
        assert http.get(f"/api/jobs/{job}").json()["message"] == "It cannot run."


def test_pollers_of_status_do_not_keep_submissions_from_being_taken_in(tmp_path: Path) -> None:
    with job_server(tmp_path, rate=1e5, burst=100_000) as server:
        job = server.client().submit_job(entrypoint="true")
        codes: list[int] = []

        async def load() -> None:
            headers = {"Authorization": f"Bearer {server.tokens['ada']}"}
            connector = aiohttp.TCPConnector(limit=0)
            async with aiohttp.ClientSession(server.url, headers=headers, connector=connector) as session:

                async def poll() -> None:
                    async with session.get(f"/api/jobs/{job}") as answer:
                        codes.append(answer.status)

                async def submit() -> None:
                    async with session.post("/api/jobs/", json={"entrypoint": "true"}) as answer:
                        codes.append(answer.status)

                await asyncio.gather(*(poll() for _ in range(300)), *(submit() for _ in range(50)))

        asyncio.run(load())
        assert codes == [200] * 350
        assert len(server.entries(Event.JOB_SUBMITTED)) == 51


def test_a_reader_that_stops_reading_holds_up_nobody(tmp_path: Path) -> None:
    with job_server(tmp_path) as server:
        job = server.client().submit_job(entrypoint="true")
        server.start(job)
        server.printed(job, "x" * 1000 + "\n")

        async def read_one_line_then_sleep() -> str:
            headers = {"Authorization": f"Bearer {server.tokens['ada']}"}
            url = f"{server.url}/api/jobs/{job}/logs/tail"
            async with aiohttp.ClientSession(headers=headers) as session, session.ws_connect(url) as socket:
                first = await socket.receive_str()
                server.printed(job, ("y" * 1000 + "\n") * 20_000)
                async with session.get(f"{server.url}/api/jobs/{job}") as answer:
                    assert answer.status == 200
                return first

        assert asyncio.run(read_one_line_then_sleep()).startswith("xxx")
        server.end_attempt(job, end="succeeded", message="ok")
        server.finish(job)


# Ray's own client passes an argument that its HTTP library would rather not have.
@pytest.mark.filterwarnings("ignore:ssl=None is deprecated:DeprecationWarning")
def test_a_large_log_is_followed_to_its_last_byte(tmp_path: Path) -> None:
    with job_server(tmp_path) as server:
        job = server.client().submit_job(entrypoint="true")
        server.start(job)
        text = "".join(f"line {number} é\n" for number in range(30_000))
        server.printed(job, text)
        server.end_attempt(job, end="succeeded", message="ok")
        server.finish(job)

        async def follow() -> str:
            return "".join([part async for part in server.client().tail_job_logs(job)])

        assert asyncio.run(follow()) == text == server.client().get_job_logs(job)


def test_a_body_that_breaks_off_stores_nothing(tmp_path: Path) -> None:
    with job_server(tmp_path) as server:
        url = urllib.parse.urlsplit(server.url)
        for method, path in (("POST", "/api/jobs/"), ("PUT", "/api/packages/gcs/a.zip")):
            connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=5)
            connection.putrequest(method, path)
            connection.putheader("Authorization", f"Bearer {server.tokens['ada']}")
            connection.putheader("Content-Length", "1000")
            connection.endheaders()
            connection.send(b'{"entrypoint": "true"')
            connection.close()
        packages = server.state / "packages"
        wait_until(lambda: not list(packages.glob("*.part")), what="the removal of the broken upload")
        assert server.client().list_jobs() == [] and server.entries(Event.JOB_SUBMITTED) == []


class Controller:
    """Answers ``GET /queue`` as the controller does."""

    def __init__(self, sentences: dict[str, str]) -> None:
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

        waiting = [{"job": job, "sentence": sentence} for job, sentence in sentences.items()]
        page = json.dumps({"counts": {"waiting": len(waiting)}, "waiting": waiting}).encode()

        class _Pages(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(page)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Pages)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def test_a_waiting_job_says_what_the_queue_says_and_when_the_controller_is_silent(tmp_path: Path) -> None:
    said = "It is 1st of 3 and waits for 2 GPUs at home; it would start at 14:05."
    controller = Controller({"w": said})
    with job_server(tmp_path, controller=controller.port) as server:
        client = server.client()
        client.submit_job(entrypoint="true", submission_id="w")
        wait_until(lambda: client.get_job_info("w").message == f"Job has not started yet. {said}", what="the sentence")
        controller.close()
        silent = "The controller does not answer now; the job keeps its place in the queue."
        wait_until(lambda: client.get_job_info("w").message.endswith(silent), what="the silence", timeout=10)


@pytest.mark.parametrize("user", ["ada", "eve"])
def test_rays_dashboard_is_for_operators_and_auditors(tmp_path: Path, user: str) -> None:
    with job_server(tmp_path) as server, server.http(user) as http:
        answers = [
            http.get(path) for path in ("/dashboard/", "/dashboard/api/v0/nodes", "/dashboard/static/js/main.js")
        ]
        if user == "ada":
            assert [answer.status_code for answer in answers] == [403] * 3
            assert answers[0].text.startswith("Ray's dashboard shows the work of every team")
        else:
            # Ray itself is not there.
            assert [answer.status_code for answer in answers] == [503] * 3
        paths = ("/dashboard/api/jobs/", "/dashboard/api/serve/applications/")
        assert [http.post(path, json={"entrypoint": "true"}).status_code for path in paths] == [405, 405]
        for path in (
            "/dashboard/api/actors/kill",
            "/dashboard/static/../api/packages/x",
            "/dashboard/%2e%2e/api/jobs/",
        ):
            assert http.get(path).status_code in (403, 404)


def test_the_dashboards_log_in_keeps_the_token_in_a_cookie_for_the_dashboard_alone(tmp_path: Path) -> None:
    with job_server(tmp_path) as server, server.http("ops") as http:
        answer = http.post("/dashboard/api/authenticate")
        cookie = answer.headers["set-cookie"]
        assert answer.status_code == 200
        assert "HttpOnly" in cookie and "Path=/dashboard" in cookie and "SameSite=strict" in cookie
        del http.headers["authorization"]
        assert http.get("/dashboard/api/authentication_mode").json() == {"authentication_mode": "token"}
        assert http.get("/dashboard/api/v0/nodes").status_code == 503
        http.cookies.clear()
        assert http.get("/dashboard/api/v0/nodes").status_code == 401
