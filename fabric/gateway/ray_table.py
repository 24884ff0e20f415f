"""What Ray itself says of a Ray job: read by a child process, because Ray's client may end the process it lives in."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

_KEPT = 4096
_PAUSE_S = 2.0


class RayTableError(Exception):
    """Ray's table of jobs cannot be read now: nothing is known of any Ray job."""


@dataclass(frozen=True, slots=True)
class RayJobRow:
    """One Ray job, as its driver registered it.

    Attributes:
        submission: the submission id in its metadata; ``""`` for a driver nobody submitted.
        env_vars: environment variables of its runtime environment.
        namespace: its Ray namespace.
    """

    submission: str = ""
    env_vars: Mapping[str, str] = field(default_factory=dict[str, str])
    namespace: str = ""


class RayJobTable(Protocol):
    """Where Ray jobs are looked up."""

    def find(self, ray_job_id: str) -> RayJobRow | None:
        """The Ray job with this hex id; None when Ray has none. Raises RayTableError."""
        ...


class HeadTable:
    """The table of the head at ``address``, through ``autoscaler.ray.job_table``. Safe to use from several threads.

    What a driver registered is kept: Ray never changes it, and if somebody does the first version counts.

    Args:
        address: ``host:port`` of the head's control store.
        token: file with the cluster token.
        timeout_s: patience for one answer, the start of the child included.
    """

    def __init__(self, address: str, token: Path, timeout_s: float = 7.0) -> None:
        self._address = address
        self._token = token
        self._timeout_s = timeout_s
        self._failed_at = float("-inf")
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._kept: OrderedDict[str, RayJobRow] = OrderedDict()

    def find(self, ray_job_id: str) -> RayJobRow | None:
        """The Ray job with this hex id; None when Ray has none.

        Raises:
            RayTableError: the head does not answer in time.
        """
        with self._lock:
            kept = self._kept.get(ray_job_id)
            if kept is not None:
                return kept
            # Whoever waited behind a question that failed must not wait as long once more.
            if time.monotonic() - self._failed_at < _PAUSE_S:
                raise RayTableError(f"the Ray head at {self._address} did not tell its jobs a moment ago")
            row = self._ask(ray_job_id)
            if row is not None:
                self._kept[ray_job_id] = row
                if len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
            return row

    def close(self) -> None:
        """End the child."""
        with self._lock:
            self._end()

    def _ask(self, ray_job_id: str) -> RayJobRow | None:
        try:
            child = self._running()
            if child.stdin is None or child.stdout is None:
                raise OSError("the child has no pipes")
            child.stdin.write(f"{ray_job_id}\n".encode())
            child.stdin.flush()
            if not select.select([child.stdout], [], [], self._timeout_s)[0]:
                raise OSError("no answer in time")
            return _row(json.loads(child.stdout.readline()))
        except (OSError, ValueError) as error:
            self._end()
            self._failed_at = time.monotonic()
            raise RayTableError(f"the Ray head at {self._address} does not tell its jobs: {error}") from error

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._child.poll() is not None:
            self._end()
            environment = {
                **os.environ,
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN_PATH": str(self._token),
            }
            environment.pop("RAY_AUTH_TOKEN", None)
            self._child = subprocess.Popen(
                [sys.executable, "-m", "autoscaler.ray.job_table", "--address", self._address],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
        return self._child

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    continue
        child.wait()


def _row(told: Any) -> RayJobRow | None:
    if told is None:
        return None
    try:
        variables = told["runtime_env"].get("env_vars") or {}
        return RayJobRow(
            submission=str(told["metadata"].get("job_submission_id") or ""),
            env_vars={str(name): str(value) for name, value in variables.items()},
            namespace=str(told["namespace"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"an answer that makes no sense: {error!r}") from error
