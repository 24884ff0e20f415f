"""What the journal alone knows of the fabric: money always, and sites and nodes while the controller is down."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from autoscaler.core.configured import home_nodes
from autoscaler.core.lifecycle import InstanceRecord, Phase
from autoscaler.shell.book import Book, HomeState
from fabric.cli.run_dir import RunDir
from fabric.config.load import digest
from fabric.config.problems import Problems
from fabric.config.reload import read
from fabric.config.resolve import HEAD, node_types
from fabric.config.schema import Config
from fabric.journal.base import Entry, Journal
from fabric.model.nodes import Market, NodeType
from fabric.money.ledger import Ledger, Statement, fold

# Only the controller knows these: they are facts of its last tick.
_UNKNOWN = ("gpus", "queue", "baseline", "budgets", "refused_offers", "pid", "started_at", "last_tick")


class JournalAccount:
    """The journal's fold, kept up by reading its tail. It appends nothing.

    Args:
        journal: what to read.
        config: the configuration in force, with absolute paths.
        config_path: its file.
    """

    def __init__(self, journal: Journal, config: Config, config_path: Path) -> None:
        self._config = config
        self._config_path = config_path
        self._unread: list[Entry] = []
        self._newest: Entry | None = None
        self._ledger = Ledger()
        self._book = Book(journal, self._unread.append)

    def refresh(self) -> None:
        """Read what was appended since the last call.

        Raises:
            JournalUnavailableError: the journal cannot be read.
        """
        self._book.refresh()
        if self._unread:
            self._newest = self._unread[-1]
            self._ledger = fold(self._unread, self._ledger)
            self._unread.clear()

    def position(self) -> dict[str, Any]:
        """The newest entry that was read: ``seq`` and ``at``; 0 and None when there is none."""
        return {"seq": self._book.seq, "at": self._newest.at if self._newest is not None else None}

    def statement(self, now: float) -> Statement:
        """The ledger at ``now``, Unix seconds."""
        return self._ledger.statement(round(now * 1000))

    def status(self, now: float) -> dict[str, Any]:
        """The controller's ``/status`` as far as the journal can tell it; None where it cannot."""
        config, live, home = self._config, self._book.live(), self._book.home()
        kinds = {name: kind for name, kind in node_types(config).items() if name != HEAD}
        decided = self._book.last_decision
        return {
            "fabric": config.fabric.name,
            "at": now,
            "ok": False,
            "tick_error": "",
            "ray": {"address": f"{config.ray.address}:{config.ray.port}", "error": ""},
            "config": _config_state(self._config_path),
            "sites": self._sites(),
            "node_types": [self._node_type(kind, live.values(), home) for kind in kinds.values()],
            "nodes": [*self._home_rows(kinds, home), *(_launch_row(record) for record in live.values())],
            "spend_per_hour_micro_usd": self.statement(now).per_hour,
            "last_decision": {
                "seq": decided.seq if decided else 0,
                "at": decided.at if decided else 0.0,
                "sentences": list(decided.data.get("sentences", [])) if decided else [],
            },
            **dict.fromkeys(_UNKNOWN),
        }

    def _sites(self) -> list[dict[str, Any]]:
        stops = self._book.stops().items()
        return [
            {
                "name": name,
                "kind": site.kind,
                "error": "",
                "listed_at": None,
                "offers": None,
                "stopped": [
                    f"{stop.error}: {stop.sentence}"
                    for stopped, stop in stops
                    if stopped == name or stopped.startswith(f"{name}.")
                ],
            }
            for name, site in self._config.sites.items()
        ]

    def _node_type(
        self, kind: NodeType, live: Iterable[InstanceRecord], home: Mapping[str, HomeState]
    ) -> dict[str, Any]:
        phases = [record.phase for record in live if record.node_type == kind.name]
        coming = sum(phase.coming for phase in phases)
        observed = sum(phase in (Phase.RUNNING, Phase.DRAINING) for phase in phases)
        plan = observed + coming
        if not kind.launchable:
            machines = [node.node_id for node in home_nodes(self._config) if node.node_type == kind.name]
            plan, observed = len(machines), sum(name in home and home[name].alive for name in machines)
        return {
            "name": kind.name,
            "site": kind.site,
            "launchable": kind.launchable,
            "gpus": kind.resources.gpus,
            "cpus": kind.resources.cpus,
            "minimum": kind.minimum,
            "maximum": kind.maximum,
            "plan": plan,
            "requested": coming,
            "observed": observed,
            "ending": sum(phase is Phase.ENDING for phase in phases),
        }

    def _home_rows(self, kinds: Mapping[str, NodeType], home: Mapping[str, HomeState]) -> list[dict[str, Any]]:
        return [
            _row(
                id=node.node_id,
                instance=node.node_id,
                node_type=node.node_type,
                site=node.site,
                phase="running" if home[node.node_id].alive else "dead",
                gpus=kinds[node.node_type].resources.gpus,
                cpus=kinds[node.node_type].resources.cpus,
                since=home[node.node_id].since,
            )
            for node in home_nodes(self._config)
            if node.node_id in home
        ]


def _launch_row(record: InstanceRecord) -> dict[str, Any]:
    since = {
        Phase.REQUESTED: record.intended_at,
        Phase.BOOTING: record.accepted_at,
        Phase.RUNNING: record.joined_at,
        Phase.LOST: record.lost_at,
        Phase.ENDING: record.ending_at,
    }
    return _row(
        id=record.token,
        instance=record.token,
        token=record.token,
        node_type=record.node_type,
        site=record.site,
        phase=str(record.phase),
        ray_node_id=record.ray_node_id,
        since=since.get(record.phase),
        launched_at=record.intended_at,
        joined_at=record.joined_at,
        offer=record.offer,
        market=record.market,
        per_hour_micro_usd=record.tariff.per_hour,
    )


def _row(**known: Any) -> dict[str, Any]:
    """A node as the controller tells it; what only Ray knows is None."""
    return {
        "token": "",
        "is_head": False,
        "ray_node_id": "",
        "gpus": None,
        "gpus_free": None,
        "cpus": None,
        "cpus_free": None,
        "idle_s": None,
        "launched_at": None,
        "joined_at": None,
        "offer": "",
        "market": str(Market.OWNED),
        "per_hour_micro_usd": 0,
        **known,
    }


def _config_state(path: Path) -> dict[str, Any]:
    """The file's problems, and the digest of the text in force: that of the last good one while the file is bad."""
    loaded = read(path)
    problems = [str(problem) for problem in loaded.items] if isinstance(loaded, Problems) else []
    try:
        in_force = digest((RunDir.of(path).kept_config if problems else path).read_bytes())
    except OSError:
        in_force = ""
    return {"path": str(path), "digest": in_force, "problems": problems}
