"""What a submission declares, and what it is told when it declares it badly."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric.admission.declare import EXAMPLES, DeclarationError, declare
from fabric.admission.wire import needs_data, needs_of
from fabric.model.jobs import Needs
from fabric.model.resources import Resources

NOW = datetime(2026, 11, 1, tzinfo=UTC).timestamp()


def needs(**metadata: str) -> Needs:
    keys = {f"fabric.{key}": value for key, value in metadata.items()}
    return declare({"entrypoint": "true", "metadata": keys}, NOW).needs


def test_a_job_that_says_nothing_is_undeclared() -> None:
    assert declare({"entrypoint": "true"}, NOW).needs == Needs()
    assert declare({"entrypoint": "true", "metadata": {"owner": "me", "fabric": "x"}}, NOW).needs == Needs()


def test_every_example_of_the_reference_can_be_read() -> None:
    declared = declare({"entrypoint": "true", "metadata": dict(EXAMPLES)}, NOW)
    assert declared.data_class == "internal"
    assert declared.needs == Needs(
        declared=True,
        bundle=Resources.of({"GPU": 8, "CPU": 16, "memory": 64 * 1024**3}),
        count=4,
        runtime_s=9000.0,
        priority=10,
        max_cost=20_000_000,
        deadline=datetime(2026, 12, 24, 18, tzinfo=UTC).timestamp(),
        restartable=True,
        datasets=("slides-2026",),
        after=("raysubmit_prepare", "raysubmit_clean"),
    )


def test_the_flags_of_the_entrypoint_are_the_drivers_own_needs() -> None:
    body = {"entrypoint": "x", "entrypoint_num_gpus": 0.5, "entrypoint_num_cpus": 2, "entrypoint_memory": 4}
    asked = declare({**body, "entrypoint_resources": {"lidar": 1}}, NOW).needs
    assert asked.declared and not asked.bundle
    assert asked.entrypoint == Resources.of({"GPU": 0.5, "CPU": 2, "memory": 4, "lidar": 1})


def test_zero_entrypoint_resources_declare_nothing() -> None:
    assert not declare({"entrypoint": "x", "entrypoint_num_cpus": 0, "entrypoint_resources": {}}, NOW).needs.declared


def test_a_deadline_may_count_from_now() -> None:
    assert needs(deadline="8h").deadline == NOW + 8 * 3600


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("gpus", value) for value in ("", "two", "-1", "1.5", "nan", "inf", "1e3", "99999999999")],
        *[("memory", value) for value in ("64", "64 gigs", "-1GiB", "9999999PiB") if value != "64"],
        *[("workers", value) for value in ("0", "1.5", "1000000")],
        *[("runtime", value) for value in ("2", "0s", "soon", "-1h")],
        *[("priority", value) for value in ("high", "1001", "1.0")],
        *[("max_cost", value) for value in ("20", "20 EUR", "-1 USD")],
        *[("deadline", value) for value in ("tomorrow", "2026-12-24T18:00:00", "2020-01-01T00:00:00Z", "0s")],
        *[("restartable", value) for value in ("yes", "1", "")],
        *[("dataset", value) for value in ("", "a,,b", "../etc")],
        *[("after", value) for value in ("", "../x", "a b")],
        ("data_class", "Not A Class"),
    ],
)
def test_a_bad_value_is_refused_with_the_key_and_an_example(key: str, value: str) -> None:
    with pytest.raises(DeclarationError) as refused:
        needs(**{key: value})
    assert refused.value.key == f"fabric.{key}"
    assert f"fabric.{key}" in str(refused.value) and EXAMPLES[f"fabric.{key}"] in str(refused.value)


@pytest.mark.parametrize(("key", "hint"), [("fabric.gpu", "fabric.gpus"), ("fabric.restart", "fabric.restartable")])
def test_an_unknown_key_is_refused_with_a_suggestion(key: str, hint: str) -> None:
    with pytest.raises(DeclarationError, match=f"Did you mean {hint}"):
        declare({"metadata": {key: "1"}}, NOW)


def test_workers_without_a_size_are_refused() -> None:
    with pytest.raises(DeclarationError, match="nothing says what one worker needs"):
        needs(workers="4")


@pytest.mark.parametrize(
    "body",
    [
        {"entrypoint_num_cpus": -1},
        {"entrypoint_num_gpus": 1.5},
        {"entrypoint_num_gpus": 10**300},
        {"entrypoint_resources": {"GPU": 1}},
        {"entrypoint_resources": {"lidar": -1}},
    ],
)
def test_entrypoint_resources_that_ray_could_never_grant_are_refused(body: dict[str, object]) -> None:
    with pytest.raises(DeclarationError):
        declare(body, NOW)


@given(st.dictionaries(st.sampled_from([*EXAMPLES, "fabric.x", "note"]), st.text(max_size=12), max_size=4))
def test_whatever_the_metadata_is_it_is_read_or_refused_with_a_sentence(metadata: dict[str, str]) -> None:
    try:
        declared = declare({"metadata": metadata}, NOW)
    except DeclarationError as error:
        assert error.key in metadata and error.key in str(error)
        return
    assert needs_of(needs_data(declared.needs)) == declared.needs
