"""The lease on the node: counted on a clock nobody can set, renewed in time, lapsed in time."""

from __future__ import annotations

import socket
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.boot.lease import Lease, Renewer, boot_clock
from autoscaler.boot.link import GatewayLink
from fabric.model.events import Event
from tests.conftest import wait_until
from tests.unit.gateway.serving import Gateway


class Clock:
    def __init__(self) -> None:
        self.now = 5000.0

    def __call__(self) -> float:
        return self.now


def renewer(gateway: Gateway, clock: Clock, lease: Lease, heard: list[str], token: str = "fab-1") -> Renewer:
    credential = gateway.join(ticket=gateway.intend(token).text).json()["credential"]
    return Renewer(GatewayLink(gateway.url, gateway.fingerprint), token, credential, lease, clock, heard.append)


@given(
    length_s=st.floats(1, 1e5),
    steps=st.lists(st.tuples(st.floats(0, 1e4), st.one_of(st.none(), st.floats(0.1, 1e5))), max_size=20),
)
def test_a_lease_lapses_exactly_its_length_after_the_last_good_renewal_was_asked_for(
    length_s: float, steps: list[tuple[float, float | None]]
) -> None:
    now = 0.0
    lease = Lease(now, length_s)
    until = length_s
    for pause, answer in steps:
        now += pause
        if answer is None:
            lease.failed(now)
        else:
            lease.renewed(now, answer)
            until = now + answer
        assert lease.lapsed(until)
        assert not lease.lapsed(until - 0.01)
        assert lease.next_attempt >= now


def test_a_healthy_node_asks_three_times_a_lease_and_one_in_trouble_more_often() -> None:
    lease = Lease(0.0, 900.0)
    assert lease.next_attempt == 300.0
    lease.failed(300.0)
    assert lease.next_attempt == 315.0
    lease.renewed(315.0, 900.0)
    assert lease.next_attempt == 615.0


def test_a_step_of_the_wall_clock_neither_kills_nor_immortalises(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, heard = Clock(), []
    lease = Lease(clock.now, 90.0)
    node = renewer(gateway, clock, lease, heard)
    real = time.time
    for step in (10 * 365 * 86400.0, -10 * 365 * 86400.0):
        monkeypatch.setattr(time, "time", lambda step=step: real() + step)
        assert not lease.lapsed(clock.now + 89)
        assert lease.lapsed(clock.now + 91)
    monkeypatch.undo()
    node.attempt()
    assert heard == []


def test_the_boot_clock_never_goes_back() -> None:
    first = boot_clock()
    assert boot_clock() >= first >= 0


def test_a_renewal_counts_from_when_it_was_asked_for(gateway: Gateway) -> None:
    clock, heard = Clock(), []
    lease = Lease(clock.now, 90.0)
    node = renewer(gateway, clock, lease, heard)
    clock.now += 60
    node.attempt()
    (renewed,) = gateway.entries(Event.LEASE_RENEWED)
    assert lease.lapsed(clock.now + 90.1) and not lease.lapsed(clock.now + 89)
    assert renewed.data["until"] >= gateway.now() + 85


def test_a_gateway_that_refuses_lets_the_lease_run_out_and_says_why_once(gateway: Gateway) -> None:
    clock, heard = Clock(), []
    lease = Lease(clock.now, 90.0)
    node = renewer(gateway, clock, lease, heard)
    gateway.controller_silent_s = 1000
    for _ in range(3):
        clock.now += 40
        node.attempt()
    assert lease.lapsed(clock.now)
    assert len(heard) == 1 and "The controller was last alive 16 min ago" in heard[0]
    gateway.controller_silent_s = 0
    node.attempt()
    assert not lease.lapsed(clock.now)
    assert heard[1:] == ["the lease is renewed again"]


def test_a_gateway_that_is_gone_lets_the_lease_run_out(gateway: Gateway) -> None:
    clock, heard = Clock(), []
    lease = Lease(clock.now, 90.0)
    node = renewer(gateway, clock, lease, heard)
    gateway.close()
    clock.now += 91
    node.attempt()
    assert lease.lapsed(clock.now)
    assert "no answer from the gateway" in heard[0]


def test_a_node_whose_end_is_intended_is_told(gateway: Gateway) -> None:
    clock, heard = Clock(), []
    node = renewer(gateway, clock, Lease(clock.now, 90.0), heard)
    gateway.end("fab-1")
    node.attempt()
    assert node.told_to_end.startswith("fab-1 has been ended (idle)")


def test_a_notice_is_told_at_once_and_the_thread_renews_on_its_own(gateway: Gateway) -> None:
    gateway.lease_s = 0.9
    lease = Lease(boot_clock(), 900.0)
    heard: list[str] = []
    credential = gateway.join(ticket=gateway.intend("fab-1").text).json()["credential"]
    node = Renewer(GatewayLink(gateway.url, ""), "fab-1", credential, lease, boot_clock, heard.append)
    node.start()
    try:
        node.notice(12345.0)
        wait_until(lambda: gateway.entries(Event.SPOT_NOTICE), timeout=10, what="the notice")
        wait_until(lambda: len(gateway.entries(Event.LEASE_RENEWED)) >= 3, timeout=30, what="renewals every lease/3")
    finally:
        node.stop()


def test_a_gateway_that_accepts_and_says_nothing_does_not_hold_up_the_lease() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        lease = Lease(boot_clock(), 0.5)
        link = GatewayLink(f"http://127.0.0.1:{silent.getsockname()[1]}", "")
        node = Renewer(link, "fab-1", "x", lease, boot_clock, lambda _: None)
        node.start()
        begun = time.monotonic()
        wait_until(lambda: lease.lapsed(boot_clock()), what="the lapse")
        assert time.monotonic() - begun < 5
        node.stop()
    wait_until(lambda: all(thread.name != "lease" for thread in threading.enumerate()), what="the thread's end")
