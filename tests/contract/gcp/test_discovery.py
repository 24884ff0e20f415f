"""The judge itself: what Google describes passes, and each kind of mistake is named."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.gcp import discovery

PATH = "/compute/v1/projects/lab/zones/europe-west4-a/instances"
APIS = ("compute.v1", "cloudresourcemanager.v3")
GOOD: dict[str, Any] = {
    "name": "fab-1",
    "machineType": "zones/europe-west4-a/machineTypes/g2-standard-4",
    "labels": {"fabric-owner": "lab"},
    "disks": [{"boot": True, "autoDelete": True, "initializeParams": {"diskSizeGb": "200"}}],
    "scheduling": {"provisioningModel": "SPOT", "maxRunDuration": {"seconds": "60"}, "automaticRestart": False},
    "metadata": {"items": [{"key": "user-data", "value": "#!/bin/sh"}]},
}
INSERT, GIVEN = discovery.find("POST", PATH, *APIS) or pytest.fail("there is no insert")


def complaints(body: Any, **query: str) -> list[str]:
    return list(discovery.request_complaints(INSERT, GIVEN, query, body))


def test_a_good_insert_has_no_complaint():
    assert INSERT.method_id == "compute.instances.insert"
    assert complaints(GOOD, requestId="8f6e2f1a-0000-4000-8000-000000000000") == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"machineTyp": "x"}, "there is no field 'machineTyp'"),
        ({"status": "RUNNING"}, "instance.status: it is read-only"),
        ({"id": "7"}, "id: it is read-only"),
        ({"creationTimestamp": "2026-01-01T00:00:00Z"}, "it is read-only"),
        ({"scheduling": {"provisioningModel": "CHEAP"}}, "'CHEAP' is none of"),
        ({"scheduling": {"onHostMaintenance": "terminate"}}, "'terminate' is none of"),
        ({"scheduling": {"automaticRestart": "false"}}, "'false' is not boolean"),
        ({"scheduling": {"maxRunDuration": {"seconds": 60}}}, "60 is not text"),
        ({"disks": [{"initializeParams": {"diskSizeGb": "20GB"}}]}, "'20GB' is not int64"),
        ({"disks": {"boot": True}}, "is not a list"),
        ({"disks": [{"index": 0}]}, "index: it is read-only"),
        ({"disks": [{"interface": "IDE"}]}, "'IDE' is none of"),
        ({"networkInterfaces": [{"accessConfigs": [{"type": "NAT"}]}]}, "'NAT' is none of"),
        ({"networkInterfaces": [{"name": "nic0"}]}, "name: it is read-only"),
        ({"guestAccelerators": [{"acceleratorCount": "1"}]}, "'1' is not integer"),
        ({"guestAccelerators": [{"acceleratorCount": True}]}, "True is not integer"),
        ({"guestAccelerators": [{"acceleratorCount": 2**40}]}, "is not int32"),
        ({"labels": ["a"]}, "is not an object"),
        ({"labels": {"a": None}}, "None is not text"),
        ({"labelFingerprint": "not base64!"}, "is not base64"),
        ({"name": "Fab_1"}, "'Fab_1' is not"),
        ({"metadata": {"items": [{"key": "user-data"}]}}, "'value' is required"),
    ],
    ids=str,
)
def test_a_bad_insert_is_named(change: dict[str, Any], words: str):
    found = complaints({**GOOD, **change})
    assert len(found) == 1
    assert words.removeprefix("instance.") in found[0]


def test_required_fields_and_bodies_are_required():
    assert complaints({"machineType": "x"}) == ["compute.instances.insert: the field 'name' is required"]
    assert complaints(None) == ["compute.instances.insert: the body is missing"]


def test_parameters_are_held_to_their_names_types_and_patterns():
    assert complaints(GOOD, request_id="x") == ["compute.instances.insert: there is no parameter 'request_id'"]
    method, given = discovery.find("GET", "/compute/v1/projects/lab/aggregated/instances", *APIS) or pytest.fail("none")
    assert list(discovery.request_complaints(method, given, {"maxResults": "many"}, None))
    assert list(discovery.request_complaints(method, {"project": "Lab!"}, {}, None))
    assert list(discovery.request_complaints(method, {}, {}, None)) == [
        "compute.instances.aggregatedList: the parameter 'project' is missing"
    ]
    assert list(discovery.request_complaints(method, given, {}, {})) == [
        "compute.instances.aggregatedList: it takes no body"
    ]


def test_replies_are_judged_too_and_may_have_read_only_fields():
    good = {"kind": "compute#operation", "id": "12", "status": "DONE", "operationType": "insert"}
    assert list(discovery.response_complaints(INSERT, good)) == []
    for bad in ({"status": "FINISHED"}, {"id": 12}, {"state": "DONE"}, {"kind": "compute#instance"}, {"progress": 1.5}):
        assert list(discovery.response_complaints(INSERT, {**good, **bad})), bad


def test_refusals_have_google_s_form():
    item = {"message": "no", "domain": "global", "reason": "forbidden"}
    good = {"error": {"code": 403, "message": "no", "errors": [item]}}
    assert list(discovery.error_complaints(403, good)) == []
    assert list(discovery.error_complaints(404, good))
    assert list(discovery.error_complaints(403, {"message": "no"}))
    assert list(discovery.error_complaints(403, {"error": {"code": 403, "message": "no"}}))


def test_field_masks_name_fields_that_there_are():
    method, _ = discovery.find("GET", "/compute/v1/projects/lab/aggregated/instances", *APIS) or pytest.fail("none")
    assert list(discovery.mask_complaints(method, "nextPageToken,items/*/instances/networkInterfaces/networkIP")) == []
    assert list(discovery.mask_complaints(method, "items/*/instances/networkInterfaces/ip"))


def test_addresses_that_nobody_describes_are_found_nowhere():
    assert discovery.find("PATCH", PATH, *APIS) is None
    assert discovery.find("GET", "/compute/v2/projects/lab", *APIS) is None
    method, given = discovery.find("POST", "/v3/projects/lab:testIamPermissions", *APIS) or pytest.fail("none")
    assert (method.method_id, given) == (
        "cloudresourcemanager.projects.testIamPermissions",
        {"resource": "projects/lab"},
    )
