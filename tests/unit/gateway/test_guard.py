"""Who may have a worker where, as the gateway rules on it: over real HTTP, with a real journal and a real key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fabric.config.schema import Config
from fabric.gateway.guard import anything_goes, strictest_classes
from fabric.gateway.ray_table import HeadTable, RayTableError
from fabric.sovereignty.badge import ATTEMPT, BADGE, JOB
from tests.unit.gateway.ruling import CONFIG, NODES, OURS, Ruling


@pytest.fixture
def ruling(tmp_path: Path) -> Iterator[Ruling]:
    ruling = Ruling(tmp_path)
    try:
        yield ruling
    finally:
        ruling.close()


@pytest.mark.parametrize(
    ("data_class", "where"),
    [
        ("open", {"fab-spot", "fab-steady", "fab-unclear", "onprem/home/a", "onprem/annex/b"}),
        ("steady", {"fab-steady", "onprem/home/a", "onprem/annex/b"}),
        ("patient", {"onprem/home/a"}),
        ("home-only", {"onprem/home/a", "onprem/annex/b"}),
        ("removed", set[str]()),
    ],
)
def test_an_admitted_job_has_workers_exactly_where_its_class_allows(
    ruling: Ruling, data_class: str, where: set[str]
) -> None:
    ruling.ray_job(ruling.admit("j", data_class), "j")
    assert {node for node in NODES if ruling.ask(node)["allowed"]} == where


def test_a_denial_is_in_the_journal_with_its_sentence_once_a_minute(ruling: Ruling) -> None:
    ruling.ray_job(ruling.admit("j", "patient"), "j")
    for _ in range(3):
        assert not ruling.ask()["allowed"]
    [entry] = ruling.denials()
    assert dict(entry.data) == {
        "job": "j",
        "ray_job_id": OURS,
        "token": "fab-steady",
        "site": "sky",
        "data_class": "patient",
        "sentence": "Data of class patient may go only to the sites listed for it, without sky.",
    }


def test_what_ray_fetches_by_itself_is_denied_without_an_entry(ruling: Ruling) -> None:
    ruling.ray_job(ruling.admit("j", "patient"), "j")
    assert not ruling.ask(quiet=True)["allowed"]
    assert ruling.denials() == []


def test_an_edit_of_the_class_counts_at_once(ruling: Ruling) -> None:
    ruling.ray_job(ruling.admit("j", "open"), "j")
    assert ruling.ask()["allowed"]
    narrowed = CONFIG | {"data_classes": CONFIG["data_classes"] | {"open": {"sites": ["home"]}}}
    ruling.config = Config.model_validate(narrowed)
    assert not ruling.ask()["allowed"]


@pytest.mark.parametrize("tampered", [{BADGE: "0" * 64}, {BADGE: ""}, {ATTEMPT: "2"}, {ATTEMPT: "one"}, {JOB: "other"}])
def test_a_job_that_says_it_is_another_goes_nowhere_but_home(ruling: Ruling, tampered: dict[str, str]) -> None:
    ruling.admit("other", "open")
    ruling.ray_job(ruling.admit("j", "patient") | tampered, "other")
    answer = ruling.ask()
    assert not answer["allowed"]
    assert answer["sentence"].startswith("This Ray job says that it is job")
    assert ruling.ask("onprem/home/a")["allowed"]


def test_a_good_badge_with_another_jobs_submission_id_is_no_good(ruling: Ruling) -> None:
    ruling.ray_job(ruling.admit("j", "open"), "k")
    assert not ruling.ask()["allowed"]


def test_the_badge_of_an_earlier_attempt_is_no_good(ruling: Ruling) -> None:
    first = ruling.admit("j", "open")
    second = ruling.admit("j", "open", 2)
    ruling.ray_job(first, "j")
    assert not ruling.ask()["allowed"]
    ruling.ray_job(second, "j.2")
    assert ruling.ask()["allowed"]


def test_a_driver_that_a_job_starts_itself_is_part_of_it(ruling: Ruling) -> None:
    ruling.ray_job(ruling.admit("j", "open"), submission="")
    assert ruling.ask()["allowed"]


def test_a_worker_dressed_as_another_job_does_not_start(ruling: Ruling) -> None:
    other = ruling.admit("other", "open")
    ruling.ray_job(ruling.admit("j", "open"), "j")
    assert not ruling.ask(claim=other)["allowed"]


def test_the_process_that_starts_a_driver_is_known_by_its_own_badge(ruling: Ruling) -> None:
    ruling.ray_job({}, namespace="_ray_internal_dashboard")
    assert ruling.ask(claim=ruling.admit("open", "open"))["allowed"]
    assert not ruling.ask(claim=ruling.admit("patient", "patient"))["allowed"]
    assert not ruling.ask(claim={JOB: "open", ATTEMPT: "1", BADGE: "0" * 64})["allowed"]


def test_a_claim_of_a_worker_does_not_count_for_a_job_that_registered_none(ruling: Ruling) -> None:
    mine = ruling.admit("j", "open")
    ruling.admit("patient", "patient")
    ruling.ray_job({})
    assert not ruling.ask(claim=mine)["allowed"]


@pytest.mark.parametrize("submission", ["", "j"])
def test_a_ray_job_that_did_not_come_through_the_gateway_is_held_to_all_classes_there_are(
    ruling: Ruling, submission: str
) -> None:
    ruling.admit("j", "open")
    ruling.ray_job({}, submission)
    assert ruling.ask()["allowed"], "nobody has data that stays home"
    ruling.admit("k", "patient")
    answer = ruling.ask()
    assert not answer["allowed"]
    assert answer["sentence"].startswith("This Ray job did not come through the gateway.")
    assert ruling.ask("onprem/home/a")["allowed"]
    assert not ruling.ask("onprem/annex/b")["allowed"]


def test_the_classes_of_teams_and_data_sets_hold_for_strangers() -> None:
    more = {
        "teams": {"clinic": {"data_class": "patient"}},
        "datasets": {"slides": {"site": "home", "size": "1GiB", "data_class": "steady"}},
    }
    assert strictest_classes(Config.model_validate(CONFIG), []) == ("open",)
    assert strictest_classes(Config.model_validate(CONFIG | more), ["home-only"]) == (
        "home-only",
        "open",
        "patient",
        "steady",
    )


def test_nothing_starts_in_the_cloud_while_ray_cannot_be_asked(ruling: Ruling) -> None:
    ruling.ray_job(ruling.admit("j", "open"), "j")
    ruling.table.down = True
    assert not ruling.ask()["allowed"]
    assert not ruling.ask("onprem/annex/b")["allowed"], "a class is pinned to the other room"
    assert ruling.ask("onprem/home/a")["allowed"], "work of every class may be there"


def test_a_job_that_ray_does_not_know_does_not_start_where_it_matters(ruling: Ruling) -> None:
    assert not ruling.ask()["allowed"]
    assert not ruling.ask("onprem/annex/b")["allowed"]
    assert ruling.ask("onprem/home/a")["allowed"]


def test_only_a_room_where_every_class_may_be_goes_on_without_answers(ruling: Ruling) -> None:
    config = Config.model_validate(CONFIG)
    assert [site for site in config.sites if anything_goes(config, site)] == ["home"]
    assert {node: ruling.ask(node)["when_silent"] for node in NODES} == {
        node: node == "onprem/home/a" for node in NODES
    }


def test_a_stranger_gets_no_answer(ruling: Ruling) -> None:
    for token in ("fab-spot", "fab-nobody"):
        answer = ruling.link.post("/v1/guard", {"token": token, "credential": "x", "asks": []})
        assert (answer.status, answer.code) == (401, "credential_unknown")
    answer = ruling.link.post("/v1/guard", {"token": "fab-spot", "credential": "x", "asks": [{"ray_job_id": "no"}]})
    assert (answer.status, answer.code) == (400, "malformed")


def test_a_head_that_is_not_there_is_an_error_in_time(tmp_path: Path) -> None:
    table = HeadTable("127.0.0.1:1", tmp_path / "none", timeout_s=0.5)
    try:
        with pytest.raises(RayTableError, match="does not tell its jobs"):
            table.find(OURS)
        with pytest.raises(RayTableError, match="a moment ago"):
            table.find(OURS)
    finally:
        table.close()
