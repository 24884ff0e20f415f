"""Every fault that can be scripted strikes where it says, as often as it says."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.sandbox.faults import FAULT, SpotReclaim, reclaim_after_ms
from tests.conftest import wait_until
from tests.sandboxes import SandboxServer

SLEEP = "sleep 600"


def ask(server: SandboxServer, token: str, **more: Any) -> httpx.Response:
    request = {"token": token, "node_type": "slow", "zone": "a", "market": "on-demand", "user_data": "", **more}
    return server.http.post("/v1/instances", json=request)


def refusal(reply: httpx.Response) -> tuple[int, str]:
    return reply.status_code, reply.json()["error"]["code"]


def listed(server: SandboxServer) -> set[str]:
    return {instance["token"] for instance in server.get("/v1/instances?limit=1000")["instances"]}


def test_a_capacity_refusal_strikes_as_often_as_it_says(shared: SandboxServer):
    shared.script("capacity", times=2)
    answers = [ask(shared, f"cap-{n}").status_code for n in range(3)]

    assert answers == [503, 503, 202]
    assert shared.get("/v1/faults")["faults"] == []


@pytest.mark.parametrize(
    ("where", "other"),
    [
        ({"node_type": "sand.quick"}, {"node_type": "slow"}),
        ({"node_type": "quick"}, {"node_type": "slow"}),
        ({"zone": "b"}, {"node_type": "quick", "zone": "a"}),
        ({"market": "spot"}, {"node_type": "quick", "market": "on-demand"}),
    ],
)
def test_a_refusal_strikes_only_where_it_says_until_it_is_cleared(
    shared: SandboxServer, where: dict[str, Any], other: dict[str, Any]
):
    fault = shared.script("quota", **where)
    struck = {"node_type": "quick", "zone": "b", "market": "spot"} | where
    name = "-".join(where.values())

    for n in range(3):
        assert refusal(ask(shared, f"no-{name}-{n}", **struck)) == (403, "quota_exceeded")
    assert ask(shared, f"yes-{name}", **other).status_code == 202
    assert shared.http.delete(f"/v1/faults/{fault['id']}").status_code == 204
    assert refusal(shared.http.delete(f"/v1/faults/{fault['id']}")) == (404, "fault_not_found")
    shared.terminate(f"yes-{name}")


def test_throttling_says_when_to_come_back(shared: SandboxServer):
    shared.script("throttled", operation="offers", retry_after="2.5s", times=1)
    reply = shared.http.get("/v1/offers")

    assert refusal(reply) == (429, "rate_exceeded")
    assert reply.headers["retry-after"] == "2.5"
    assert shared.http.get("/v1/offers").status_code == 200


def test_credentials_can_be_refused_for_one_operation(shared: SandboxServer):
    shared.script("credentials", operation="list")

    assert refusal(shared.http.get("/v1/instances")) == (401, "unauthorized")
    assert shared.http.get("/v1/offers").status_code == 200


def test_a_lost_reply_breaks_off_after_the_instance_was_made(shared: SandboxServer):
    shared.script("lost_reply", times=1)
    with pytest.raises(httpx.TransportError):
        ask(shared, "lost-1")

    assert shared.show("lost-1")["state"] == "pending"
    assert ask(shared, "lost-1").json() == shared.show("lost-1")


def test_a_lost_reply_can_look_like_a_gateway_time_out(shared: SandboxServer):
    shared.script("lost_reply", how="gateway_timeout", times=1)

    assert refusal(ask(shared, "lost-2")) == (504, "gateway_timeout")
    assert shared.show("lost-2")["state"] == "pending"


def test_a_slow_boot_is_late_by_what_it_says(shared: SandboxServer):
    shared.script("slow_boot", node_type="quick", by="700ms", times=1)
    shared.launch("late", SLEEP)
    shared.launch("punctual", SLEEP)
    late, punctual = shared.wait_for("late", "running"), shared.wait_for("punctual", "running")

    assert late["running_at_ms"] - late["launched_at_ms"] >= 700
    assert punctual["running_at_ms"] < late["running_at_ms"]
    shared.terminate("late")
    shared.terminate("punctual")


def test_an_instance_that_never_boots_is_charged_and_can_be_ended(shared: SandboxServer):
    shared.script("never_boot", node_type="quick", times=1)
    shared.launch("never", "echo never")
    shared.launch("marker", "true")
    shared.wait_for("marker", "ended")

    assert shared.show("never")["state"] == "pending"
    ended = shared.terminate("never")
    assert ended["running_at_ms"] is None
    assert shared.console("never") == ""
    line = next(line for line in shared.get("/bill")["lines"] if line["token"] == "never")
    assert line["micro_usd"] > 0


def test_terminate_says_yes_and_does_nothing_as_often_as_scripted(shared: SandboxServer):
    instance = shared.launch("undead", SLEEP)
    shared.wait_for("undead", "running")
    shared.script("ignore_terminate", instance="undead", times=2)
    for _ in range(2):
        assert shared.http.delete(f"/v1/instances/{instance['id']}").status_code == 202
        assert shared.show("undead")["state"] == "running"

    assert shared.terminate("undead")["reason"] == "user"


def test_a_new_instance_is_missing_from_listings_for_a_while(shared: SandboxServer):
    shared.script("unlisted", times=1, **{"for": "600ms"})
    begun = time.monotonic()
    ask(shared, "hidden-1")

    assert "hidden-1" not in listed(shared)
    assert shared.show("hidden-1")["state"] == "pending", "asked for by its id it is there"
    wait_until(lambda: "hidden-1" in listed(shared), what="the listing")
    assert time.monotonic() - begun >= 0.55


def test_a_spot_reclaim_gives_notice_and_then_takes_the_instance(shared: SandboxServer):
    instance = shared.launch("spot-1", SLEEP, market="spot")
    shared.wait_for("spot-1", "running")
    notice = f"/metadata/{instance['id']}/spot"
    assert refusal(shared.http.get(notice)) == (404, "instance_not_found")

    begun = time.time()
    shared.script("spot_reclaim", instance="spot-1", notice="800ms")
    reclaim_at = shared.get(notice)["reclaim_at"]
    assert begun + 0.7 <= reclaim_at <= time.time() + 0.8
    assert shared.show("spot-1")["state"] == "running"
    ended = shared.wait_for("spot-1", "ended")
    assert ended["reason"] == "spot reclaim"
    assert ended["ended_at_ms"] >= 1000 * reclaim_at


def test_a_reclaim_rate_takes_spot_instances_and_no_others(shared: SandboxServer):
    shared.script("spot_reclaim", rate_per_hour=1_000_000, notice=0)
    shared.launch("steady", SLEEP)
    shared.launch("weather", SLEEP, market="spot")

    assert shared.wait_for("weather", "ended")["reason"] == "spot reclaim"
    assert shared.show("steady")["state"] == "running"
    shared.terminate("steady")


def test_an_on_demand_instance_is_never_reclaimed(shared: SandboxServer):
    ask(shared, "owned-1")
    reply = shared.http.post("/v1/faults", json={"kind": "spot_reclaim", "instance": "owned-1"})

    assert refusal(reply) == (400, "invalid_request")


def test_a_new_price_is_for_new_instances_only_and_stands_in_the_history(shared: SandboxServer):
    old = ask(shared, "price-old").json()
    shared.script("price", node_type="slow", market="on-demand", per_hour="0.99 USD/h")
    new = ask(shared, "price-new").json()

    assert (old["per_hour_micro_usd"], new["per_hour_micro_usd"]) == (350_000, 990_000)
    assert shared.show("price-old")["per_hour_micro_usd"] == 350_000
    offers = {offer["id"]: offer["per_hour_micro_usd"] for offer in shared.get("/v1/offers")["offers"]}
    assert offers["sand.slow/a/on-demand"] == 990_000
    last = shared.get("/v1/prices")[-1]
    assert (last["per_hour_micro_usd"], last["cause"]) == (990_000, "script")


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "no-such-fault"},
        {"kind": "capacity", "zones": "a"},
        {"kind": "capacity", "times": 0},
        {"kind": "slow_boot", "by": "soon"},
        {"kind": "slow_boot", "by": 1e9},
        {"kind": "spot_reclaim"},
        {"kind": "spot_reclaim", "instance": "x", "rate_per_hour": 1},
        {"kind": "price", "node_type": "nothing", "market": "spot", "per_hour": "1 USD/h"},
        {"kind": "price", "node_type": "slow", "market": "spot", "per_hour": "1 USD/h"},
    ],
)
def test_a_malformed_fault_is_refused_with_a_sentence(shared: SandboxServer, fault: dict[str, Any]):
    reply = shared.http.post("/v1/faults", json=fault)

    assert reply.status_code == 400
    assert reply.json()["error"]["message"]
    assert shared.get("/v1/faults")["faults"] == []


@given(rate=st.floats(0.01, 1000), seed=st.integers(0, 1000), token=st.text(min_size=1, max_size=20))
def test_the_time_to_a_reclaim_is_fixed_by_seed_and_token_and_shrinks_with_the_rate(rate: float, seed: int, token: str):
    fault = SpotReclaim(kind="spot_reclaim", rate_per_hour=rate, seed=seed)
    faster = fault.model_copy(update={"rate_per_hour": rate * 2})

    assert reclaim_after_ms(fault, token) == reclaim_after_ms(fault, token) >= 0
    assert reclaim_after_ms(faster, token) <= reclaim_after_ms(fault, token)


def test_the_mean_time_to_a_reclaim_is_what_the_rate_says():
    fault = SpotReclaim(kind="spot_reclaim", rate_per_hour=2)
    times = [reclaim_after_ms(fault, f"token-{n}") for n in range(5000)]

    assert sum(times) / len(times) == pytest.approx(3_600_000 / 2, rel=0.1)


def test_a_stored_fault_reads_back_as_it_was():
    for text in (
        {"kind": "unlisted", "for": "3s", "zone": "a"},
        {"kind": "slow_boot", "by": 2, "market": "spot"},
        {"kind": "spot_reclaim", "rate_per_hour": 2.5, "notice": "30s"},
        {"kind": "throttled", "operation": "list", "retry_after": "1m"},
    ):
        fault = FAULT.validate_python(text)
        assert FAULT.validate_python(fault.model_dump(mode="json", by_alias=True)) == fault
