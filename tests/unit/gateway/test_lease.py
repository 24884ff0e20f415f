"""Leases: who gets more time, how much, and who has to end."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric.gateway.book import Book
from fabric.gateway.lease import ControllerWatch, Leases
from fabric.journal.base import Draft
from fabric.journal.sqlite import SqliteJournal
from fabric.model.events import Event
from tests.conftest import wait_until
from tests.unit.gateway.serving import LEASE_S, Gateway


def joined(gateway: Gateway, token: str = "fab-1", market: str = "spot") -> str:
    return gateway.join(ticket=gateway.intend(token, market=market).text).json()["credential"]


def test_a_renewal_is_in_the_journal_before_it_is_answered(gateway: Gateway) -> None:
    credential = joined(gateway)
    answer = gateway.renew("fab-1", credential).json()
    assert answer["action"] == "continue"
    (renewed,) = gateway.entries(Event.LEASE_RENEWED)
    assert renewed.data["until"] >= time.time() + answer["lease_s"] - 5


def test_all_rented_machines_are_gone_one_lease_after_the_controller_died(gateway: Gateway) -> None:
    rented, owned = joined(gateway), joined(gateway, "onprem/home/a", "owned")
    gateway.controller_silent_s = LEASE_S - 30
    assert gateway.renew("fab-1", rented).json()["lease_s"] == pytest.approx(30, abs=1)
    gateway.controller_silent_s = LEASE_S + 1
    assert gateway.renew("fab-1", rented).status_code == 503
    gateway.controller_silent_s = None
    assert gateway.renew("fab-1", rented).status_code == 503
    assert gateway.renew("onprem/home/a", owned).json()["lease_s"] == LEASE_S


def test_a_machine_whose_end_is_intended_is_told_to_end(gateway: Gateway) -> None:
    credential = joined(gateway)
    gateway.end("fab-1")
    answer = gateway.renew("fab-1", credential)
    assert (answer.status_code, answer.json()["error"]["code"]) == (410, "launch_ended")
    assert gateway.entries(Event.LEASE_RENEWED) == []


def test_a_foreign_credential_renews_nothing(gateway: Gateway) -> None:
    credential = joined(gateway)
    gateway.intend("fab-2")
    assert gateway.renew("fab-2", credential).status_code == 401
    assert gateway.renew("fab-3", gateway.credentials.of("fab-3")).status_code == 401
    assert gateway.entries(Event.LEASE_RENEWED) == []


def test_a_spot_notice_is_written_once_however_often_it_is_told(gateway: Gateway) -> None:
    credential = joined(gateway)
    reclaim_at = time.time() + 120
    for _ in range(3):
        assert gateway.renew("fab-1", credential, notice={"reclaim_at": reclaim_at}).status_code == 200
    (noticed,) = gateway.entries(Event.SPOT_NOTICE)
    assert noticed.data == {"token": "fab-1", "reclaim_at": reclaim_at}


def test_a_second_gateway_on_the_same_state_knows_the_first_ones_nodes(gateway: Gateway) -> None:
    credential = joined(gateway)
    second = Gateway(gateway.state.parent)
    try:
        assert second.renew("fab-1", credential).status_code == 200
        gateway.end("fab-1")
        assert second.renew("fab-1", credential).status_code == 410
    finally:
        second.close()


@given(
    seen=st.one_of(st.none(), st.floats(0, 2e9)),
    now=st.floats(0, 2e9),
    lease_s=st.floats(1, 1e5),
)
def test_a_rented_machine_never_outlives_one_lease_after_the_last_sign_of_life(
    seen: float | None, now: float, lease_s: float
) -> None:
    left_s = Leases(lambda: lease_s, lambda: seen).left_s(False, now)
    assert left_s <= lease_s + 1e-3
    if seen is None:
        assert left_s == 0
    else:
        assert now + left_s <= seen + lease_s + 1e-3


class Controller:
    """Answers /healthz with whatever the test says."""

    def __init__(self) -> None:
        self.answer: Any = {"last_tick": 1000.0}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps(outer.answer).encode())

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/healthz"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def controller() -> Iterator[Controller]:
    controller = Controller()
    yield controller
    controller.server.shutdown()
    controller.server.server_close()


def test_the_controller_is_alive_by_its_health_page_or_by_what_it_writes(
    tmp_path: Path, controller: Controller
) -> None:
    journal = SqliteJournal(tmp_path / "journal.db", "controller", clock=lambda: 2000.0)
    book = Book(journal)
    watch = ControllerWatch(controller.url, book, lease_s=12.0)
    assert watch.seen_at() is None
    watch.start()
    try:
        wait_until(lambda: watch.seen_at() == 1000.0, what="the first look")
        for nonsense in ({"last_tick": None}, {"last_tick": True}, ["no"], {}):
            controller.answer = nonsense
        controller.answer = {"last_tick": 1500.0}
        wait_until(lambda: watch.seen_at() == 1500.0, what="the second look")
        journal.append([Draft(Event.FABRIC_STARTED, {"process": "controller"})])
        book.refresh()
        assert watch.seen_at() == 2000.0
    finally:
        watch.stop()
        journal.close()
