"""What ``fabric doctor cloud`` can say of a Google Cloud site, and the smallest role that makes all of it well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from autoscaler.providers.base import Check, Instance
from autoscaler.providers.gcp.permissions import CALLS, SOMETIMES, everything, needed_by
from autoscaler.providers.gcp.quota import needs
from fabric.config.sites import GcpSite
from tests.conftest import wait_until
from tests.contract.gcp import rights
from tests.contract.gcp.serving import GcpServer, site

ROLE = YAML(typ="safe").load((Path(__file__).resolve().parents[3] / "configs/iam/gcp.yaml").read_text())
ACCOUNT = "fabric-node@lab-burst.iam.gserviceaccount.com"
EVERYTHING: dict[str, Any] = {
    "network": {"subnet": "burst", "security_groups": ["fabric-node"], "public_address": True},
    "service_account": ACCOUNT,
}


def failing(google: GcpServer, owner: str, image: str = "ubuntu", **more: Any) -> dict[str, Check]:
    checks = google.provider(owner, site=google.site(image, **more)).check()
    assert all(check.detail for check in checks)
    assert all(check.remedy for check in checks if not check.ok)
    return {check.name: check for check in checks if not check.ok}


def exercise(google: GcpServer, owner: str, where: GcpSite, spec) -> None:
    """Everything that a provider ever does at a site."""
    provider = google.provider(owner, site=where, scan_every_s=0.0)
    assert all(check.ok for check in provider.check())
    google.fault("operation", methods=["compute.instances.insert"], code="ZONE_RESOURCE_POOL_EXHAUSTED", leftover=True)
    provider.launch([spec()])
    (instance,) = [one for one in provider.launch([spec()]) if isinstance(one, Instance)]
    provider.list()
    provider.terminate([instance.instance_id])

    def gone() -> bool:
        return all(one.ended_at_ms is not None for one in provider.list())

    wait_until(gone, what="the end")


def test_the_role_is_exactly_what_the_calls_really_made_need(google, owner, spec):
    begin = len(google.ask("calls"))
    exercise(google, owner, google.site("family/fabric-node", **EVERYTHING), spec)
    exercise(google, owner, google.site("fabric-node-7"), spec)
    bulk = google.site()
    bulk = bulk.model_copy(update={"node_types": {"t4x2": bulk.node_types["t4x2"].model_copy(update={"bulk": True})}})
    chooses = google.provider(owner, site=bulk)
    (made,) = chooses.launch([spec(chooses.offers()[0])])
    assert isinstance(made, Instance)
    chooses.terminate([made.instance_id])
    calls = google.ask("calls")[begin:]

    needed = {one for call in calls for one in rights.needed(call["method"], call["given"], call["body"])}
    assert set(ROLE["includedPermissions"]) == needed
    assert {call["method"] for call in calls} == CALLS.keys()
    assert ROLE["includedPermissions"] == everything() == sorted(needed)
    assert {*SOMETIMES} <= needed


@pytest.mark.parametrize("image", ["ubuntu", "family/fabric-node"])
def test_a_site_needs_what_its_calls_need_and_no_more(google, owner, spec, image):
    more = {} if image == "ubuntu" else EVERYTHING
    where = google.site(image, **more)
    begin = len(google.ask("calls"))
    exercise(google, owner, where, spec)
    calls = google.ask("calls")[begin:]
    needed = {one for call in calls for one in rights.needed(call["method"], call["given"], call["body"])}

    # Which of the two an image needs is known only when it is looked at.
    either = {"compute.images.get", "compute.images.getFromFamily"}
    assert set(needed_by(where)) - either == needed - either


def test_each_missing_permission_is_named_and_only_those(google, owner):
    missing = ["compute.instances.create", "compute.disks.delete"]
    google.fault("denied", values=[*missing, "compute.instances.setServiceAccount"])
    found = failing(google, owner)

    assert set(found) == {f"permission {name}" for name in missing}, "this site has no service account to set"
    assert all("configs/iam/gcp.yaml" in check.remedy for check in found.values())


def test_what_a_missing_permission_refuses_is_told_beside_it(google, owner):
    google.fault("denied", values=["compute.machineTypes.get"])
    found = failing(google, owner)
    assert set(found) == {"permission compute.machineTypes.get", "shape l4x1", "shape t4x2", "shape small"}


def test_an_image_a_subnet_and_shapes_that_are_not_there_are_named(google, owner):
    found = failing(google, owner, image="no-such-image", network={"subnet": "no-such-subnet"})
    assert set(found) == {"image", "subnet"}
    assert "no-such-image" in found["image"].detail
    assert "no-such-subnet" in found["subnet"].detail

    here = google.site()
    block = here.node_types["t4x2"].model_copy(update={"accelerator": "nvidia-none"})
    checks = google.provider(owner, site=here.model_copy(update={"node_types": {"odd": block}})).check()
    (check,) = [check for check in checks if not check.ok]
    assert check.name == "shape odd"
    assert "nvidia-none" in check.detail


def test_quotas_count_what_may_still_be_launched(google, owner):
    google.fault("quota_used", values={"NVIDIA_L4_GPUS": 399.0, "CPUS": 1992.0})
    found = failing(google, owner)
    assert set(found) == {"quota l4x1 spot", "quota l4x1 on-demand", "quota t4x2 on-demand"}
    assert "NVIDIA_L4_GPUS has 1 left: room for 1 of 200 more" in found["quota l4x1 spot"].detail
    assert "CPUS has 8 left" in found["quota t4x2 on-demand"].detail


def test_what_an_instance_counts_against_is_named_as_google_names_it():
    here = site({"network": {"public_address": True}})
    block = here.node_types["l4x1"].model_copy(
        update={"instance_type": "a2-ultragpu-1g", "gpu": "A100-80GB", "gpus": 1, "cpus": 12}
    )
    assert needs(here, block) == {
        "A2_CPUS": 12,
        "NVIDIA_A100_80GB_GPUS": 1,
        "SSD_TOTAL_GB": 200,
        "IN_USE_ADDRESSES": 1,
    }


def test_an_endpoint_without_a_resource_manager_says_where_to_name_one(google, owner):
    google.fault("no_resource_manager")
    found = failing(google, owner)
    assert set(found) == {"permissions"}
    assert "iam_endpoint" in found["permissions"].remedy

    beside = google.site(iam_endpoint="http://127.0.0.1:9")
    checks = google.provider(owner, site=beside).check()
    assert [check.name for check in checks if not check.ok] == ["permissions"]


def test_a_project_that_does_not_exist_is_not_a_matter_of_credentials_alone(google, owner):
    here = google.site().model_copy(update={"project": "no-such-project"})
    (check, *_) = google.provider(owner, site=here).check()
    assert not check.ok
    assert "project" in check.remedy
