"""How an attempt is handed to Ray: the user's own submission, and where it may run."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric.config.schema import Config
from fabric.model.jobs import JobRequest
from fabric.sovereignty.dress import NowhereToRunError, ray_submission

CONFIG = Config.model_validate(
    {
        "sites": {
            "home": {"kind": "onprem", "node_types": {"box": {"nodes": ["a"], "cpus": 1}}},
            "attic": {"kind": "onprem", "node_types": {"box": {"nodes": ["b"], "cpus": 1}}},
            "sky": {
                "kind": "sandbox",
                "labels": {"jurisdiction": "eu"},
                "node_types": {"c1": {"cpus": 1, "max": 1, "price": {"on-demand": "1 USD/h"}}},
            },
        },
        "burst": {"baseline": [{"cpus": 1, "for": "0s"}]},
        "data_classes": {
            "open": {"sites": "any"},
            "patient": {"sites": ["home"], "spot": "never"},
            "abroad": {"sites": {"jurisdiction": "eu"}},
        },
    }
)
ALL = frozenset(CONFIG.sites)
NO_SPOT = {"fabric/market": "in(on-demand,owned)"}


def dressed(
    data_class: str = "open", sites: frozenset[str] = ALL, attempt: int = 1, **submission: Any
) -> dict[str, Any]:
    body = {"entrypoint": "python train.py", **submission}
    request = JobRequest(job="j", user="ada", team="t", data_class=data_class, at=0.0, submission=body)
    return ray_submission(request, attempt, sites, CONFIG, "the-badge")


def variables(body: dict[str, Any]) -> dict[str, str]:
    return body["runtime_env"]["env_vars"]


@pytest.mark.parametrize(
    ("data_class", "sites", "work", "helpers"),
    [
        ("open", ALL, {"fabric/site": "in(attic,home,sky)"}, {"fabric/site": "in(attic,home,sky)"}),
        ("open", {"sky"}, {"fabric/site": "in(sky)"}, {"fabric/site": "in(home,sky)"}),
        ("patient", ALL, {"fabric/site": "in(home)", **NO_SPOT}, {"fabric/site": "in(home)", **NO_SPOT}),
        ("home-only", ALL, {"fabric/site": "in(attic,home)"}, {"fabric/site": "in(attic,home)"}),
        ("home-only", {"attic"}, {"fabric/site": "in(attic)"}, {"fabric/site": "in(attic,home)"}),
        ("abroad", ALL, {"fabric/site": "in(sky)"}, {"fabric/site": "in(sky)"}),
    ],
)
def test_work_goes_where_it_was_admitted_and_helpers_also_beside_the_driver(
    data_class: str, sites: frozenset[str], work: dict[str, str], helpers: dict[str, str]
) -> None:
    told = variables(dressed(data_class, frozenset(sites)))
    assert json.loads(told["FABRIC_SELECTOR"]) == work
    assert json.loads(told["FABRIC_HELPER_SELECTOR"]) == helpers


@pytest.mark.parametrize(
    ("data_class", "sites"), [("patient", {"sky"}), ("unheard-of", ALL), ("open", set()), ("open", {"gone"})]
)
def test_an_attempt_that_was_admitted_to_no_allowed_site_is_not_handed_over(data_class: str, sites: set[str]) -> None:
    with pytest.raises(NowhereToRunError, match="nothing was started"):
        dressed(data_class, frozenset(sites))


def test_an_attempt_says_who_it_is_under_an_id_of_its_own() -> None:
    body = dressed("patient", attempt=2, submission_id="j", job_id="old")
    told = variables(body)
    assert body["submission_id"] == "j.2"
    assert "job_id" not in body
    assert (told["FABRIC_JOB"], told["FABRIC_ATTEMPT"], told["FABRIC_BADGE"]) == ("j", "2", "the-badge")
    assert (told["FABRIC_DATA_CLASS"], told["FABRIC_SITES"]) == ("patient", "home")


def test_no_variable_of_the_user_replaces_one_of_the_fabric() -> None:
    mine = {"FABRIC_SELECTOR": "{}", "__RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR": "mine", "MINE": "1"}
    told = variables(dressed("patient", runtime_env={"env_vars": mine}))
    assert told == {**variables(dressed("patient")), "MINE": "1"}


def test_the_users_own_hook_is_kept_to_be_run_after_ours() -> None:
    body = dressed(runtime_env={"worker_process_setup_hook": "mine.setup", "pip": ["x"]})
    assert variables(body)["FABRIC_USER_HOOK"] == "mine.setup"
    assert variables(body)["__RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR"] == "elastic_fabric_worker.setup"
    assert body["runtime_env"].keys() == {"pip", "env_vars"}


@pytest.mark.parametrize(
    ("data_class", "submission", "selector"),
    [
        # Ray starts the driver on the head, which is at home.
        ("patient", {}, None),
        ("open", {"entrypoint_num_cpus": 0}, None),
        ("patient", {"entrypoint_num_gpus": 1}, {"fabric/site": "in(home)", **NO_SPOT}),
        ("patient", {"entrypoint_resources": {"tpu": 1}}, {"fabric/site": "in(home)", **NO_SPOT}),
        (
            "patient",
            {"entrypoint_label_selector": {"disk": "nvme"}},
            {"fabric/site": "in(home)", **NO_SPOT, "disk": "nvme"},
        ),
        (
            "patient",
            {"entrypoint_label_selector": {"fabric/site": "sky"}},
            {"fabric/site": "in(NOWHERE)", **NO_SPOT},
        ),
        (
            "open",
            {"entrypoint_memory": 1, "entrypoint_label_selector": {"fabric/site": "!sky"}},
            {"fabric/site": "in(attic,home)"},
        ),
        # This class may not be at home, so neither may the driver.
        ("abroad", {}, {"fabric/site": "in(sky)"}),
    ],
)
def test_the_driver_runs_where_the_class_allows(
    data_class: str, submission: dict[str, Any], selector: dict[str, str] | None
) -> None:
    assert dressed(data_class, **submission).get("entrypoint_label_selector") == selector


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner), max_leaves=3
)


@given(
    st.text(min_size=1),
    st.dictionaries(st.text(), st.text()),
    st.dictionaries(st.sampled_from(["pip", "py_modules", "working_dir", "excludes"]), json_values),
)
def test_command_metadata_and_files_are_handed_over_as_they_are(
    entrypoint: str, metadata: dict[str, str], runtime_env: dict[str, Any]
) -> None:
    body = dressed(entrypoint=entrypoint, metadata=metadata, runtime_env=runtime_env)
    assert (body["entrypoint"], body["metadata"]) == (entrypoint, metadata)
    assert {**body["runtime_env"], **runtime_env} == body["runtime_env"]
