"""Sandbox servers: one that tests share, and one for each test that kills it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandboxes import SandboxServer, unused_port


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SandboxServer]:
    """A started server; afterwards the cloud is switched off and nothing of it may be left."""
    server = SandboxServer(tmp_path, unused_port()).start()
    yield server
    assert server.stop() == 0
    assert server.processes() == []


@pytest.fixture(scope="module")
def running_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxServer]:
    """One server for all tests of a module; afterwards nothing of it may be left."""
    server = SandboxServer(tmp_path_factory.mktemp("sandbox"), unused_port()).start()
    yield server
    assert server.stop() == 0
    assert server.processes() == []


@pytest.fixture
def shared(running_server: SandboxServer) -> Iterator[SandboxServer]:
    """The shared server, with no fault standing before or after."""
    yield running_server
    running_server.clear_faults()
