"""What a job's entries say, as one object that people read: a pure function, computed again by whoever verifies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fabric.config.schema import Config
from fabric.journal.base import Entry
from fabric.model.events import Event
from fabric.model.nodes import Market
from fabric.sovereignty.record import UnreadableRulesError, config_of, image_of
from fabric.sovereignty.rules import Rule, Verdict, allowed_sites, verdict
from fabric.sovereignty.widen import rules_in

Json = dict[str, Any]
_HOME_PREFIX = "onprem/"


@dataclass(frozen=True, slots=True)
class _Rules:
    """Rules in force: the entry they are in, as written, and as what verdicts are computed from."""

    seq: int
    record: Mapping[str, Any]
    config: Config


@dataclass(slots=True)
class _Reading:
    """What has been read so far.

    Attributes:
        rules: the rules in force.
        judged_by: by attempt, the rules in force when it was admitted: they made its selectors.
        joined: what a machine said of itself when it joined, by the machine's name.
    """

    rules: _Rules | None = None
    unreadable: str = ""
    submitted: Entry | None = None
    token: Entry | None = None
    attempts: dict[int, Json] = field(default_factory=dict[int, Json])
    judged_by: dict[int, _Rules | None] = field(default_factory=dict[int, "_Rules | None"])
    joined: dict[str, Entry] = field(default_factory=dict[str, Entry])
    nodes: dict[tuple[int, str], Json] = field(default_factory=dict[tuple[int, str], Json])
    denials: list[Json] = field(default_factory=list[Json])
    widened: list[Json] = field(default_factory=list[Json])
    findings: list[str] = field(default_factory=list[str])
    phase: str = "open"
    ended_at: float | None = None


def statement(entries: Sequence[Entry], job: str) -> Json:
    """What ``entries`` say about ``job``.

    Args:
        entries: of the journal, in order: the job's own, and those that say which rules were in force, who submitted
            it and which machines it was on.
        job: its submission id.

    Returns:
        A JSON object. ``findings`` are sentences about what should not have happened: empty in good order. ``gaps``
        are sentences about what the entries do not show.

    Raises:
        ValueError: the entries are not those of a job, or cannot be read; says which.
    """
    reading = _Reading()
    for entry in entries:
        try:
            _read(reading, entry, job)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"entry {entry.seq} ({entry.kind}) cannot be read: {error!r}") from error
    if reading.submitted is None:
        raise ValueError(f"no entry says that the job {job} was submitted")
    return _told(reading, reading.submitted, job)


def _read(reading: _Reading, entry: Entry, job: str) -> None:
    data = entry.data
    rules = rules_in(entry)
    if rules is not None:
        try:
            reading.rules, reading.unreadable = _Rules(entry.seq, rules, config_of(rules)), ""
        except UnreadableRulesError as error:
            reading.rules, reading.unreadable = None, str(error)
    elif entry.kind == Event.NODE_JOINED:
        reading.joined[data["token"]] = entry
    elif entry.kind == Event.ONPREM_NODE_SEEN:
        reading.joined.setdefault(data["node"], entry)
    elif entry.kind == Event.TOKEN_CREATED:
        reading.token = entry
    elif entry.kind == Event.CLASS_WIDENED:
        reading.widened.append({"entry": entry.seq, "at": entry.at, "sites": data["sites"], "spot": data["spot"]})
    elif data.get("job") == job:
        _read_job(reading, entry, data)


def _read_job(reading: _Reading, entry: Entry, data: Mapping[str, Any]) -> None:
    match entry.kind:
        case Event.JOB_SUBMITTED:
            reading.submitted = entry
        case Event.JOB_ADMITTED:
            _admit(reading, entry, data)
        case Event.JOB_STARTED:
            attempt = reading.attempts[data["attempt"]]
            attempt["started_at"] = attempt["started_at"] or entry.at
            attempt["ray_job_id"] = data["ray_job_id"] or attempt["ray_job_id"]
        case Event.JOB_RAN_ON:
            _ran_on(reading, entry, data)
        case Event.JOB_DENIED:
            facts = {key: data.get(key, "") for key in ("site", "token", "ray_job_id", "data_class", "sentence")}
            reading.denials.append({"entry": entry.seq, "at": entry.at, **facts})
        case Event.ATTEMPT_ENDED:
            reading.attempts[data["attempt"]] |= {"ended_at": entry.at, "end": data["end"]}
        case Event.JOB_FINISHED:
            reading.phase, reading.ended_at = data["phase"], entry.at
        case _:
            pass


def _admit(reading: _Reading, entry: Entry, data: Mapping[str, Any]) -> None:
    number = data["attempt"]
    data_class = _class_of(reading)
    reading.judged_by[number] = reading.rules
    config = reading.rules.config if reading.rules else None
    allowed = sorted(allowed_sites(config, data_class)) if config else []
    reading.attempts[number] = {
        "attempt": number,
        "ray_id": data["ray_id"],
        "ray_job_id": "",
        "admitted_at": entry.at,
        "started_at": None,
        "ended_at": None,
        "end": None,
        "sites": list(data["sites"]),
        "rules_entry": reading.rules.seq if reading.rules else None,
        "allowed_sites": allowed,
    }
    beyond = sorted(set(data["sites"]) - set(allowed))
    if config and beyond:
        reading.findings.append(
            f"Entry {entry.seq} admits attempt {number} to {', '.join(beyond)}, where data of class {data_class} "
            f"may not go by the rules of that time (entry {reading.attempts[number]['rules_entry']})."
        )


def _ran_on(reading: _Reading, entry: Entry, data: Mapping[str, Any]) -> None:
    key = (data["attempt"], data["ray_node_id"])
    known = reading.nodes.get(key)
    if known is not None and known["site"] == data["site"]:
        known["first_s"] = min(known["first_s"], data["first_s"])
        known["last_s"] = max(known["last_s"], data["last_s"])
        return
    joined = reading.joined.get(data["instance"])
    answer, rules = _judge(reading, data), reading.judged_by.get(data["attempt"])
    reading.nodes[key if known is None else (data["attempt"], f"{data['ray_node_id']} {entry.seq}")] = {
        "entry": entry.seq,
        "attempt": data["attempt"],
        "ray_node_id": data["ray_node_id"],
        "instance": data["instance"],
        "site": data["site"],
        "node_type": data["node_type"],
        "market": data["market"],
        "first_s": data["first_s"],
        "last_s": data["last_s"],
        "python": str(joined.data.get("python", "")) if joined else "",
        "ray": str(joined.data.get("ray", "")) if joined else "",
        "hostname": str(joined.data.get("hostname", "")) if joined else "",
        "image": image_of(rules.record, data["site"]) if rules else "",
        "allowed": answer.allowed,
        "rule": answer.rule.value,
        "sentence": answer.sentence,
    }
    where = f"Entry {entry.seq}: attempt {data['attempt']} ran on node {data['ray_node_id']}"
    if not answer.allowed:
        reading.findings.append(f"{where} at site {data['site'] or 'unknown'}. {answer.sentence}")
    said = _site_of(data["instance"], joined)
    if said is not None and said != data["site"]:
        reading.findings.append(f"{where}, written as of site {data['site']}, but that machine is of site {said}.")


def _judge(reading: _Reading, data: Mapping[str, Any]) -> Verdict:
    rules = reading.judged_by.get(data["attempt"])
    if rules is None:
        return Verdict(False, Rule.UNKNOWN_SITE, "The rules of that time are not known, and so nothing is allowed.")
    market = next((market for market in Market if market.value == data["market"]), Market.SPOT)
    return verdict(rules.config, _class_of(reading), data["site"], market)


def _site_of(instance: str, joined: Entry | None) -> str | None:
    """Where a machine stands by what else is known of it; None where nothing is."""
    if instance.startswith(_HOME_PREFIX):
        return instance.removeprefix(_HOME_PREFIX).partition("/")[0]
    return joined.data.get("site") if joined else None


def _class_of(reading: _Reading) -> str:
    return "" if reading.submitted is None else reading.submitted.data["data_class"]


def _told(reading: _Reading, submitted: Entry, job: str) -> Json:
    data = submitted.data
    return {
        "job": job,
        "user": data["user"],
        "team": data["team"],
        "token_id": str(data.get("token_id", "")),
        "token": _token(reading.token),
        "submitted_at": submitted.at,
        "data_class": data["data_class"],
        "rule": _rule(reading, data["data_class"]),
        "code": dict(data["code"]),
        "phase": reading.phase,
        "ended_at": reading.ended_at,
        "attempts": list(reading.attempts.values()),
        "nodes": list(reading.nodes.values()),
        "denials": reading.denials,
        "widened": reading.widened,
        "findings": reading.findings,
        "gaps": _gaps(reading, data),
    }


def _token(entry: Entry | None) -> Json | None:
    if entry is None:
        return None
    return {"entry": entry.seq, "created_at": entry.at} | {
        key: entry.data[key] for key in ("user", "team", "roles", "by", "expires_at")
    }


def _rule(reading: _Reading, data_class: str) -> Json | None:
    """The rule of the first admission, or of the last entry where there was none."""
    rules = next((rules for rules in reading.judged_by.values() if rules), reading.rules)
    if rules is None:
        return None
    block = rules.config.data_classes.get(data_class)
    return {
        "entry": rules.seq,
        "class": None if block is None else block.model_dump(mode="json"),
        "allowed_sites": sorted(allowed_sites(rules.config, data_class)),
    }


def _gaps(reading: _Reading, data: Mapping[str, Any]) -> list[str]:
    gaps: list[str] = []
    if reading.phase == "open":
        gaps.append("The job was not over at the last entry of the journal: it may have touched more nodes since.")
    if reading.unreadable:
        gaps.append(f"No verdict can be computed: {reading.unreadable}.")
    for number, attempt in reading.attempts.items():
        if reading.judged_by[number] is None:
            gaps.append(f"The journal does not say which rules were in force when attempt {number} was admitted.")
        if attempt["started_at"] is not None and not any(key[0] == number for key in reading.nodes):
            gaps.append(
                f"Attempt {number} was started, and no node is written for it: it ran no task, or was not seen."
            )
    if not data.get("token_id"):
        gaps.append("The journal does not say with which token it was submitted.")
    return gaps
