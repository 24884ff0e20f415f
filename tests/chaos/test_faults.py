"""The cloud misbehaves, the controller is gone, the cloud is gone: nothing is orphaned, nothing is bought twice."""

from __future__ import annotations

import pytest

from autoscaler.core.lifecycle import Phase
from fabric.model.events import Event
from tests.chaos.bench import Bench
from tests.chaos.cloud import Cloud

TIMEOUT_S = 90
SHORT = {"join": "4s", "grace": "1s"}


def kinds(bench: Bench) -> list[str]:
    return [entry.kind for entry in bench.entries()]


def finish(bench: Bench) -> None:
    bench.want(0)
    bench.supervised(bench.over, TIMEOUT_S, "the end of every machine and every launch")
    bench.check()


def test_a_lost_reply_makes_no_second_machine(bench: Bench) -> None:
    bench.fault("lost_reply", times=2)
    bench.fault("lost_reply", times=1, how="gateway_timeout")
    bench.want(2)
    bench.start()
    bench.supervised(lambda: len(bench.known()) == 2, TIMEOUT_S, "both machines")
    assert len(bench.instances()) == 2
    assert kinds(bench).count(Event.LAUNCH_INTENDED) == 2
    finish(bench)


def test_a_capacity_refusal_fails_over_to_the_next_offer_and_is_remembered(bench: Bench) -> None:
    bench.fault("capacity", zone="a")
    bench.want(3)
    bench.start()
    bench.supervised(lambda: len(bench.known()) == 3, TIMEOUT_S, "three machines in zone b")
    assert {instance["zone"] for instance in bench.instances()} == {"b"}
    refused = [entry.data for entry in bench.entries() if entry.kind == Event.LAUNCH_REFUSED]
    assert refused
    assert {entry["error"] for entry in refused} == {"capacity"}
    finish(bench)


def test_refused_credentials_stop_the_site_and_tell_a_person_instead_of_failing_over(bench: Bench) -> None:
    bench.fault("credentials", operation="launch")
    bench.want(1)
    bench.start()
    bench.supervised(lambda: Event.LAUNCH_REFUSED in kinds(bench), TIMEOUT_S, "the refusal")
    bench.supervised(
        lambda: any(site["stopped"] for site in bench.status()["sites"]), TIMEOUT_S, "the stop to be shown"
    )
    assert kinds(bench).count(Event.LAUNCH_INTENDED) == 1, "no other offer was tried"
    finish(bench)


def test_a_machine_that_listings_show_late_is_neither_lost_nor_bought_again(bench: Bench) -> None:
    bench.fault("unlisted", **{"for": "3s"})
    bench.want(2)
    bench.start()
    bench.supervised(
        lambda: kinds(bench).count(Event.LAUNCH_ACCEPTED) == 2 and len(bench.living()) == 2, TIMEOUT_S, "both"
    )
    assert len(bench.instances()) == 2
    finish(bench)


def test_a_cloud_that_is_killed_and_comes_back_loses_nothing(bench: Bench, cloud: Cloud) -> None:
    bench.want(2)
    bench.start()
    bench.supervised(lambda: len(bench.known()) == 2, TIMEOUT_S, "both machines")
    cloud.kill()
    bench.want(0)
    bench.supervised(lambda: Event.TERMINATE_INTENDED in kinds(bench), TIMEOUT_S, "the wish to end them")
    cloud.start()
    finish(bench)


@pytest.mark.parametrize("bench", [SHORT], indirect=True)
def test_without_a_controller_the_reaper_ends_everything_in_time(bench: Bench) -> None:
    bench.launch_behind_our_back(f"{bench.owner}-stranger")
    bench.want(2)
    bench.start()
    bench.supervised(lambda: len(bench.known()) == 2, TIMEOUT_S, "both machines")
    bench.kill()
    bench.start_reaper()
    bench.unsupervised(lambda: not bench.living(), TIMEOUT_S, "the reaper to end every machine")
    bench.unsupervised(bench.over, TIMEOUT_S, "the reaper to write their ends")
    bench.check()
    assert all(record.phase is Phase.ENDED for record in bench.records().values())


@pytest.mark.parametrize("bench", [SHORT], indirect=True)
def test_the_reaper_leaves_a_machine_alone_that_the_journal_justifies(bench: Bench) -> None:
    token = f"{bench.owner}-justified"
    bench.intend(token, ago_s=0)
    bench.launch_behind_our_back(token)
    bench.launch_behind_our_back(f"{bench.owner}-stranger")
    bench.start_reaper()
    bench.unsupervised(lambda: len(bench.living()) == 1, TIMEOUT_S, "the stranger to be ended")
    assert [instance["token"] for instance in bench.living()] == [token]
    bench.give_up(token)
    bench.unsupervised(bench.over, TIMEOUT_S, "the end of what is not justified any more")
    bench.check()
