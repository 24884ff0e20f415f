"""The fixture ``cloud``: every test that asks for it runs on each cloud there is (``clouds.py`` lists them)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.conftest import wait_until
from tests.contract.clouds import CLOUDS, Cloud, serve


@pytest.fixture(scope="session")
def open_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Cloud]]:
    """A fresh hand on a cloud by its kind; its server is started when the first test wants it."""
    makers: dict[str, Callable[[], Cloud]] = {}
    with ExitStack() as servers:

        def make(kind: str) -> Cloud:
            if kind not in makers:
                makers[kind] = servers.enter_context(serve(kind, tmp_path_factory.mktemp(kind)))
            return makers[kind]()

        yield make


@pytest.fixture(params=list(CLOUDS))
def cloud(request: pytest.FixtureRequest, open_cloud: Callable[[str], Cloud]) -> Iterator[Cloud]:
    """Each cloud in turn; after the test its faults are cleared, its owner's instances ended, and nothing is left."""
    cloud = open_cloud(request.param)
    yield cloud
    cloud.clear()
    provider = cloud.provider()
    provider.terminate([instance.instance_id for instance in provider.list()])
    wait_until(lambda: not cloud.leftovers(), what="the end of everything beside instances")
