"""What is to go wrong, and how often. A fault is a dictionary, so that it can be sent to a server in another process.

``kind`` is one of

* ``refuse``: the call ``method`` is refused with ``status`` and ``reason``, before anything happens;
* ``operation``: the call is accepted and its operation fails with ``code``; with ``leftover`` its disk stays;
* ``lose_reply``: the call is carried out and the connection closed;
* ``ignore_delete``: an operation begins, ends well, and nothing has happened;
* ``hide_new``: instances made from now on are listed only after ``seconds``;
* ``slow_operation``: operations take ``seconds``;
* ``unreachable``: the zones ``values`` do not answer to listings;
* ``full``: the zones ``values`` have no room for a bulk insert;
* ``denied``: the permissions ``values`` are not granted;
* ``quota_used``: usage by metric in ``values``;
* ``no_resource_manager``: that API answers 404;
* ``no_masks``: a field mask is refused.
"""

from __future__ import annotations

import time
from typing import Any

Fault = dict[str, Any]


class Faults:
    """The faults in force; those with ``times`` count down."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """From now on."""
        self._faults.append({**fault, "_since": time.time()})

    def clear(self) -> None:
        """All is well again."""
        self._faults.clear()

    def take(self, kind: str, method: str) -> Fault | None:
        """The next fault of a kind that strikes this call; it is used up."""
        for fault in self._faults:
            if fault["kind"] == kind and method in fault.get("methods", (method,)) and fault.get("times", 1) > 0:
                fault["times"] = fault.get("times", 1) - 1
                return fault
        return None

    def on(self, kind: str) -> bool:
        """Whether a lasting fault is in force."""
        return any(fault["kind"] == kind for fault in self._faults)

    def seconds(self, kind: str, otherwise: float) -> float:
        """Its ``seconds``."""
        return next((fault["seconds"] for fault in self._faults if fault["kind"] == kind), otherwise)

    def values(self, kind: str) -> Any:
        """Its ``values``."""
        return next((fault["values"] for fault in self._faults if fault["kind"] == kind), {})

    def hidden_since(self) -> float:
        """Unix seconds; what was made since is not listed."""
        for fault in self._faults:
            if fault["kind"] == "hide_new" and time.time() < fault["_since"] + fault["seconds"]:
                return fault["_since"]
        return float("inf")
