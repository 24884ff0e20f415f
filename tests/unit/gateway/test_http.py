"""The gateway's HTTP surface holds against what is not a node."""

from __future__ import annotations

import http.client
import json
import stat
import subprocess
import sys
import urllib.parse
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autoscaler.boot.trust import gateway_endpoint
from fabric.journal.base import JournalUnavailableError
from fabric.journal.sqlite import SqliteJournal
from fabric.model.events import Event
from tests.conftest import wait_until
from tests.unit.gateway.serving import Gateway

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ["ticket", "token", "credential", "nonce", "python", "ray", "clock", "hostname", "notice"]
MESSAGES = st.dictionaries(st.sampled_from(FIELDS), JSON).map(json.dumps)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=64) | MESSAGES.map(str.encode), path=st.sampled_from(["/v1/join", "/v1/lease"]))
def test_whatever_is_sent_the_answer_is_a_refusal_with_a_sentence(gateway: Gateway, body: bytes, path: str) -> None:
    response = gateway.http.post(path, content=body)
    assert 400 <= response.status_code < 500
    error = response.json()["error"]
    assert error["sentence"].endswith(".") and error["remedy"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[" * 9000, b'"text"', b'{"clock": NaN}', b'{"nonce": "\\ud800"}', b"\xff\xfe", b'{"clock": 1e999}'],
)
def test_malformed_json_is_a_400(gateway: Gateway, body: bytes) -> None:
    response = gateway.http.post("/v1/join", content=body)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "malformed")


def test_a_refusal_never_repeats_what_was_sent(gateway: Gateway) -> None:
    response = gateway.http.post("/v1/join", json={"ticket": "secret-ticket", "nonce": 5})
    assert response.status_code == 400 and "secret-ticket" not in response.text


def test_a_large_body_is_cut_off_also_without_a_length(gateway: Gateway) -> None:
    assert gateway.http.post("/v1/join", content=b"x" * 20_000).status_code == 413
    url = urllib.parse.urlsplit(gateway.url)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=5)
    chunks = (b"y" * 4096 for _ in range(5))
    connection.request("POST", "/v1/join", chunks, encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
    assert connection.getresponse().status == 413
    connection.close()


def test_unknown_routes_and_methods_get_a_sentence_too(gateway: Gateway) -> None:
    for response in (gateway.http.get("/v1/join"), gateway.http.get("/nothing"), gateway.http.get("/docs")):
        assert response.status_code in (404, 405)
        assert "POST /v1/join" in response.json()["error"]["remedy"]


def test_joins_and_renewals_are_counted_by_how_they_ended(gateway: Gateway) -> None:
    credential = gateway.join(ticket=gateway.intend("fab-1").text).json()["credential"]
    gateway.join(ticket="unknown")
    gateway.renew("fab-1", credential)
    gateway.renew("fab-1", "forged")
    lines = gateway.http.get("/metrics").text.splitlines()
    assert 'fabric_joins_total{result="joined"} 1.0' in lines
    assert 'fabric_joins_total{result="ticket_unknown"} 1.0' in lines
    assert 'fabric_lease_renewals_total{answer="continue"} 1.0' in lines
    assert 'fabric_lease_renewals_total{answer="credential_unknown"} 1.0' in lines


def test_while_the_journal_is_away_nothing_is_granted_and_nodes_may_ask_again(tmp_path: Path) -> None:
    class Away(SqliteJournal):
        def append(self, _drafts):
            raise JournalUnavailableError("disk full")

    journal = Away(tmp_path / "state" / "journal.db", "gateway")
    gateway = Gateway(tmp_path, journal=journal)
    try:
        ticket = gateway.intend("fab-1")
        response = gateway.join(ticket=ticket.text)
        assert (response.status_code, response.json()["error"]["code"]) == (503, "journal_unavailable")
        assert gateway.entries(Event.NODE_JOINED) == []
    finally:
        gateway.close()
        journal.close()


def test_the_process_serves_https_off_loopback_with_the_certificate_nodes_pin(tmp_path: Path, free_port) -> None:
    listen = f"0.0.0.0:{free_port()}"
    config = tmp_path / "fabric.yaml"
    config.write_text(
        f"listen: {{gateway: '{listen}', controller: '127.0.0.1:{free_port()}'}}\n"
        "sites: {home: {kind: onprem, node_types: {box: {nodes: [one], cpus: 1}}}}\n"
        "burst: {baseline: [{gpus: 1, for: 0s}]}\n"
    )
    log = tmp_path / "gateway.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "fabric.gateway.main", "--config", str(config)], stderr=stream, stdout=stream
        )
    try:
        endpoint = gateway_endpoint(tmp_path / "state", listen, advertise="127.0.0.1")
        assert endpoint.url == f"https://127.0.0.1:{listen.rpartition(':')[2]}"

        def healthy() -> object:
            try:
                return httpx.get(f"{endpoint.url}/healthz", verify=False, trust_env=False).json()["ok"]
            except httpx.TransportError:
                return None

        wait_until(healthy, what="the gateway's health")
        secrets = tmp_path / "state" / "secrets"
        assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in secrets.iterdir()}
        made = ("cluster.token", "gateway.crt", "gateway.key", "guard.key", "lease.key", "submissions.key")
        assert modes == dict.fromkeys(made, 0o600)
    finally:
        process.terminate()
        code = process.wait(timeout=10)
    assert code == 0, log.read_text()


def test_a_bad_configuration_ends_the_process_with_its_problems(tmp_path: Path) -> None:
    config = tmp_path / "fabric.yaml"
    config.write_text("sites: {}\n")
    done = subprocess.run(
        [sys.executable, "-m", "fabric.gateway.main", "--config", str(config)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert f"{config}:1:1:" in done.stderr
