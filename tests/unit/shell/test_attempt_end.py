"""How an attempt ended, from Ray's words and what is known of its nodes; and when the job is tried again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autoscaler.shell.attempt_end import Fate, LostNode, fate_of, last_words, may_be_a_lost_node, phase_after, retry_at
from autoscaler.shell.ray_jobs import RayJob
from fabric.admission.records import Attempt, JobRecord
from fabric.config.schema import QueueBlock
from fabric.model.jobs import AttemptEnd, JobPhase, JobRequest

QUEUE = QueueBlock(retries=2, backoff="10s", backoff_max="1m")  # pyright: ignore[reportArgumentType]
NOW = 1000.0
ATTEMPT = Attempt(1, "job", NOW - 60, started_at=NOW - 50)
GONE, TAKEN, NOTICED = LostNode("fab-1", True, False), LostNode("fab-1", True, True), LostNode("fab-1", False, True)
LOST = Fate(AttemptEnd.LOST, "node_lost", "The node fab-1, on which it ran, was lost.")


def ray(status: str, error_type: str = "", message: str = "what Ray said") -> RayJob:
    return RayJob(status, message, error_type, "01000000", None, "", None, "")


def record(*attempts: Attempt, stop_asked_by: str = "", restartable: str | None = None) -> JobRecord:
    metadata = {} if restartable is None else {"fabric.restartable": restartable}
    request = JobRequest("job", "ada", "vision", "open", 0.0, submission={"metadata": metadata})
    return JobRecord(request, JobPhase.RUNNING, attempts or (ATTEMPT,), stop_asked_by=stop_asked_by)


def end_of(job: RayJob, *lost: LostNode, of: JobRecord | None = None, attempt: Attempt = ATTEMPT) -> AttemptEnd:
    return fate_of(job, of or record(), attempt, lost).end


def test_what_ray_says_of_the_driver_itself_is_taken_at_its_word() -> None:
    assert end_of(ray("SUCCEEDED")) is AttemptEnd.SUCCEEDED
    assert end_of(ray("FAILED", "JOB_ENTRYPOINT_COMMAND_ERROR")) is AttemptEnd.FAILED
    assert end_of(ray("FAILED", "RUNTIME_ENV_SETUP_FAILURE")) is AttemptEnd.FAILED


@pytest.mark.parametrize("error", ["JOB_SUPERVISOR_ACTOR_DIED", "JOB_SUPERVISOR_ACTOR_START_TIMEOUT"])
def test_a_driver_that_ray_lost_is_lost_and_taken_back_where_the_cloud_had_said_so(error: str) -> None:
    assert end_of(ray("FAILED", error)) is AttemptEnd.LOST
    assert end_of(ray("FAILED", error), NOTICED) is AttemptEnd.RECLAIMED


def test_a_driver_that_failed_because_a_node_went_from_under_it_did_not_fail_by_itself() -> None:
    failed = ray("FAILED", "JOB_ENTRYPOINT_COMMAND_ERROR")
    assert end_of(failed, GONE) is AttemptEnd.LOST
    assert end_of(failed, TAKEN) is AttemptEnd.RECLAIMED
    assert end_of(failed, NOTICED) is AttemptEnd.FAILED, "the machine was still there"


def test_a_job_that_succeeded_succeeded_whatever_became_of_its_nodes() -> None:
    assert end_of(ray("SUCCEEDED"), TAKEN) is AttemptEnd.SUCCEEDED


def test_whoever_asked_for_a_stop_gets_it_also_when_the_machine_is_lost_meanwhile() -> None:
    asked = record(stop_asked_by="ada")
    assert end_of(ray("STOPPED"), of=asked) is AttemptEnd.STOPPED
    assert end_of(ray("FAILED", "JOB_SUPERVISOR_ACTOR_DIED"), GONE, of=asked) is AttemptEnd.STOPPED
    assert retry_at(asked, ATTEMPT, LOST, QUEUE, NOW) is None


def test_a_stop_is_the_preemption_that_was_written_before_it_else_somebodys_own() -> None:
    assert end_of(ray("STOPPED"), attempt=replace(ATTEMPT, preempted_by="urgent")) is AttemptEnd.PREEMPTED
    assert end_of(ray("STOPPED")) is AttemptEnd.STOPPED


def test_a_failure_that_sounds_like_a_lost_node_waits_for_rays_list_of_nodes() -> None:
    assert may_be_a_lost_node(ray("FAILED", message="ray.exceptions.NodeDiedError: Task failed"))
    assert may_be_a_lost_node(ray("FAILED"), "ray.exceptions.WorkerCrashedError, and then the lines of its raylet")
    assert not may_be_a_lost_node(ray("FAILED", message="ZeroDivisionError"))


def test_retries_pause_longer_each_time_and_end() -> None:
    one, two = (replace(ATTEMPT, number=number, end=AttemptEnd.LOST) for number in (1, 2))
    third = replace(ATTEMPT, number=3)
    assert retry_at(record(), ATTEMPT, LOST, QUEUE, NOW) == NOW + 10
    assert retry_at(record(one, replace(ATTEMPT, number=2)), replace(ATTEMPT, number=2), LOST, QUEUE, NOW) == NOW + 20
    assert retry_at(record(one, two, third), third, LOST, QUEUE, NOW) is None
    assert "3 attempts" in last_words(LOST, record(one, two, third))
    assert phase_after(LOST) is JobPhase.FAILED


def test_what_never_started_and_what_gave_way_counts_for_nothing() -> None:
    never = [replace(ATTEMPT, number=number, end=AttemptEnd.LOST, started_at=None) for number in range(1, 9)]
    ninth = replace(ATTEMPT, number=9, started_at=None)
    assert retry_at(record(*never, ninth), ninth, LOST, QUEUE, NOW) == NOW + 60, "the longest pause"
    gave_way = [replace(ATTEMPT, number=number, end=AttemptEnd.PREEMPTED) for number in range(1, 9)]
    assert retry_at(record(*gave_way, ninth), ninth, LOST, QUEUE, NOW) == NOW + 10
    assert retry_at(record(), ATTEMPT, Fate(AttemptEnd.PREEMPTED, "preempted", ""), QUEUE, NOW) == NOW


def test_a_job_that_ray_cannot_start_on_machines_that_are_there_is_given_up_after_a_few_pauses() -> None:
    false_start = Fate(AttemptEnd.LOST, "job_supervisor_actor_died", "The driver did not start.")
    tries = [replace(ATTEMPT, number=number, end=AttemptEnd.LOST, started_at=None) for number in range(1, 5)]
    fourth, fifth = replace(tries[3], end=None), replace(ATTEMPT, number=5, started_at=None)
    assert retry_at(record(*tries[:3], fourth), fourth, false_start, QUEUE, NOW) == NOW + 60
    given_up = record(*tries, fifth)
    assert retry_at(given_up, fifth, false_start, QUEUE, NOW) is None
    assert "could not start it 5 times in a row" in last_words(false_start, given_up)
    assert retry_at(given_up, fifth, LOST, QUEUE, NOW) is not None, "a machine that was lost is nobody's fault"
    ran = [*tries[:2], replace(tries[2], started_at=NOW), tries[3]]
    assert retry_at(record(*ran, fifth), fifth, false_start, QUEUE, NOW) is not None, "it has started in between"


def test_a_job_that_says_it_must_not_be_restarted_is_not_once_its_code_may_have_run() -> None:
    job = record(restartable="false")
    assert retry_at(job, ATTEMPT, LOST, QUEUE, NOW) is None
    assert "fabric.restartable: false" in last_words(LOST, job)
    not_begun = replace(ATTEMPT, started_at=None)
    assert retry_at(job, not_begun, LOST, QUEUE, NOW) == NOW + 10
    assert retry_at(job, not_begun, replace(LOST, may_have_run=True), QUEUE, NOW) is None


def test_a_job_is_not_started_again_while_processes_of_its_last_attempt_may_live() -> None:
    assert retry_at(record(), ATTEMPT, replace(LOST, wait_s=70.0), QUEUE, NOW) == NOW + 70


@pytest.mark.parametrize("end", [AttemptEnd.FAILED, AttemptEnd.REFUSED, AttemptEnd.SUCCEEDED, AttemptEnd.STOPPED])
def test_the_jobs_own_end_is_the_end(end: AttemptEnd) -> None:
    assert retry_at(record(), ATTEMPT, Fate(end, "", ""), QUEUE, NOW) is None
