"""``fabric jobs`` and ``fabric why JOB`` from a journal: queue, attempts and reasons, also without a controller."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fabric.admission.wire import needs_data
from fabric.cli.exits import Exit
from fabric.cli.main import cli
from fabric.journal.base import Draft
from fabric.journal.sqlite import SqliteJournal
from fabric.model.events import Event
from fabric.model.jobs import AttemptEnd, JobPhase, Needs
from tests.conftest import wait_until
from tests.unit.cli.places import Place, controller_of, place_in


def submitted(job: str, team: str = "vision", **more: Any) -> Draft:
    facts = {"user": "ada", "team": team, "data_class": "open", "needs": needs_data(Needs(**more)), "code": {}}
    return Draft(Event.JOB_SUBMITTED, {"job": job, **facts, "submission": {"entrypoint": "true"}}, once=f"job:{job}")


def admitted(job: str, attempt: int = 1) -> Draft:
    ray_id = job if attempt == 1 else f"{job}.{attempt}"
    facts = {"sites": ["sky"], "selector": {}, "reasons": ["It is first in line."], "price_per_hour": 3_600_000}
    return Draft(Event.JOB_ADMITTED, {"job": job, "attempt": attempt, "ray_id": ray_id, **facts})


def ended(job: str, end: AttemptEnd, retry_at: float | None = None) -> Draft:
    facts = {"end": end, "message": f"it {end}", "cause": "a_cause", "retry_at": retry_at}
    return Draft(Event.ATTEMPT_ENDED, {"job": job, "attempt": 1, **facts})


STORY = (
    submitted("moved"),
    admitted("moved"),
    Draft(Event.JOB_STARTED, {"job": "moved", "attempt": 1, "ray_id": "moved", "ray_job_id": "07000000"}),
    ended("moved", AttemptEnd.RECLAIMED, 1.0),
    admitted("moved", 2),
    submitted("done", "clinic"),
    admitted("done"),
    ended("done", AttemptEnd.SUCCEEDED),
    Draft(Event.JOB_FINISHED, {"job": "done", "phase": JobPhase.SUCCEEDED, "message": "Job finished successfully."}),
    submitted("stuck", after=("moved",)),
    Draft(Event.JOB_REJECTED, {"job": "no", "user": "ada", "team": "", "reason": "x", "sentence": "It may not."}),
)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = place_in(tmp_path)
    journal = SqliteJournal(place.journal, "controller")
    journal.append(STORY)
    journal.close()
    return place


def ask(place: Place, *arguments: str) -> Result:
    return CliRunner().invoke(cli, [*arguments, "--config", str(place.path)], standalone_mode=False)


def told(place: Place, *arguments: str, code: int = Exit.OK) -> dict[str, Any]:
    shown = ask(place, *arguments, "--json")
    assert shown.exception is None, shown.exception
    assert (shown.return_value or Exit.OK) == code
    return json.loads(shown.stdout)


def test_jobs_without_a_controller_are_those_of_the_journal_and_the_exit_code_says_so(place: Place) -> None:
    listed = told(place, "jobs", code=Exit.UNAVAILABLE)["jobs"]
    assert {job["job"]: job["phase"] for job in listed} == {
        "done": "succeeded",
        "moved": "admitted",
        "stuck": "waiting",
    }
    assert listed[0]["job"] == "done", "what is over comes first, what waits last"
    moved = next(job for job in listed if job["job"] == "moved")
    assert [(one["ray_id"], one["end"]) for one in moved["attempts"]] == [("moved", "reclaimed"), ("moved.2", None)]
    assert "does not answer" in ask(place, "jobs").stdout


def test_jobs_of_one_team_are_its_own(place: Place) -> None:
    assert [job["job"] for job in told(place, "jobs", "--team", "clinic", code=Exit.UNAVAILABLE)["jobs"]] == ["done"]


def test_a_job_is_explained_by_its_id_by_its_rays_id_and_by_its_drivers(place: Place) -> None:
    by_id, by_attempt, by_driver = (told(place, "why", name) for name in ("moved", "moved.2", "07000000"))
    assert by_id == by_attempt == by_driver
    sentences = " ".join(line["sentence"] for line in by_id["story"])
    for part in ("ada of team vision submitted it", "It is first in line.", "ended: reclaimed", "$3.60 an hour"):
        assert part in sentences


def test_a_refused_submission_is_explained(place: Place) -> None:
    assert "It may not." in told(place, "why", "no")["story"][0]["sentence"]


def test_a_waiting_job_is_explained_by_the_controller_and_without_one_as_far_as_is_known(place: Place) -> None:
    (silent,) = told(place, "why", "stuck")["now"]
    assert "controller does not answer" in silent
    with controller_of(place):
        wait_until(lambda: "moved" in now(place, "stuck"), timeout=60, what="the queue's sentence")


def now(place: Place, job: str) -> str:
    """Where a job stands, asked from another process: this one's output has the controller's log in it."""
    return json.loads(place.fabric("why", job, "--json").stdout)["now"][0]
