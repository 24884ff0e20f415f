"""What the proxy before moto can be told to do wrong, and what it remembers."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field

# What the contract's operations are at AWS.
LAUNCHES = ("RunInstances", "CreateFleet")
APIS = {"launch": LAUNCHES, "list": ("DescribeInstances",), "terminate": ("TerminateInstances",)}


@dataclass
class Refusal:
    """An error that the next calls get."""

    apis: tuple[str, ...]
    code: str
    message: str
    status: int
    times: int
    zone: str = ""
    new_tokens_only: bool = False
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Faults:
    """Shared by the proxy's threads and the test; every method takes the lock."""

    refusals: list[Refusal] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)
    denied: set[str] = field(default_factory=set)
    deaf: int = 0
    fleet_errors: list[str] = field(default_factory=list)
    quotas: dict[str, float] = field(default_factory=dict)
    hide_s: float = 0.0
    hidden: dict[str, float] = field(default_factory=dict)
    skew_s: float = 0.0
    delay_s: float = 0.0
    lock: threading.RLock = field(default_factory=threading.RLock)

    def clear(self) -> None:
        """Forget all of it."""
        with self.lock:
            self.refusals.clear()
            self.lost.clear()
            self.denied.clear()
            self.hidden.clear()
            self.quotas.clear()
            self.fleet_errors = []
            self.deaf, self.hide_s, self.skew_s, self.delay_s = 0, 0.0, 0.0, 0.0

    def refusal(self, api: str, zone: str, new_token: bool) -> Refusal | None:
        """The refusal that this call gets, counted."""
        with self.lock:
            for refusal in self.refusals:
                fits = api in refusal.apis and refusal.zone in ("", zone)
                if fits and refusal.times > 0 and (new_token or not refusal.new_tokens_only):
                    refusal.times -= 1
                    return refusal
            return None

    def loses(self, api: str) -> bool:
        """Whether the reply to this call is lost, counted."""
        with self.lock:
            for operation, apis in APIS.items():
                if api in apis and self.lost[operation] > 0:
                    self.lost[operation] -= 1
                    return True
            return False

    def is_deaf(self) -> bool:
        """Whether this call to terminate does nothing, counted."""
        with self.lock:
            self.deaf -= 1
            return self.deaf >= 0
