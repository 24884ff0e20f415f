"""What happened to data in a period, for an auditor: a pure fold over the journal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fabric.config.schema import Config
from fabric.journal.base import Entry, Head
from fabric.journal.chain import EMPTY
from fabric.model.events import Event
from fabric.model.nodes import Market
from fabric.sovereignty.record import UnreadableRulesError, config_of
from fabric.sovereignty.rules import verdict
from fabric.sovereignty.widen import rules_in

Json = dict[str, Any]


@dataclass(slots=True)
class _Job:
    """What the report keeps of one job."""

    job: str
    user: str
    team: str
    data_class: str
    submitted_at: float
    phase: str = "open"
    judged_by: Config | None = None
    told: bool = False
    nodes: dict[tuple[int, str, str], Json] = field(default_factory=dict[tuple[int, str, str], Json])


@dataclass(slots=True)
class Reporter:
    """Feed it every entry of a journal in order, then ask for the ``report``.

    Attributes:
        begin, end: Unix seconds; an entry belongs to the period from ``begin`` on and before ``end``.
    """

    begin: float
    end: float
    head: Head = EMPTY
    _config: Config | None = None
    _rules: Mapping[str, Any] | None = None
    _jobs: dict[str, _Job] = field(default_factory=dict[str, _Job])
    _denials: list[Json] = field(default_factory=list[Json])
    _widened: list[Json] = field(default_factory=list[Json])
    _changes: list[Json] = field(default_factory=list[Json])
    _access: list[Json] = field(default_factory=list[Json])

    def take(self, entry: Entry) -> None:
        """Look at one entry. What comes after the period is not taken in."""
        if entry.at >= self.end:
            return
        self.head = Head(entry.seq, entry.hash)
        data, within = entry.data, entry.at >= self.begin
        rules = rules_in(entry)
        if rules is not None:
            self._take_rules(entry, rules, within)
        elif entry.kind == Event.CONFIG_REJECTED and within:
            sentences = [f"refused: {problem}" for problem in data.get("problems", [])]
            self._changes.append({**_place(entry), "digest": str(data.get("digest", "")), "changes": sentences})
        elif entry.kind == Event.CLASS_WIDENED and within:
            facts = {key: data.get(key) for key in ("data_class", "sites", "spot", "path", "digest")}
            self._widened.append({**_place(entry), **facts})
        elif entry.kind in (Event.TOKEN_CREATED, Event.TOKEN_REVOKED) and within:
            facts = {key: data.get(key) for key in ("id", "user", "team", "roles", "by")}
            self._access.append({**_place(entry), "kind": entry.kind, **facts})
        elif entry.kind.startswith("job."):
            self._take_job(entry, within)

    def report(self, fabric: str, made_at: float) -> Json:
        """Everything about the period, as JSON.

        Args:
            fabric: the fabric's name.
            made_at: Unix seconds.
        """
        told = [job for job in self._jobs.values() if job.told]
        return {
            "format": "fabric-report/1",
            "fabric": fabric,
            "from": self.begin,
            "to": self.end,
            "made_at": made_at,
            "head": {"seq": self.head.seq, "hash": self.head.hash},
            "classes": _classes(told),
            "sites": _sites(told),
            "violations": [
                {"job": job.job, "data_class": job.data_class, **node}
                for job in told
                for node in job.nodes.values()
                if not node["allowed"]
            ],
            "denials": self._denials,
            "widened": self._widened,
            "config_changes": self._changes,
            "access": self._access,
            "jobs": [
                {
                    "job": job.job,
                    "user": job.user,
                    "team": job.team,
                    "data_class": job.data_class,
                    "submitted_at": job.submitted_at,
                    "phase": job.phase,
                    "sites": sorted({node["site"] for node in job.nodes.values()}),
                    "allowed": all(node["allowed"] for node in job.nodes.values()),
                }
                for job in told
            ],
        }

    def _take_rules(self, entry: Entry, rules: Mapping[str, Any], within: bool) -> None:
        try:
            self._config = config_of(rules)
        except UnreadableRulesError:
            self._config = None
        digest = str(entry.data.get("digest") or entry.data.get("config_digest") or "")
        sentences = [] if self._rules is None else rule_changes(self._rules, rules)
        if within and (sentences or entry.kind == Event.CONFIG_LOADED or self._rules is None):
            self._changes.append({**_place(entry), "digest": digest, "changes": sentences})
        self._rules = rules

    def _take_job(self, entry: Entry, within: bool) -> None:
        data, name = entry.data, str(entry.data.get("job", ""))
        if entry.kind == Event.JOB_DENIED and within:
            facts = {key: data.get(key) for key in ("job", "site", "data_class", "token", "sentence")}
            self._denials.append({**_place(entry), **facts})
        if entry.kind == Event.JOB_SUBMITTED:
            self._jobs.setdefault(name, _Job(name, data["user"], data["team"], data["data_class"], entry.at))
        job = self._jobs.get(name)
        if job is None:
            return
        job.told = job.told or within
        if entry.kind == Event.JOB_ADMITTED:
            job.judged_by = self._config
        elif entry.kind == Event.JOB_FINISHED:
            job.phase = data["phase"]
        elif entry.kind == Event.JOB_RAN_ON and (within or data["last_s"] >= self.begin):
            self._ran_on(job, data)

    def _ran_on(self, job: _Job, data: Mapping[str, Any]) -> None:
        market = next((market for market in Market if market.value == data["market"]), Market.SPOT)
        answer = None if job.judged_by is None else verdict(job.judged_by, job.data_class, data["site"], market)
        key = (data["attempt"], data["ray_node_id"], data["site"])
        known = job.nodes.get(key)
        first = max(self.begin, data["first_s"])
        job.nodes[key] = {
            "attempt": data["attempt"],
            "ray_node_id": data["ray_node_id"],
            "instance": data["instance"],
            "site": data["site"],
            "market": data["market"],
            "first_s": first if known is None else min(first, known["first_s"]),
            "last_s": min(self.end, data["last_s"] if known is None else max(data["last_s"], known["last_s"])),
            "allowed": answer is not None and answer.allowed,
            "sentence": answer.sentence if answer else "The rules of that time are not known.",
        }


def report(entries: Iterable[Entry], begin: float, end: float, fabric: str, made_at: float) -> Json:
    """The report of a period. See ``Reporter``."""
    reporter = Reporter(begin, end)
    for entry in entries:
        reporter.take(entry)
    return reporter.report(fabric, made_at)


def rule_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What an edit changed in where data may go, one sentence each."""
    found: list[str] = []
    if before.get("default") != after.get("default"):
        found.append(f"the default data class: {before.get('default')} → {after.get('default')}")
    for part, one in (("classes", "data class"), ("sites", "site"), ("teams", "team"), ("datasets", "data set")):
        old, new = before.get(part) or {}, after.get(part) or {}
        found += [f"{one} {name} was added: {_short(new[name])}" for name in sorted(new.keys() - old.keys())]
        found += [f"{one} {name} was removed" for name in sorted(old.keys() - new.keys())]
        found += [
            f"{one} {name}: {_short(old[name])} → {_short(new[name])}"
            for name in sorted(old.keys() & new.keys())
            if old[name] != new[name]
        ]
    return found


def _short(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_short(item)}" for key, item in value.items()) or "nothing"
    if isinstance(value, list):
        return " and ".join(map(str, value)) or "nothing"
    return "the default class" if value is None else str(value)


def _place(entry: Entry) -> Json:
    return {"entry": entry.seq, "at": entry.at}


def _classes(jobs: Iterable[_Job]) -> list[Json]:
    by_class: dict[str, list[_Job]] = {}
    for job in jobs:
        by_class.setdefault(job.data_class, []).append(job)
    return [
        {
            "data_class": name,
            "jobs": len(group),
            "phases": dict(sorted(Counter(job.phase for job in group).items())),
            "sites": sorted({node["site"] for job in group for node in job.nodes.values()}),
            "violations": sum(not node["allowed"] for job in group for node in job.nodes.values()),
        }
        for name, group in sorted(by_class.items())
    ]


def _sites(jobs: Iterable[_Job]) -> list[Json]:
    """By class, site and market: how many jobs, on how many machines, for how long in all."""
    rows: dict[tuple[str, str, str], list[tuple[str, Json]]] = {}
    for job in jobs:
        for node in job.nodes.values():
            rows.setdefault((job.data_class, node["site"], node["market"]), []).append((job.job, node))
    return [
        {
            "data_class": data_class,
            "site": site,
            "market": market,
            "jobs": len({name for name, _ in found}),
            "machines": len({node["instance"] or node["ray_node_id"] for _, node in found}),
            "seconds": round(sum(max(0.0, node["last_s"] - node["first_s"]) for _, node in found), 3),
            "allowed": all(node["allowed"] for _, node in found),
        }
        for (data_class, site, market), found in sorted(rows.items())
    ]
