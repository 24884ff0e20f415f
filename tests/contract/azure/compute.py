"""Virtual machines with their disks, interfaces and addresses, and the operations that make and end them."""

from __future__ import annotations

import copy
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from tests.contract.azure.catalog import GROUP, GROUP_ID, READS, REGION, SUBSCRIPTION
from tests.contract.azure.refusal import Refusal
from tests.contract.azure.routes import Call
from tests.contract.azure.rules import refuse_nonsense
from tests.contract.gcp.faults import Faults

LASTS_S = 0.02
# Kinds of what is made with a machine.
PARTS = ("disks", "nics", "addresses")

Reply = tuple[int, Any, dict[str, str]]


class Compute:
    """One resource group.

    Args:
        kept: the state of an earlier process, or nothing.
        faults: what is to go wrong.
        clock: Unix seconds.
        base: the server's own address, for links.
    """

    def __init__(self, kept: dict[str, Any], faults: Faults, clock: Callable[[], float], base: str) -> None:
        empty: dict[str, Any] = {"machines": {}, "operations": {}, "number": 0, **{part: {} for part in PARTS}}
        self.state: dict[str, Any] = {**empty, **kept}
        self.faults = faults
        self.clock = clock
        self.page_size = 200
        self._base = base

    def answer(self, call: Call) -> Reply:
        """Status, body and headers of one call.

        Raises:
            Refusal: in Azure's words.
        """
        self.move_on()
        if call.given.get("subscription", SUBSCRIPTION) != SUBSCRIPTION:
            what = f"The subscription '{call.given['subscription']}' could not be found."
            raise Refusal(404, "SubscriptionNotFound", what)
        if call.given.get("group", GROUP).lower() != GROUP:
            what = f"Resource group '{call.given['group']}' could not be found."
            raise Refusal(404, "ResourceGroupNotFound", what)
        if (read := READS.get(call.route)) is not None:
            return 200, read(call, self.faults), {}
        return getattr(self, "_" + call.route.replace(".", "_"))(call)

    def move_on(self) -> None:
        """Finish the operations whose time has come."""
        for name, operation in list(self.state["operations"].items()):
            if operation["status"] == "InProgress" and operation["_due"] <= self.clock():
                self._finish(operation)
            elif operation["status"] != "InProgress" and operation["_due"] < self.clock() - 300:
                del self.state["operations"][name]

    def end_by_itself(self, name: str, how: str) -> None:
        """What happens to a machine that nobody asked for: ``evicted``, ``stopped`` or ``deallocated``."""
        self.move_on()
        machine = self.state["machines"][name]
        if how == "evicted" and machine["properties"].get("evictionPolicy") == "Delete":
            self._remove(name)
        else:
            machine["_power"] = "deallocated" if how == "evicted" else how

    # --- the calls

    def _machines_put(self, call: Call) -> Reply:
        name, body = call.given["name"], call.body
        if name in self.state["machines"]:
            assert call.headers.get("if-none-match") == "*", "a machine is only ever created"
            raise Refusal(412, "PreconditionFailed", f"The resource {name} exists: If-None-Match is not satisfied.")
        refuse_nonsense(body)
        if (fault := self.faults.take("no_room", call.route)) is not None:
            raise Refusal(fault["status"], fault["code"], fault["message"])
        machine = self._machine(name, copy.deepcopy(body))
        self.state["machines"][name] = machine
        operation = self._operation("create", name)
        if (fault := self.faults.take("operation", call.route)) is not None:
            operation["_error"] = {"code": fault["code"], "message": fault.get("message", "It failed.")}
        return 201, self._shown(machine), self._links(operation)

    def _machines_get(self, call: Call) -> Reply:
        machine = self._known(call.given["name"])
        return 200, self._shown(machine, with_view="$expand" in call.query), {}

    def _machines_list(self, call: Call) -> Reply:
        if "$expand" in call.query and "$filter" not in call.query:
            raise Refusal(400, "InvalidParameter", "$expand is taken with a $filter only.")
        after, hidden = int(call.query.get("$skiptoken", 0)), self.faults.hidden_since()
        every = sorted(self.state["machines"].values(), key=lambda one: one["_number"])
        left = [one for one in every if one["_number"] > after and not one["_made_at"] >= hidden]
        page = left[: self.page_size]
        reply: dict[str, Any] = {"value": [self._shown(one) for one in page]}
        if len(left) > len(page):
            path = f"{GROUP_ID}/providers/Microsoft.Compute/virtualMachines"
            more = f"api-version={call.query['api-version']}&%24skiptoken={page[-1]['_number']}"
            reply["nextLink"] = f"{self._base}{path}?{more}"
        return 200, reply, {}

    def _machines_delete(self, call: Call) -> Reply:
        name = call.given["name"]
        if name not in self.state["machines"]:
            return 204, None, {}
        operation = self._operation("delete", name)
        if self.faults.take("ignore_delete", call.route) is not None:
            operation["_nothing"] = True
        else:
            self.state["machines"][name]["properties"]["provisioningState"] = "Deleting"
            for other in self.state["operations"].values():
                # What is being made is given up at once.
                if other["_machine"] == name and other["_kind"] == "create":
                    other["_due"] = min(other["_due"], self.clock())
        return 202, None, self._links(operation)

    def _operations_get(self, call: Call) -> Reply:
        operation = self.state["operations"].get(call.given["operation"])
        if operation is None:
            raise Refusal(404, "NotFound", f"The operation {call.given['operation']} was not found.")
        headers = {"Retry-After": str(int(wait))} if (wait := self.faults.seconds("retry_after", 0)) else {}
        return 200, {key: value for key, value in operation.items() if not key.startswith("_")}, headers

    # --- how it works inside

    def _machine(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        self.state["number"] += 1
        properties = body["properties"]
        custom_data = properties["osProfile"].pop("customData")
        disk = properties["storageProfile"]["osDisk"]
        disk |= {"name": f"{name}_OsDisk_1_{uuid.uuid4().hex}", "osType": "Linux"}
        disk["managedDisk"]["id"] = self._part("disks", disk["name"], name, body["tags"], disk["deleteOption"])
        references: list[dict[str, Any]] = []
        for interface in properties["networkProfile"].pop("networkInterfaceConfigurations"):
            inner, tags = interface["properties"], interface.get("tags", {})
            link = self._part("nics", f"{interface['name']}-{uuid.uuid4().hex[:8]}", name, tags, inner["deleteOption"])
            references.append({"id": link, "properties": {"primary": True, "deleteOption": inner["deleteOption"]}})
            for address in inner["ipConfigurations"]:
                if public := address["properties"].get("publicIPAddressConfiguration"):
                    self._part("addresses", public["name"], name, tags, public["properties"]["deleteOption"])
        properties["networkProfile"] = {"networkInterfaces": references}
        properties |= {"provisioningState": "Creating", "vmId": str(uuid.uuid4()), "timeCreated": self._now()}
        return {
            **body,
            "id": f"{GROUP_ID}/providers/Microsoft.Compute/virtualMachines/{name}",
            "name": name,
            "type": "Microsoft.Compute/virtualMachines",
            "etag": '"1"',
            "_number": self.state["number"],
            "_made_at": time.time(),
            "_power": "starting",
            "_custom_data": custom_data,
        }

    def _part(self, kind: str, name: str, machine: str, tags: dict[str, str], delete_option: str) -> str:
        self.state[kind][name] = {"machine": machine, "tags": tags, "goes_with_it": delete_option == "Delete"}
        provider = {
            "disks": "Compute/disks",
            "nics": "Network/networkInterfaces",
            "addresses": "Network/publicIPAddresses",
        }
        return f"{GROUP_ID}/providers/Microsoft.{provider[kind]}/{name}"

    def _shown(self, machine: dict[str, Any], with_view: bool = False) -> dict[str, Any]:
        shown = {key: value for key, value in machine.items() if not key.startswith("_")}
        if not with_view:
            return shown
        state = machine["properties"]["provisioningState"]
        statuses = [{"code": f"ProvisioningState/{state.lower()}", "level": "Info", "displayStatus": state}]
        if state != "Failed":
            power = machine["_power"]
            statuses.append({"code": f"PowerState/{power}", "level": "Info", "displayStatus": f"VM {power}"})
        view = {"statuses": statuses, "hyperVGeneration": "V2"}
        return {**shown, "properties": {**shown["properties"], "instanceView": view}}

    def _operation(self, kind: str, machine: str) -> dict[str, Any]:
        name = str(uuid.uuid4())
        lasts = self.faults.seconds("slow_operation", LASTS_S) if kind == "create" else LASTS_S
        operation = {
            "name": name,
            "status": "InProgress",
            "startTime": self._now(),
            "_kind": kind,
            "_machine": machine,
            "_due": self.clock() + lasts,
        }
        self.state["operations"][name] = operation
        return operation

    def _links(self, operation: dict[str, Any]) -> dict[str, str]:
        path = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Compute/locations/{REGION}/operations"
        link = f"{self._base}{path}/{operation['name']}?p={uuid.uuid4()}&api-version=2026-04-01"
        wait = int(self.faults.seconds("retry_after", 0))
        return {"Azure-AsyncOperation": link, **({"Retry-After": str(wait)} if wait else {})}

    def _finish(self, operation: dict[str, Any]) -> None:
        operation |= {"status": "Succeeded", "endTime": self._now()}
        machine = self.state["machines"].get(operation["_machine"])
        error = operation.pop("_error", None)
        if operation.pop("_nothing", False) or machine is None:
            return
        properties = machine["properties"]
        if operation["_kind"] == "delete":
            self._remove(operation["_machine"])
        elif properties["provisioningState"] == "Deleting":
            words = {"code": "OperationPreempted", "message": "The operation has been preempted by a more recent one."}
            operation |= {"status": "Failed", "error": words}
        elif error is not None:
            operation |= {"status": "Failed", "error": error}
            properties["provisioningState"] = "Failed"
        else:
            properties["provisioningState"] = "Succeeded"
            machine["_power"] = "running"

    def _remove(self, name: str) -> None:
        self.state["machines"].pop(name, None)
        for kind in PARTS:
            for key, part in list(self.state[kind].items()):
                if part["machine"] == name and part["goes_with_it"]:
                    del self.state[kind][key]

    def _known(self, name: str) -> dict[str, Any]:
        if name not in self.state["machines"]:
            what = (
                f"The Resource 'Microsoft.Compute/virtualMachines/{name}' under resource group '{GROUP}' was not found."
            )
            raise Refusal(404, "ResourceNotFound", what)
        return self.state["machines"][name]

    def _now(self) -> str:
        now = datetime.fromtimestamp(self.clock(), UTC)
        return f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond:06d}4+00:00"
