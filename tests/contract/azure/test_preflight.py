"""What ``fabric doctor cloud`` can say of an Azure site, and the smallest role that makes all of it well."""

from __future__ import annotations

import json
from typing import Any

import pytest

from autoscaler.providers.azure.permissions import ON_SUBSCRIPTION, everything, needed_by
from autoscaler.providers.base import Check, Instance
from fabric.config.sites import AzureSite
from tests.conftest import wait_until
from tests.contract.azure import routes
from tests.contract.azure.catalog import GALLERY, IMAGE, NSG, RESERVATION, ROLE, SUBNET
from tests.contract.azure.serving import AzureServer

EVERYTHING: dict[str, Any] = {"network": {"subnet": SUBNET, "security_groups": [NSG], "public_address": True}}


def failing(azure: AzureServer, owner: str, image: str = "ubuntu", **more: Any) -> dict[str, Check]:
    checks = azure.provider(owner, site=azure.site(image, **more)).check()
    assert all(check.detail for check in checks)
    assert all(check.remedy for check in checks if not check.ok)
    return {check.name: check for check in checks if not check.ok}


def exercise(azure: AzureServer, owner: str, where: AzureSite, spec) -> set[str]:
    """Everything that a provider ever does at a site; the permissions that its calls needed."""
    begin = len(azure.ask("calls"))
    provider = azure.provider(owner, site=where)
    assert all(check.ok for check in provider.check())
    azure.fault("operation", methods=["machines.put"], code="AllocationFailed", message="Allocation failed.")
    provider.launch([spec()])
    (instance,) = [one for one in provider.launch([spec()]) if isinstance(one, Instance)]
    provider.list()
    provider.terminate([instance.instance_id])
    wait_until(lambda: (provider.list(), not azure.of_owner(owner))[1], what="the end")
    calls = azure.ask("calls")[begin:]
    return {one for call in calls for one in routes.needed(call["route"], call["body"])}


def reserved(where: AzureSite) -> AzureSite:
    small = where.node_types["small"].model_copy(update={"reservation": RESERVATION})
    return where.model_copy(update={"node_types": {**where.node_types, "small": small}})


def test_the_role_is_exactly_what_the_calls_really_made_need(azure, owner, spec):
    needed = exercise(azure, owner, azure.site(GALLERY, **EVERYTHING), spec)
    needed |= exercise(azure, owner, reserved(azure.site(IMAGE)), spec)
    needed |= exercise(azure, owner, azure.site(), spec)

    role = json.loads(ROLE.read_text(encoding="utf-8"))
    assert role["Actions"] == sorted(needed) == everything()
    assert role["NotActions"] == []
    assert role["IsCustom"] is True


@pytest.mark.parametrize(("image", "more"), [("ubuntu", {}), (IMAGE, EVERYTHING), (GALLERY, {})])
def test_a_site_needs_what_its_calls_need_and_no_more(azure, owner, spec, image, more):
    where = azure.site(image, **more)
    needed = exercise(azure, owner, where, spec)
    assert {permission for _, permission in needed_by(where)} == needed - set(ON_SUBSCRIPTION)


def test_each_missing_permission_is_named_and_only_those(azure, owner):
    missing = [
        "Microsoft.Compute/virtualMachines/write",
        "Microsoft.Compute/disks/delete",
        "Microsoft.Network/virtualNetworks/subnets/join/action",
    ]
    azure.fault("denied", values=[*missing, "Microsoft.Network/publicIPAddresses/write"])
    found = failing(azure, owner)

    assert set(found) == {f"permission {name}" for name in missing}, "this site gives no public addresses"
    assert all("configs/iam/azure.json" in check.remedy for check in found.values())


@pytest.mark.parametrize(
    ("permission", "names"),
    [
        ("Microsoft.Authorization/permissions/read", {"permission Microsoft.Authorization/permissions/read"}),
        ("Microsoft.Resources/subscriptions/resourceGroups/read", {"resource group"}),
        ("Microsoft.Compute/virtualMachines/read", {"permission Microsoft.Compute/virtualMachines/read", "listing"}),
        ("Microsoft.Compute/locations/usages/read", {"quotas"}),
        (
            "Microsoft.Network/virtualNetworks/subnets/read",
            {"permission Microsoft.Network/virtualNetworks/subnets/read", "subnet"},
        ),
        ("Microsoft.Compute/locations/publishers/artifacttypes/offers/skus/versions/read", {"image"}),
    ],
)
def test_what_a_missing_permission_refuses_is_told_with_its_name(azure, owner, permission, names):
    azure.fault("denied", values=[permission])
    found = failing(azure, owner)
    assert set(found) == names
    assert all(permission in check.detail + check.remedy + check.name for check in found.values())


def test_a_group_a_subnet_a_security_group_and_an_image_that_are_not_there_are_named(azure, owner):
    elsewhere = azure.site().model_copy(update={"resource_group": "elsewhere"})
    checks = azure.provider(owner, site=elsewhere).check()
    assert [check.name for check in checks if not check.ok] == ["resource group"]

    nowhere = {"subnet": f"{SUBNET}-not", "security_groups": [f"{NSG}-not"]}
    found = failing(azure, owner, image=f"{IMAGE}-not", network=nowhere)
    assert set(found) == {"subnet", "security group", "image"}
    assert set(failing(azure, owner, image="Canonical:none:server:latest")) == {"image"}
    assert set(failing(azure, owner, network={})) == {"subnet"}


def test_quotas_that_are_used_up_are_named(azure, owner):
    azure.fault("quota_used", values={"lowPriorityCores": 400})
    found = failing(azure, owner)
    assert set(found) == {"quota lowPriorityCores"}
    assert "0 of 400" in found["quota lowPriorityCores"].detail
