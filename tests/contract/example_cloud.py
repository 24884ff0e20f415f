"""The cloud of the example provider, in this process, and the hand on it that the contract suite wants."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autoscaler.providers.base import (
    CapacityError,
    CredentialsError,
    Provider,
    ProviderError,
    QuotaError,
    ThrottledError,
)
from autoscaler.providers.registry import GROUP, provider_for
from fabric.config.load import load
from fabric.config.schema import Config
from fabric.config.sites import OtherSite
from fabric.model.nodes import Offer
from tests.contract.clouds import Cloud
from tests.contract.example_provider import ERRORS

SITE = "elsewhere"
FILE = Path(__file__).resolve().parents[2] / "configs/examples/other-cloud.yaml"
SCRIPT_BYTES = 16 * 1024
_CALLS = {"launch": "create", "list": "all", "terminate": "end"}


@dataclass
class Machines:
    """Three calls; errors are ``RuntimeError(code)``, a lost connection is a ``ConnectionError``."""

    made: dict[str, dict[str, Any]] = field(default_factory=dict)
    refusals: list[tuple[str, str]] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)
    deaf: int = 0
    hide_s: float = 0.0
    lock: threading.RLock = field(default_factory=threading.RLock)

    def create(self, token: str, what: Mapping[str, Any]) -> dict[str, Any]:
        """The machine of a token, made if there is none."""
        with self.lock:
            known = self.made.get(token)
            self._refuse("create", new=known is None)
            if known is None:
                zones = {f"{SITE}.{key}/a/on-demand" for key in ("small", "large")}
                if what["type"] not in zones or len(what["script"]) > SCRIPT_BYTES:
                    raise RuntimeError("nonsense")
                now, shown = _now(), time.monotonic() + self.hide_s
                more = {"tags": what["tags"], "begun_ms": now, "ended_ms": None, "why": "", "shown": shown}
                known = {"id": f"m-{token}", "state": "running", "type": what["type"], **more}
                self.made[token] = known
            elif known["type"] != what["type"]:
                raise RuntimeError("nonsense")
            self._lose("create")
            return dict(known)

    def all(self) -> list[dict[str, Any]]:
        """Every machine there ever was."""
        with self.lock:
            self._refuse("all")
            return [dict(machine) for machine in self.made.values() if machine["shown"] <= time.monotonic()]

    def end(self, machine_id: str) -> None:
        """End a machine."""
        with self.lock:
            self._refuse("end")
            machine = next((one for one in self.made.values() if one["id"] == machine_id), None)
            if machine is None or machine["state"] == "ended":
                raise RuntimeError("gone")
            self.deaf -= 1
            if self.deaf < 0:
                machine |= {"state": "ended", "ended_ms": _now(), "why": "user"}
            self._lose("end")

    def _refuse(self, call: str, new: bool = True) -> None:
        for refusal in self.refusals:
            if refusal[0] == call and (new or refusal[1] not in ("sold out", "over limit")):
                self.refusals.remove(refusal)
                raise RuntimeError(refusal[1])

    def _lose(self, call: str) -> None:
        if self.lost[call] > 0:
            self.lost[call] -= 1
            raise ConnectionError("the connection broke off")


class Nobody:
    """A cloud that does not answer."""

    def __getattr__(self, call: str) -> Callable[..., Any]:
        def refuse(*_: Any) -> Any:
            raise ConnectionError(f"{call}: nobody answers")

        return refuse


REGIONS: dict[str, Machines] = {}


def connect(region: str) -> Any:
    """As an SDK does it: a client of a region, which may not be there."""
    return REGIONS.get(region, Nobody())


def site(region: str) -> OtherSite:
    """The site's block, as ``configs/examples/other-cloud.yaml`` has it."""
    config = load(FILE.read_bytes(), str(FILE))
    assert isinstance(config, Config), config
    block = config.sites[SITE]
    assert isinstance(block, OtherSite)
    return block.model_copy(update={"settings": {"region": region}})


class ExampleCloud(Cloud):
    """A hand on the machines."""

    node_types = frozenset({f"{SITE}.small", f"{SITE}.large"})
    stranger = "m-nobody"

    def __init__(self, machines: Machines) -> None:
        super().__init__()
        self._machines = machines

    def provider(self, owner: str | None = None, page_size: int = 200) -> Provider:  # noqa: ARG002 - it has one page
        return provider_for(SITE, site("here"), owner or self.owner)

    def nowhere(self) -> Provider:
        return provider_for(SITE, site("nowhere"), self.owner)

    def refuse(self, error: type[ProviderError], operation: str = "launch", times: int = 1) -> None:
        assert error in (CapacityError, QuotaError, ThrottledError, CredentialsError)
        code = next(code for code, kind in ERRORS.items() if kind is error)
        self._machines.refusals += [(_CALLS[operation], code)] * times

    def lose_reply(self, operation: str = "launch", times: int = 1) -> None:
        self._machines.lost[_CALLS[operation]] += times

    def ignore_terminate(self, times: int) -> None:
        self._machines.deaf = times

    def hide_new(self, seconds: float) -> None:
        self._machines.hide_s = seconds

    def clear(self) -> None:
        machines = self._machines
        machines.refusals.clear()
        machines.lost.clear()
        machines.deaf, machines.hide_s = 0, 0.0
        for machine in machines.made.values():
            machine["shown"] = 0.0

    def offer(self, runs: bool = False) -> Offer:  # noqa: ARG002 - they cost nothing and run at once
        return self.provider().offers()[0]


@contextmanager
def serve(folder: Path) -> Iterator[Callable[[], ExampleCloud]]:
    """See ``tests.contract.clouds``; the provider is installed as pip would, with an entry point."""
    installed = folder / "example_fabric_provider-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: example-fabric-provider\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text(f"[{GROUP}]\nexample = tests.contract.example_provider:from_site\n")
    sys.path.append(str(folder))
    machines = REGIONS["here"] = Machines()
    yield lambda: ExampleCloud(machines)
    sys.path.remove(str(folder))


def _now() -> int:
    return time.time_ns() // 1_000_000
