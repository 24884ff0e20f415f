"""One sandbox cloud for all fast chaos tests; each test is another owner in it, and faults end with the test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.bench import Bench
from tests.chaos.cloud import Cloud
from tests.sandboxes import unused_port


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    made = Cloud(tmp_path_factory.mktemp("cloud"), unused_port())
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture
def bench(cloud: Cloud, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """A fabric of its own; ``@pytest.mark.parametrize("bench", [{...}], indirect=True)`` gives it other times."""
    made = Bench(tmp_path, cloud.port, cloud.new_owner(), **getattr(request, "param", {}))
    try:
        yield made
    finally:
        made.close()
        cloud.clear_faults()
