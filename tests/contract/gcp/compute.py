"""A project in a pretend Compute Engine: what the real one does with the calls that the provider makes.

No sockets: ``server.py`` speaks HTTP before it and is the judge of both sides.
"""

from __future__ import annotations

import base64
import copy
import time
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

from tests.contract.gcp.catalog import BASE, IMAGES, PROJECT, READS, ZONES, Call, link_of, path_of
from tests.contract.gcp.faults import Faults
from tests.contract.gcp.listing import filtered, page
from tests.contract.gcp.refusal import Refusal
from tests.contract.gcp.rules import bulk_member, refuse_nonsense

# Google writes times in its own place's time.
THEIR_TIME = timezone(timedelta(hours=-8))

State = dict[str, Any]


class Compute:
    """One project.

    Args:
        state: what an earlier server kept, or nothing.
        faults: what is to go wrong.
        clock: Unix seconds.
    """

    def __init__(self, state: State, faults: Faults, clock: Callable[[], float]) -> None:
        self.state: State = state or {"instances": {}, "disks": {}, "operations": {}, "requests": {}, "number": 10**18}
        self.faults = faults
        self.clock = clock

    def answer(self, method: str, call: Call) -> dict[str, Any]:
        """Answer one call.

        Raises:
            Refusal: as Google refuses.
        """
        self.move_on()
        if call.given["project"] not in (PROJECT, *IMAGES):
            raise Refusal(404, "notFound", f"Failed to find project {call.given['project']}")
        if "zone" in call.given and call.given["zone"] not in ZONES:
            raise Refusal(400, "invalid", f"Invalid value for field 'zone': '{call.given['zone']}'. Unknown zone.")
        if method in READS:
            return READS[method](call)
        return getattr(self, "_" + method.removeprefix("compute.").replace(".", "_"))(call)

    def move_on(self) -> None:
        """Let everything happen whose time has come."""
        now = self.clock()
        for operation in list(self.state["operations"].values()):
            if operation["status"] != "DONE" and operation["_due"] <= now:
                self._finish(operation)

    def end_by_itself(self, name: str, kind: str) -> None:
        """What nobody asked for by a call: ``compute.instances.preempted``, ``compute.instances.guestTerminate``, …"""
        key = next(key for key in self.state["instances"] if key.endswith(f"/{name}"))
        instance = self.state["instances"][key]
        self._operation(key.partition("/")[0], kind, instance, lasts=0.0, user="system")
        if (
            instance["scheduling"].get("instanceTerminationAction") == "DELETE"
            and kind != "compute.instances.guestTerminate"
        ):
            self._remove(key)
        else:
            instance["status"] = "TERMINATED"
            instance["lastStopTimestamp"] = self._now()

    def give_address(self, name: str, address: str) -> None:
        """Let an instance show this address: that of a machine which really runs its boot script."""
        for key, instance in self.state["instances"].items():
            if key.endswith(f"/{name}"):
                instance["networkInterfaces"][0]["networkIP"] = address

    # --- instances

    def _instances_insert(self, call: Call) -> dict[str, Any]:
        zone, name = call.given["zone"], call.body["name"]
        if (known := self.state["requests"].get(f"{zone}/{call.query.get('requestId')}")) is not None:
            return _shown(self.state["operations"][known])
        refuse_nonsense(zone, call.body)
        key = f"{zone}/{name}"
        if key in self.state["instances"]:
            raise Refusal(409, "alreadyExists", f"The resource '{path_of(zone, 'instances', name)}' already exists")
        instance = self._instance(zone, copy.deepcopy(call.body))
        operation = self._operation(
            zone, "insert", instance, self.faults.seconds("slow_operation", 0.02), call.query.get("requestId")
        )
        failure = self.faults.take("operation", "compute.instances.insert")
        if f"{zone}/{call.body['disks'][0]['initializeParams']['diskName']}" in self.state["disks"]:
            failure = {"code": "RESOURCE_ALREADY_EXISTS", "message": "The disk exists already."}
        if failure is None or failure.get("leftover"):
            self._make_disk(zone, call.body["disks"][0], name, used=failure is None)
        if failure is None:
            self.state["instances"][key] = instance
        else:
            operation["_error"] = {"code": failure["code"], "message": failure.get("message", failure["code"])}
        return _shown(operation)

    def _regionInstances_bulkInsert(self, call: Call) -> dict[str, Any]:
        """One instance in the first zone that is allowed and not full; its own operation is in this one's group."""
        wanted, region = call.body, call.given["region"]
        if (known := self.state["requests"].get(f"{region}/{call.query.get('requestId')}")) is not None:
            return _shown(self.state["operations"][known])
        (name,) = wanted["perInstanceProperties"]
        policy = wanted["locationPolicy"]["locations"]
        allowed = [zone for zone in ZONES if policy.get(f"zones/{zone}", {}).get("preference", "ALLOW") == "ALLOW"]
        here = [zone for zone in allowed if zone.startswith(f"{region}-")]
        free = [zone for zone in here if zone not in self.faults.values("full")]
        target = {"selfLink": f"{BASE}/projects/{PROJECT}/regions/{region}", "id": "17"}
        lasts = self.faults.seconds("slow_operation", 0.02)
        operation = self._operation(region, "bulkInsert", target, lasts, call.query.get("requestId"))
        operation |= {"operationGroupId": uuid.uuid4().hex, "region": target["selfLink"]}
        del operation["zone"]
        if not free:
            operation["_error"] = {"code": "ZONE_RESOURCE_POOL_EXHAUSTED", "message": f"{', '.join(here)} are full."}
            return _shown(operation)
        body = bulk_member(wanted["instanceProperties"], name, free[0])
        refuse_nonsense(free[0], body)
        instance = self._instance(free[0], copy.deepcopy(body))
        self._operation(free[0], "insert", instance, lasts)["operationGroupId"] = operation["operationGroupId"]
        self._make_disk(free[0], body["disks"][0], name, used=True)
        self.state["instances"][f"{free[0]}/{name}"] = instance
        return _shown(operation)

    def _instances_get(self, call: Call) -> dict[str, Any]:
        return _shown(self._known("instances", call.given["zone"], call.given["instance"]))

    def _instances_delete(self, call: Call) -> dict[str, Any]:
        instance = self._known("instances", call.given["zone"], call.given["instance"])
        if instance["status"] == "STOPPING":
            raise Refusal(400, "resourceNotReady", f"The resource '{instance['selfLink']}' is not ready")
        operation = self._operation(call.given["zone"], "delete", instance, lasts=0.02)
        if self.faults.take("ignore_delete", "compute.instances.delete") is not None:
            operation["_nothing"] = True
        else:
            instance["status"] = "STOPPING"
        return _shown(operation)

    def _instances_aggregatedList(self, call: Call) -> dict[str, Any]:
        hidden = self.faults.hidden_since()
        shown = [one for one in self.state["instances"].values() if not one["_made_at"] >= hidden]
        return self._aggregated("instances", shown, call.query)

    # --- disks

    def _disks_aggregatedList(self, call: Call) -> dict[str, Any]:
        return self._aggregated("disks", list(self.state["disks"].values()), call.query)

    def _disks_delete(self, call: Call) -> dict[str, Any]:
        disk = self._known("disks", call.given["zone"], call.given["disk"])
        if disk.get("users"):
            what = f"The disk resource '{disk['selfLink']}' is already being used by '{disk['users'][0]}'"
            raise Refusal(400, "resourceInUseByAnotherResource", what)
        operation = self._operation(call.given["zone"], "delete", disk, lasts=0.02)
        return _shown(operation)

    # --- operations

    def _zoneOperations_get(self, call: Call) -> dict[str, Any]:
        key = f"{call.given['zone']}/{call.given['operation']}"
        if key not in self.state["operations"]:
            raise Refusal(
                404,
                "notFound",
                f"The resource '{path_of(call.given['zone'], 'operations', call.given['operation'])}' was not found",
            )
        return _shown(self.state["operations"][key])

    def _regionOperations_get(self, call: Call) -> dict[str, Any]:
        key = f"{call.given['region']}/{call.given['operation']}"
        if key not in self.state["operations"]:
            raise Refusal(404, "notFound", f"The resource 'projects/{PROJECT}/regions/{key}' was not found")
        return _shown(self.state["operations"][key])

    def _zoneOperations_list(self, call: Call) -> dict[str, Any]:
        here = [one for key, one in self.state["operations"].items() if key.startswith(f"{call.given['zone']}/")]
        items, following = page(filtered(here, call.query.get("filter", "")), call.query)
        link = f"{BASE}/projects/{PROJECT}/zones/{call.given['zone']}/operations"
        return {
            "kind": "compute#operationList",
            "id": link,
            "items": list(map(_shown, items)),
            "selfLink": link,
            **following,
        }

    # --- how it works inside

    def _instance(self, zone: str, body: dict[str, Any]) -> dict[str, Any]:
        number = self._number()
        address = f"10.164.{number // 250 % 250}.{number % 250 + 2}"
        disk = body["disks"][0]
        disk["source"] = link_of(zone, "disks", disk["initializeParams"]["diskName"])
        del disk["initializeParams"]
        for interface in body["networkInterfaces"]:
            interface |= {"networkIP": address, "name": "nic0", "kind": "compute#networkInterface"}
        return {
            **body,
            "kind": "compute#instance",
            "id": str(number),
            "creationTimestamp": self._now(),
            "zone": f"{BASE}/projects/{PROJECT}/zones/{zone}",
            "selfLink": link_of(zone, "instances", body["name"]),
            "status": "PROVISIONING",
            "labelFingerprint": base64.b64encode(b"labels").decode(),
            "_made_at": time.time(),
        }

    def _make_disk(self, zone: str, wanted: dict[str, Any], instance: str, used: bool) -> None:
        params = wanted["initializeParams"]
        self.state["disks"][f"{zone}/{params['diskName']}"] = {
            "kind": "compute#disk",
            "id": str(self._number()),
            "name": params["diskName"],
            "labels": params.get("labels", {}),
            "sizeGb": params["diskSizeGb"],
            "zone": f"{BASE}/projects/{PROJECT}/zones/{zone}",
            "selfLink": link_of(zone, "disks", params["diskName"]),
            "users": [link_of(zone, "instances", instance)] if used else [],
            "_auto_delete": wanted.get("autoDelete", False),
        }

    def _operation(
        self,
        zone: str,
        kind: str,
        target: dict[str, Any],
        lasts: float,
        request: str | None = None,
        user: str = "fabric@lab",
    ) -> dict[str, Any]:
        name = f"operation-{uuid.uuid4().hex}"
        operation = {
            "kind": "compute#operation",
            "id": str(self._number()),
            "name": name,
            "zone": f"{BASE}/projects/{PROJECT}/zones/{zone}",
            "operationType": kind,
            "targetLink": target["selfLink"],
            "targetId": target["id"],
            "status": "RUNNING" if lasts else "DONE",
            "user": user,
            "progress": 0 if lasts else 100,
            "insertTime": self._now(),
            "startTime": self._now(),
            "selfLink": link_of(zone, "operations", name),
            "_due": self.clock() + lasts,
        }
        if not lasts:
            operation["endTime"] = self._now()
        if request is not None:
            operation["clientOperationId"] = request
            self.state["requests"][f"{zone}/{request}"] = f"{zone}/{name}"
        self.state["operations"][f"{zone}/{name}"] = operation
        return operation

    def _finish(self, operation: dict[str, Any]) -> None:
        operation |= {"status": "DONE", "progress": 100, "endTime": self._now()}
        zone, _, rest = operation["targetLink"].partition("/zones/")[2].partition("/")
        kind, _, name = rest.partition("/")
        key = f"{zone}/{name}"
        if (error := operation.pop("_error", None)) is not None:
            operation |= {"error": {"errors": [error]}, "httpErrorStatusCode": 400, "httpErrorMessage": "BAD REQUEST"}
        elif operation.pop("_nothing", False):
            return
        elif operation["operationType"] == "insert" and key in self.state["instances"]:
            instance = self.state["instances"][key]
            if instance["status"] == "PROVISIONING":
                instance |= {"status": "RUNNING", "lastStartTimestamp": self._now()}
        elif operation["operationType"] == "delete" and kind == "instances":
            self._remove(key)
        elif operation["operationType"] == "delete":
            self.state["disks"].pop(key, None)

    def _remove(self, key: str) -> None:
        instance = self.state["instances"].pop(key, None)
        for disk_key, disk in list(self.state["disks"].items()):
            if instance is not None and disk["users"] == [instance["selfLink"]]:
                disk["users"] = []
                if disk["_auto_delete"]:
                    del self.state["disks"][disk_key]

    def _known(self, kind: str, zone: str, name: str) -> dict[str, Any]:
        try:
            return self.state[kind][f"{zone}/{name}"]
        except KeyError:
            raise Refusal(404, "notFound", f"The resource '{path_of(zone, kind, name)}' was not found") from None

    def _aggregated(self, kind: str, every: list[dict[str, Any]], query: dict[str, str]) -> dict[str, Any]:
        items, following = page(filtered(every, query.get("filter", "")), query)
        lost = self.faults.values("unreachable")
        scopes: dict[str, Any] = {}
        for zone in ZONES:
            here = [_shown(one) for one in items if one["zone"].endswith(f"/{zone}")]
            warning = {
                "code": "NO_RESULTS_ON_PAGE",
                "message": f"There are no results for scope 'zones/{zone}' on this page.",
            }
            if zone in lost:
                warning = {"code": "UNREACHABLE", "message": f"Failed to reach zones/{zone}."}
                here = []
            scopes[f"zones/{zone}"] = {kind: here} if here else {"warning": warning}
        link = f"{BASE}/projects/{PROJECT}/aggregated/{kind}"
        return {
            "kind": f"compute#{kind.removesuffix('s')}AggregatedList",
            "id": link,
            "items": scopes,
            "selfLink": link,
            **following,
        }

    def _number(self) -> int:
        self.state["number"] += 1
        return self.state["number"]

    def _now(self) -> str:
        return datetime.fromtimestamp(self.clock(), THEIR_TIME).isoformat(timespec="milliseconds")


def _shown(item: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in item.items() if not key.startswith("_")}
