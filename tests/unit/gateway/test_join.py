"""Joining: who is let in, who is not, and what the journal says about either."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fabric.gateway.onprem import issue_onprem_ticket
from fabric.model.events import Event
from tests.unit.gateway.serving import LEASE_S, Gateway


def test_a_ticket_is_traded_for_what_a_node_needs_and_the_journal_says_so(gateway: Gateway) -> None:
    ticket = gateway.intend("fab-1")
    answer = gateway.join(ticket=ticket.text).json()
    assert answer.pop("server_time") == pytest.approx(time.time(), abs=5)
    assert answer.pop("lease_s") == pytest.approx(LEASE_S, abs=1)
    assert answer == {
        "token": "fab-1",
        "cluster_token": (gateway.state / "secrets" / "cluster.token").read_text(),
        "ray_address": "127.0.0.1:6379",
        "site": "sky",
        "node_type": "sky.box",
        "labels": {"fabric/site": "sky"},
        "credential": gateway.credentials.of("fab-1"),
    }
    (joined,) = gateway.entries(Event.NODE_JOINED)
    assert joined.data["token"] == "fab-1"
    assert joined.data["lease_until"] == pytest.approx(time.time() + LEASE_S, abs=5)


def test_no_secret_reaches_the_journal(gateway: Gateway) -> None:
    ticket = gateway.intend("fab-1")
    answer = gateway.join(ticket=ticket.text).json()
    gateway.join(ticket=ticket.text, nonce="another")
    gateway.renew("fab-1", answer["credential"])
    text = " ".join(str(entry) for entry in gateway.journal.read())
    for secret in (ticket.text, answer["cluster_token"], answer["credential"], "n" * 32):
        assert secret not in text


def ready(gateway: Gateway) -> dict[str, Any]:
    return {"ticket": gateway.intend("fab-1").text}


def unknown(_gateway: Gateway) -> dict[str, Any]:
    return {"ticket": "never-issued"}


def used(gateway: Gateway) -> dict[str, Any]:
    ticket = gateway.intend("fab-1")
    assert gateway.join(ticket=ticket.text, nonce="first").status_code == 200
    return {"ticket": ticket.text}


def expired(gateway: Gateway) -> dict[str, Any]:
    ticket = gateway.intend("fab-1", life_s=60)
    gateway.ahead_s = 60 + 2 * 3600 + 300
    return {"ticket": ticket.text}


def ended(gateway: Gateway) -> dict[str, Any]:
    ticket = gateway.intend("fab-1")
    gateway.end("fab-1")
    return {"ticket": ticket.text}


def superseded(gateway: Gateway) -> dict[str, Any]:
    first, _ = (gateway.intend("onprem/home/a", market="owned") for _ in range(2))
    return {"ticket": first.text}


def an_hour_ahead(gateway: Gateway) -> dict[str, Any]:
    return ready(gateway) | {"clock": gateway.now() + 3600}


def an_hour_behind(gateway: Gateway) -> dict[str, Any]:
    return ready(gateway) | {"clock": gateway.now() - 3600}


REFUSALS = [
    (unknown, 403, "ticket_unknown", "No launch in this fabric's journal was given this join ticket."),
    (used, 403, "ticket_used", "This join ticket of fab-1 has already been used by another process."),
    (expired, 403, "ticket_expired", "This join ticket of fab-1 expired 2 h 5 min ago."),
    (ended, 410, "launch_ended", "fab-1 has been ended (idle) and cannot be part of the cluster any more."),
    (
        superseded,
        403,
        "ticket_superseded",
        "A newer join ticket has been issued for onprem/home/a, so this one is not valid any more.",
    ),
    (
        lambda gateway: ready(gateway) | {"python": "3.12.1"},
        409,
        "python_version",
        "Python is 3.12.1 on this machine and 3.11.7 in the cluster.",
    ),
    (
        lambda gateway: ready(gateway) | {"ray": "2.59.0"},
        409,
        "ray_version",
        "Ray is 2.59.0 on this machine and 2.60.0 in the cluster.",
    ),
    (
        lambda gateway: ready(gateway) | {"ray": ""},
        409,
        "ray_version",
        "Ray is not installed on this machine and 2.60.0 in the cluster.",
    ),
    (an_hour_ahead, 409, "clock_skew", "This machine's clock is 60 min ahead of the gateway's."),
    (an_hour_behind, 409, "clock_skew", "This machine's clock is 60 min behind the gateway's."),
    (
        lambda _: {"token": "fab-1", "credential": "forged"},
        401,
        "credential_unknown",
        "This lease credential does not belong to that token in this fabric.",
    ),
]


@pytest.mark.parametrize(
    ("case", "status", "code", "sentence"), REFUSALS, ids=[f"{row[2]}-{index}" for index, row in enumerate(REFUSALS)]
)
def test_every_refusal_has_its_sentence_and_is_in_the_journal(
    gateway: Gateway, case: Any, status: int, code: str, sentence: str
) -> None:
    changes = case(gateway)
    joined = len(gateway.entries(Event.NODE_JOINED))
    response = gateway.join(**changes)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["sentence"]) == (status, code, sentence)
    assert len(error["remedy"]) > 20
    (refused,) = gateway.entries(Event.JOIN_REFUSED)
    assert (refused.data["reason"], refused.data["sentence"]) == (code, sentence)
    assert refused.data["peer"] == "127.0.0.1"
    assert len(gateway.entries(Event.NODE_JOINED)) == joined


def test_a_refused_join_does_not_use_the_ticket_up(gateway: Gateway) -> None:
    ticket = gateway.intend("fab-1")
    assert gateway.join(ticket=ticket.text, ray="2.59.0", nonce="preflight").status_code == 409
    assert gateway.join(ticket=ticket.text).status_code == 200


def test_a_clock_within_five_minutes_is_good_enough(gateway: Gateway) -> None:
    ticket = gateway.intend("fab-1")
    assert gateway.join(ticket=ticket.text, clock=gateway.now() + 290).status_code == 200


def test_of_many_machines_with_one_ticket_exactly_one_joins(gateway: Gateway) -> None:
    ticket = gateway.intend("fab-1")
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda nonce: gateway.join(ticket=ticket.text, nonce=f"nonce-{nonce}"), range(16)))
    assert sorted(answer.status_code for answer in answers) == [200] + [403] * 15
    assert len(gateway.entries(Event.NODE_JOINED)) == 1


def test_whoever_lost_the_reply_may_ask_again_also_after_the_ticket_expired(gateway: Gateway) -> None:
    ticket = gateway.intend("fab-1", life_s=60)
    first = gateway.join(ticket=ticket.text).json()
    gateway.ahead_s = 61
    second = gateway.join(ticket=ticket.text)
    assert second.status_code == 200
    assert second.json()["credential"] == first["credential"]
    assert len(gateway.entries(Event.NODE_JOINED)) == 1
    (renewed,) = gateway.entries(Event.LEASE_RENEWED)
    assert renewed.data["until"] == pytest.approx(gateway.now() + LEASE_S, abs=5)


def test_a_restarted_agent_rejoins_with_its_credential_but_not_after_its_end(gateway: Gateway) -> None:
    ticket = gateway.intend("fab-1")
    credential = gateway.join(ticket=ticket.text).json()["credential"]
    again = gateway.join(token="fab-1", credential=credential, nonce="restarted")
    assert again.status_code == 200
    gateway.end("fab-1")
    assert gateway.join(token="fab-1", credential=credential).json()["error"]["code"] == "launch_ended"


def test_a_reinstalled_machine_of_ones_own_joins_with_a_new_ticket(gateway: Gateway) -> None:
    def issue() -> tuple[str, str]:
        token, ticket = issue_onprem_ticket(
            gateway.journal, site="home", node_type="home.box", node="a", clock=time.time, labels={"x": "y"}
        )
        return token, ticket.text

    token, first = issue()
    assert gateway.join(ticket=first).json()["token"] == token == "onprem/home/a"
    _, second = issue()
    answer = gateway.join(ticket=second, nonce="new-disk").json()
    assert (answer["token"], answer["labels"]) == (token, {"x": "y"})


def test_a_caller_that_knocks_again_and_again_gets_one_entry_a_minute(gateway: Gateway) -> None:
    for index in range(20):
        assert gateway.join(ticket=f"guess-{index}").status_code == 403
    assert len(gateway.entries(Event.JOIN_REFUSED)) == 1
    gateway.ahead_s = 61
    gateway.join(ticket="guess-again")
    assert len(gateway.entries(Event.JOIN_REFUSED)) == 2


def test_a_rented_machine_cannot_join_while_nobody_would_end_it(gateway: Gateway) -> None:
    rented, owned = gateway.intend("fab-1"), gateway.intend("onprem/home/a", market="owned")
    gateway.controller_silent_s = LEASE_S + 1
    refused = gateway.join(ticket=rented.text)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "controller_silent")
    assert gateway.join(ticket=owned.text).status_code == 200
    gateway.controller_silent_s = 0
    assert gateway.join(ticket=rented.text).status_code == 200
