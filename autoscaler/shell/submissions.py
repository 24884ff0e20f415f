"""What Ray is given to start an attempt: the dressed submission, and the code that it names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from autoscaler.boot.trust import guard_key_file
from autoscaler.shell.ray_jobs import RayJobs
from fabric.admission.records import Attempt, JobRecord
from fabric.config.schema import Config
from fabric.gateway.jobs.sealed import Seal
from fabric.sovereignty.badge import badge
from fabric.sovereignty.dress import ray_submission

PACKAGES = "packages"
_GCS = "gcs://"


class Submissions:
    """Makes submissions under the configuration in force.

    Args:
        config: the configuration in force.
        ray: Ray's packages.
    """

    def __init__(self, config: Callable[[], Config], ray: RayJobs) -> None:
        self._config = config
        self._ray = ray

    def body(self, record: JobRecord, attempt: Attempt) -> Mapping[str, Any]:
        """The body for Ray's submit call.

        Raises:
            ValueError: it must not be started: by now the configuration allows none of the sites it was admitted to,
                or what the user sent cannot be opened.
        """
        config = self._config()
        seal = Seal(Path(config.fabric.state))
        request = replace(record.request, submission=seal.open(record.request.submission))
        return ray_submission(
            request, attempt.number, frozenset(attempt.sites), config, self.badge(request.job, attempt.number)
        )

    def badge(self, job: str, attempt: int) -> str:
        """Proof that an attempt was admitted, which the job carries."""
        key = guard_key_file(Path(self._config().fabric.state)).read_bytes()
        return badge(key, job, attempt)

    def bring_code(self, body: Mapping[str, Any]) -> None:
        """Have Ray hold every uploaded package that a submission names. A head that was replaced has none of them.

        Raises:
            RayRefusedError: a package is gone here, too.
            RayUnreachableError: Ray does not answer.
        """
        folder = Path(self._config().fabric.state) / PACKAGES
        for name in _packages(body.get("runtime_env") or {}):
            self._ray.ensure_package(name, folder / name)


def _packages(runtime_env: Mapping[str, Any]) -> Iterator[str]:
    for uri in (runtime_env.get("working_dir"), *(runtime_env.get("py_modules") or ())):
        if isinstance(uri, str) and uri.startswith(_GCS):
            yield uri.removeprefix(_GCS)
