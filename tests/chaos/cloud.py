"""A sandbox cloud that several fabrics of a test module share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx

from tests.chaos.bench import CONFIG, ROOT
from tests.conftest import wait_until


class Cloud:
    """A sandbox server of its own configuration; ``kill`` and ``start`` it at will."""

    def __init__(self, directory: Path, port: int) -> None:
        self.port = port
        self._directory = directory
        self._path = directory / "fabric.yaml"
        ports = {"gateway": 1, "controller": 2, "reaper": 3}
        self._path.write_text(CONFIG.format(owner="cloud", sandbox=port, join="60s", grace="5s", **ports))
        self._process: subprocess.Popen[bytes] | None = None
        self._owners = 0

    def new_owner(self) -> str:
        """A name under which nobody has machines yet."""
        self._owners += 1
        return f"owner-{self._owners}"

    def clear_faults(self) -> None:
        """Every scripted fault ends."""
        assert httpx.delete(f"http://127.0.0.1:{self.port}/v1/faults", trust_env=False).status_code == 204

    def start(self) -> None:
        """Start the server and wait until it answers."""
        with (self._directory / "cloud.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "autoscaler.sandbox.main", "--config", str(self._path)],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=log,
                stderr=log,
            )
        wait_until(self._answers, 30, "an answer of the sandbox")

    def kill(self) -> None:
        """``kill -9`` of the server; its machines go on."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Switch the cloud off."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._directory / "cloud.log").read_text()
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/healthz", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False
