"""Ray's own Jobs API, packages and state API over HTTP, as one thread of ours needs them.

One call is one connection, so that "is this still the same cluster?" and "start this job" are put to the same process:
a head that was replaced in between breaks the connection instead of taking the job a second time.

Protocol: Ray 2.60, ``ray/dashboard/modules/job/job_head.py`` and ``ray/dashboard/modules/state/state_head.py``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from fabric.sovereignty.badge import BADGE

_TIMEOUT_S = 20.0
_UPLOAD_TIMEOUT_S = 120.0
# Ray's own limit on what one call of the state API gives (RAY_MAX_LIMIT_FROM_API_SERVER).
STATE_ROWS = 10_000


class RayUnreachableError(Exception):
    """Ray gave no answer, or none that settles anything: what was asked may have happened or not."""


class RayRefusedError(Exception):
    """Ray looked at what was asked and does not do it. The sentence is Ray's own."""


class OtherClusterError(Exception):
    """The head that answers is not the one an attempt was admitted to; it was not asked to run it."""


@dataclass(frozen=True, slots=True)
class RayJob:
    """One job as Ray tells of it.

    Attributes:
        status: Ray's ``JobStatus``.
        message: Ray's sentence.
        error_type: Ray's ``JobErrorType``; ``""`` for none.
        ray_job_id: hex id of the driver's Ray job; ``""`` while it has not called ``ray.init``.
        exit_code: of the driver; None while it has none.
        driver_node: Ray node id of the driver; ``""`` while unknown.
        ended_at: Unix seconds; None while it goes on.
        badge: what the job was dressed with; ``""`` for a job that is not ours.
    """

    status: str
    message: str
    error_type: str
    ray_job_id: str
    exit_code: int | None
    driver_node: str
    ended_at: float | None
    badge: str

    @property
    def is_over(self) -> bool:
        """Whether Ray will not change it any more."""
        return self.status in ("SUCCEEDED", "FAILED", "STOPPED")


class RayJobs:
    """Ray's dashboard, as seen by the controller. Safe to use from several threads.

    Args:
        address: ``host:port`` of the dashboard, asked for at each call.
        token: file with the cluster token.
    """

    def __init__(self, address: Callable[[], str], token: Path) -> None:
        self._address = address
        self._token = token

    def session(self) -> str:
        """Name of the cluster's session: another one after the head was started anew without its state.

        Raises:
            RayUnreachableError: the dashboard does not answer.
        """
        with self._line() as line:
            return _session(line)

    def submit(self, body: Mapping[str, Any], session: str) -> None:
        """Start a job, on the cluster with this session only.

        Raises:
            OtherClusterError: another cluster answers; it was not asked.
            RayRefusedError: Ray does not take it, or has a job of this id.
            RayUnreachableError: it is not known whether Ray took it.
        """
        with self._line() as line:
            found = _session(line)
            if found != session:
                raise OtherClusterError(f"the Ray head was replaced: its session is {found}, no longer {session}")
            line.send("POST", "/api/jobs/", json.dumps(body).encode())

    def info(self, ray_id: str) -> RayJob | None:
        """What Ray says of a job; None when it knows none of this id.

        Raises:
            RayUnreachableError: the dashboard does not answer.
        """
        with self._line() as line:
            found = line.find("GET", f"/api/jobs/{quote(ray_id, safe='')}")
        return None if found is None else _ray_job(json.loads(found))

    def stop(self, ray_id: str) -> bool:
        """Ask Ray to stop a job; False when it knows none of this id. Ray answers before it has stopped.

        Raises:
            RayUnreachableError: the dashboard does not answer.
        """
        with self._line() as line:
            return line.find("POST", f"/api/jobs/{quote(ray_id, safe='')}/stop") is not None

    def log(self, ray_id: str) -> str | None:
        """All that the driver printed; None when Ray knows no job of this id. Ray reads the file as a whole.

        Raises:
            RayRefusedError: Ray cannot have it.
            RayUnreachableError: the dashboard does not answer, or the driver's node does not.
        """
        with self._line() as line:
            found = line.find("GET", f"/api/jobs/{quote(ray_id, safe='')}/logs")
        return None if found is None else str(json.loads(found)["logs"] or "")

    def ensure_package(self, name: str, file: Path) -> None:
        """Have Ray hold the uploaded package ``gcs://name``.

        Raises:
            RayRefusedError: nobody has it: ``file`` is gone too.
            RayUnreachableError: the dashboard does not answer.
        """
        path = f"/api/packages/gcs/{quote(name, safe='')}"
        with self._line(_UPLOAD_TIMEOUT_S) as line:
            if line.find("GET", path) is not None:
                return
            try:
                content = file.read_bytes()
            except FileNotFoundError as error:
                raise RayRefusedError(f"the package {name} was removed before the job started: submit again") from error
            line.send("PUT", path, content)

    def rows(self, table: str, job: str, *more: tuple[str, str]) -> list[dict[str, Any]]:
        """Rows of Ray's state API (``tasks``, ``actors``) of one Ray job; at most ``STATE_ROWS``.

        Raises:
            RayUnreachableError: the dashboard does not answer, or not with rows.
        """
        asked = [("job_id", job), *more]
        query: list[tuple[str, str]] = [("limit", str(STATE_ROWS)), ("detail", "1"), ("exclude_driver", "0")]
        for key, value in asked:
            query += [("filter_keys", key), ("filter_predicates", "="), ("filter_values", value)]
        with self._line() as line:
            answer = json.loads(line.send("GET", f"/api/v0/{table}?{urlencode(query)}"))
        try:
            return answer["data"]["result"]["result"]
        except (KeyError, TypeError) as error:
            raise RayUnreachableError(f"Ray's list of {table} cannot be read: {str(answer)[:200]}") from error

    @contextmanager
    def _line(self, timeout_s: float = _TIMEOUT_S) -> Iterator[_Line]:
        host, _, port = self._address().rpartition(":")
        connection = HTTPConnection(host.strip("[]"), int(port), timeout=timeout_s)
        try:
            connection.connect()
            connection.auto_open = 0  # never a second connection: it may lead to another head
            yield _Line(connection, self._token.read_text().strip())
        except (OSError, HTTPException, ValueError) as error:
            raise RayUnreachableError(f"Ray does not answer on {self._address()}: {error!r}") from error
        finally:
            connection.close()


class _Line:
    """One connection to the dashboard."""

    def __init__(self, connection: HTTPConnection, token: str) -> None:
        self._connection = connection
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def find(self, method: str, path: str) -> bytes | None:
        """What is there; None for 404."""
        code, body = self._ask(method, path, None)
        return None if code == 404 else _settled(code, body)

    def send(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """The answer to what must be there."""
        return _settled(*self._ask(method, path, body))

    def _ask(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        self._connection.request(method, path, body=body, headers=self._headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read()


def _settled(code: int, body: bytes) -> bytes:
    if code < 300:
        return body
    text = body.decode(errors="replace").strip()
    # The head passes on what its agent says: a refusal of the agent is a 500 of the head.
    if code in (400, 413, 422) or "status code 400" in text:
        raise RayRefusedError(_last_line(text))
    raise RayUnreachableError(f"Ray answered {code}: {_last_line(text)}")


def _last_line(text: str) -> str:
    """The sentence at the end of a traceback."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:2000] if lines else "no reason given"


def _session(line: _Line) -> str:
    return str(json.loads(line.send("GET", "/api/version"))["session_name"])


def _ray_job(told: Mapping[str, Any]) -> RayJob:
    variables = ((told.get("runtime_env") or {}).get("env_vars")) or {}
    return RayJob(
        status=str(told.get("status") or ""),
        message=str(told.get("message") or ""),
        error_type=str(told.get("error_type") or ""),
        ray_job_id=str(told.get("job_id") or ""),
        exit_code=told.get("driver_exit_code"),
        driver_node=str(told.get("driver_node_id") or ""),
        ended_at=told["end_time"] / 1000 if told.get("end_time") else None,
        badge=str(variables.get(BADGE) or ""),
    )
