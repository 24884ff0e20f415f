"""The judge itself: what Microsoft would refuse is complained of, and nothing else."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from autoscaler.providers.azure.request import machine
from tests.contract.azure import schema
from tests.contract.azure.conftest import MakeSpec
from tests.contract.azure.serving import site

pytestmark = pytest.mark.skipif(not schema.available(), reason="skipped: no vendor schemas")


@pytest.fixture
def good(spec: MakeSpec) -> dict[str, Any]:
    here = site({})
    return machine(here, here.node_types["small"], spec())


def complaints(body: Any) -> list[str]:
    return list(schema.request_complaints(body))


def test_what_the_provider_asks_for_is_well(good):
    assert complaints(good) == []


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (["sky"], 1, "no property 'sky'"),
        (["properties", "osProfile", "password"], "x", "no property 'password'"),
        (["properties", "provisioningState"], "Succeeded", "read-only"),
        (["id"], "/subscriptions/x", "read-only"),
        (["name"], "vm", "read-only"),
        (["properties", "priority"], "Cheap", "none of"),
        (["properties", "networkProfile", "networkApiVersion"], "1999-01-01", "none of"),
        (["properties", "storageProfile", "osDisk", "diskSizeGB"], "30", "not a number"),
        (["properties", "storageProfile", "osDisk", "diskSizeGB"], True, "not a number"),
        (["properties", "billingProfile"], {"maxPrice": "1"}, "not a number"),
        (["properties", "securityProfile", "uefiSettings", "vTpmEnabled"], "yes", "not true or false"),
        (["tags", "fabric-owner"], 7, "not text"),
        (["tags"], ["a"], "not an object"),
        (["zones"], "1", "not a list"),
        (["zones"], [1], "not text"),
    ],
)
def test_what_azure_would_refuse_is_complained_of(good, path, value, words):
    bad = copy.deepcopy(good)
    inner = bad
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    (complaint,) = complaints(bad)
    assert words in complaint


def test_what_is_missing_is_complained_of(good):
    del good["location"]
    del good["properties"]["storageProfile"]["osDisk"]["createOption"]
    assert sorted(complaints(good)) == [
        "Microsoft.Compute/virtualMachines.properties.storageProfile.osDisk: the property 'createOption' is required",
        "Microsoft.Compute/virtualMachines: the property 'location' is required",
    ]


def test_what_is_shown_has_its_name_and_no_version(good):
    shown = {**good, "id": "/subscriptions/x", "name": "vm", "type": schema.MACHINE}
    assert list(schema.response_complaints(shown)) == []
    assert list(schema.response_complaints({**shown, "apiVersion": "2026-04-01"}))
    del shown["name"]
    assert list(schema.response_complaints(shown))


def test_refusals_are_in_azure_s_form():
    assert list(schema.error_complaints(409, {"error": {"code": "Conflict", "message": "no"}})) == []
    assert list(schema.error_complaints(409, {"code": "Conflict", "message": "no"}))
    assert list(schema.error_complaints(409, {"error": {"code": 409, "message": "no"}}))
    assert list(schema.error_complaints(409, {"error": {"code": "Conflict", "message": "no", "reason": "x"}}))
