"""The link to the gateway: pinned before a word is said. And what a spot notice looks like."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from autoscaler.boot.link import GatewayLink, UnreachableError, WrongCertificateError
from autoscaler.boot.spot import read_notice, reclaim_time
from fabric.model.events import Event
from tests.unit.gateway.serving import OURS, Gateway


def test_the_right_certificate_is_enough_no_authority_is_asked(https: Gateway) -> None:
    ticket = https.intend("fab-1")
    message = {
        "ticket": ticket.text,
        "nonce": "n",
        "python": OURS.python,
        "ray": OURS.ray,
        "clock": https.now(),
        "hostname": "box",
    }
    assert GatewayLink(https.url, https.fingerprint.upper()).post("/v1/join", message).status == 200


@pytest.mark.parametrize("fingerprint", ["0" * 64, ""])
def test_nothing_is_sent_to_a_server_with_another_certificate(https: Gateway, fingerprint: str) -> None:
    with pytest.raises(WrongCertificateError, match="nothing was sent"):
        GatewayLink(https.url, fingerprint).post("/v1/join", {"ticket": https.intend("fab-1").text})
    assert https.entries(Event.JOIN_REFUSED) == []
    assert "fabric_joins_total" not in https.http.get("/metrics").text


@pytest.fixture
def talker() -> Iterator[Any]:
    """A server that answers everything with ``status`` and ``body``, and remembers the paths."""

    class Handler(BaseHTTPRequestHandler):
        status, body, paths = 200, b"{}", []

        def do_GET(self) -> None:
            self.paths.append(self.path)
            self.send_response(Handler.status)
            self.end_headers()
            self.wfile.write(Handler.body)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    Handler.url = f"http://127.0.0.1:{server.server_port}"
    yield Handler
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"\xff"])
def test_an_answer_that_is_no_gateways_counts_as_none(talker: Any, body: bytes) -> None:
    talker.body = body
    with pytest.raises(UnreachableError):
        GatewayLink(talker.url, "").post("/v1/join", {})


def test_nobody_at_the_address_counts_as_no_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    with pytest.raises(UnreachableError, match="no answer from the gateway"):
        GatewayLink(f"http://127.0.0.1:{port}", "").post("/v1/join", {})


def test_a_notice_is_looked_for_below_the_metadata_url(talker: Any) -> None:
    talker.body = json.dumps({"reclaim_at": 1234.5}).encode()
    assert read_notice(f"{talker.url}/metadata/i-1/") == 1234.5
    assert talker.paths[-1] == "/metadata/i-1/spot"
    talker.status = 404
    assert read_notice(f"{talker.url}/metadata/i-1") is None


@pytest.mark.parametrize(
    ("told", "at"),
    [
        ({"reclaim_at": 1700000000}, 1700000000.0),
        ({"action": "terminate", "time": "2017-09-18T08:22:00Z"}, 1505722920.0),
        ({"action": "none", "time": "2017-09-18T08:22:00Z"}, None),
        ({"action": "terminate", "time": "soon"}, None),
        ({"reclaim_at": None}, None),
        ({"reclaim_at": True}, None),
        ([], None),
        (None, None),
    ],
)
def test_only_a_notice_is_a_notice(told: Any, at: float | None) -> None:
    assert reclaim_time(told) == at
