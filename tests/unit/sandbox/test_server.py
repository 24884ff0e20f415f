"""The server's manners: typed errors, clear sentences when it cannot start, pages that do not shift, a true bill."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.providers.base import InstanceState
from autoscaler.sandbox.cloud import ENDED_LISTED_MS, bill_line
from autoscaler.sandbox.errors import STATUS, ErrorCode
from autoscaler.sandbox.store import Store
from fabric.model.money import Tariff
from fabric.model.nodes import Market
from tests.conftest import wait_until
from tests.sandboxes import SandboxServer, unused_port


def refused_start(server: SandboxServer, *more: str) -> str:
    """Start a server that must refuse; its sentence."""
    done = subprocess.run(server.command(*more), capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_port_in_use_is_said_in_a_sentence(shared: SandboxServer, tmp_path: Path):
    other = SandboxServer(tmp_path, int(shared.url.rpartition(":")[2]))
    other.http.close()

    sentence = refused_start(other)
    assert "Address already in use" in sentence
    assert "end the program that has it, or change the site's `endpoint`" in sentence


def test_a_second_server_for_the_same_state_is_refused(shared: SandboxServer):
    assert "another sandbox server" in refused_start(shared)


def test_a_site_that_is_not_there_is_said_with_those_that_are(shared: SandboxServer):
    assert "no sandbox site 'sund'; sandbox sites there: sand" in refused_start(shared, "--site", "sund")


@pytest.mark.parametrize(
    ("was", "becomes", "said"),
    [
        ("endpoint: 127.0.0.1:", "endpoint: 0.0.0.0:", "loopback only"),
        ("boot: 0s", "boot: soon", "is not a duration"),
    ],
)
def test_a_configuration_it_cannot_serve_is_refused(tmp_path: Path, was: str, becomes: str, said: str):
    server = SandboxServer(tmp_path, unused_port())
    server.http.close()
    server.config.write_text(server.config.read_text().replace(was, becomes, 1))

    assert said in refused_start(server)


def test_an_edit_of_the_configuration_changes_what_is_sold_and_a_bad_one_changes_nothing(server: SandboxServer):
    def prices() -> dict[str, int]:
        return {offer["id"]: offer["per_hour_micro_usd"] for offer in server.get("/v1/offers")["offers"]}

    server.launch("old", "", node_type="slow")
    good = server.config.read_text()
    server.config.write_text(good.replace("0.35 USD/h", "0.45 USD/h").replace("zones: [a, b]", "zones: [a, b, c]"))
    wait_until(lambda: prices()["sand.slow/a/on-demand"] == 450_000, what="the new price")
    assert "sand.quick/c/spot" in prices()
    assert server.show("old")["per_hour_micro_usd"] == 350_000

    before = prices()
    server.config.write_text(good.replace("0.35 USD/h", "cheap"))
    wait_until(lambda: "config.rejected" in server.log.read_text(), what="the refusal")
    assert prices() == before


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/instances/i-none", 404, ErrorCode.INSTANCE_NOT_FOUND),
        ("/metadata/i-none", 404, ErrorCode.INSTANCE_NOT_FOUND),
        ("/v1/instances?limit=100000", 400, ErrorCode.INVALID_REQUEST),
        ("/v1/instances?page=x", 400, ErrorCode.INVALID_REQUEST),
        ("/no-such-page", 404, ErrorCode.INVALID_REQUEST),
    ],
)
def test_every_refusal_is_a_typed_error(shared: SandboxServer, path: str, status: int, code: ErrorCode):
    reply = shared.http.get(path)

    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)
    assert reply.json()["error"]["message"]


def test_a_web_page_cannot_launch_anything_through_a_browser(shared: SandboxServer):
    request = '{"token": "x", "node_type": "slow", "zone": "a", "market": "on-demand", "user_data": ""}'
    reply = shared.http.post("/v1/instances", content=request, headers={"content-type": "text/plain"})
    assert reply.status_code == 400

    rebound = shared.http.get("/v1/offers", headers={"host": "evil.example"})
    assert rebound.status_code == 400


def test_a_machine_can_read_who_it_is(shared: SandboxServer):
    instance = shared.launch("who", "", node_type="slow")
    identity = shared.get(f"/metadata/{instance['id']}")

    assert identity["instance_id"] == instance["id"]
    assert (identity["node_type"], identity["zone"], identity["market"]) == ("sand.slow", "a", "on-demand")


def test_the_api_describes_itself_with_every_call_and_every_fault(shared: SandboxServer):
    described = shared.get("/openapi.json")

    for path in ("/v1/offers", "/v1/instances", "/v1/faults", "/bill", "/metadata/{instance}/spot", "/healthz"):
        assert path in described["paths"]
    for status in STATUS.values():
        assert str(status) in described["paths"]["/v1/instances"]["post"]["responses"]


INSTANCES = st.lists(
    st.tuples(st.integers(0, 10**9), st.integers(0, 7200), st.integers(-1000, 10**8), st.booleans()), max_size=12
)


@settings(max_examples=40)
@given(instances=INSTANCES, limit=st.integers(1, 5), now_ms=st.integers(10**12, 10**12 + 10**8))
def test_pages_hold_every_listable_instance_once_in_order(
    instances: list[tuple[int, int, int, bool]], limit: int, now_ms: int
):
    store = stored(instances)
    listed, after = [], 0
    while page := store.page("me", after, limit, now_ms, now_ms - ENDED_LISTED_MS):
        assert len(page) <= limit
        listed += page
        after = page[-1].seq
    store.close()

    lately = now_ms - 10**12 - ENDED_LISTED_MS
    listable = [n for n, (_, _, lived_ms, ended) in enumerate(instances) if not ended or lived_ms >= lately]
    assert [record.id for record in listed] == [f"i-{n}" for n in listable]


@settings(max_examples=40)
@given(instances=INSTANCES)
def test_the_bill_of_what_has_ended_is_the_tariff_applied_to_its_times(
    instances: list[tuple[int, int, int, bool]],
):
    store = stored(instances)
    now_ms = 10**12 + 10**9
    for record, (per_hour, minimum, lived_ms, ended) in zip(store.all(), instances, strict=True):
        line = bill_line(record, now_ms)
        lifetime_ms = lived_ms if ended else now_ms - 10**12
        assert line.micro_usd == Tariff(per_hour, minimum).cost(lifetime_ms)
        assert line.micro_usd == -(-per_hour * line.seconds // 3600)
        assert line.open != ended
    store.close()


def stored(instances: list[tuple[int, int, int, bool]]) -> Store:
    """A store in memory with these instances: price, minimum, lifetime, whether ended."""
    store = Store(Path(":memory:"))
    for number, (per_hour, minimum, lived_ms, ended) in enumerate(instances):
        record = store.insert(
            {
                "id": f"i-{number}",
                "token": f"t-{number}",
                "owner": "me",
                "node_type": "sand.quick",
                "zone": "a",
                "market": Market.SPOT,
                "tags": {},
                "state": InstanceState.PENDING,
                "per_hour": per_hour,
                "minimum_seconds": minimum,
                "launched_at_ms": 10**12,
                "listed_at_ms": 10**12,
                "boot_at_ms": None,
            }
        )
        if ended:
            store.update(record.id, state=InstanceState.ENDED, ended_at_ms=10**12 + lived_ms)
            assert not store.update(record.id, state=InstanceState.RUNNING), "an end is for ever"
    return store
