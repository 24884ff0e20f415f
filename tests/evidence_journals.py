"""Journals with jobs in them, for the tests of evidence: made by the real chain, in memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import strategies as st

from fabric.evidence.document import Evidence
from fabric.evidence.extract import extract
from fabric.evidence.keys import sign
from fabric.journal.base import GENESIS, Draft, Entry
from fabric.journal.chain import canonical, link
from fabric.model.events import Event

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
START_US = 1_790_000_000_000_000
RULES: dict[str, Any] = {
    "default": "home-only",
    "classes": {
        "patient": {"sites": ["home"], "spot": "never"},
        "internal": {"sites": {"country": "de"}, "spot": "never"},
        "open": {"sites": "any", "spot": "allowed"},
    },
    "sites": {
        "home": {"kind": "onprem", "labels": {"country": "de"}},
        "near": {"kind": "sandbox", "labels": {"country": "de"}},
        "far": {"kind": "aws", "labels": {"country": "us"}, "image": "ami-0123456789abcdef0"},
    },
    "teams": {"vision": "internal", "clinic": "patient"},
    "datasets": {},
}
ALLOWED = {"patient": ["home"], "internal": ["home", "near"], "open": ["far", "home", "near"], "home-only": ["home"]}


def chained(drafts: Iterable[Draft]) -> list[Entry]:
    """The drafts as a journal: one entry a second."""
    found: list[Entry] = []
    previous = GENESIS
    for number, draft in enumerate(drafts, 1):
        item = link(
            draft,
            canonical(draft.data),
            seq=number,
            at_us=START_US + number * 1_000_000,
            actor="tester",
            previous=previous,
        )
        previous = item.hash
        found.append(item.to_entry())
    return found


def started(rules: dict[str, Any] = RULES) -> Draft:
    return Draft(Event.FABRIC_STARTED, {"process": "controller", "pid": 1, "config_digest": "d", "rules": rules})


def joined(machine: str, site: str) -> Draft:
    if site == "home":
        return Draft(Event.ONPREM_NODE_SEEN, {"node": machine, "node_type": "home.box"})
    facts = {"token": machine, "site": site, "python": "3.11.7", "ray": "2.60.0", "hostname": f"host-{machine}"}
    return Draft(Event.NODE_JOINED, {**facts, "node_type": f"{site}.g", "nonce_sha256": "", "lease_until": 0.0})


def token(name: str, user: str, team: str) -> Draft:
    facts = {"id": name, "user": user, "team": team, "roles": ["user"], "sha256": "0" * 64, "expires_at": None}
    return Draft(Event.TOKEN_CREATED, {**facts, "by": "ops"})


def submitted(job: str, data_class: str, user: str = "mia", team: str = "vision", token_id: str = "t1") -> Draft:
    return Draft(
        Event.JOB_SUBMITTED,
        {
            "job": job,
            "user": user,
            "team": team,
            "token_id": token_id,
            "data_class": data_class,
            "needs": {},
            "submission": {"entrypoint": f"python secret_of_{job}.py", "metadata": {"a": 1.5, "é": None}},
            "code": {f"gcs://_ray_pkg_{job}.zip": "ab" * 32},
        },
        once=f"job:{job}",
    )


def admitted(job: str, attempt: int, sites: list[str]) -> Draft:
    facts = {"job": job, "attempt": attempt, "ray_id": f"{job}.{attempt}", "sites": sites, "selector": {}}
    return Draft(Event.JOB_ADMITTED, {**facts, "reasons": [], "price_per_hour": 0})


def begun(job: str, attempt: int) -> Draft:
    return Draft(
        Event.JOB_STARTED, {"job": job, "attempt": attempt, "ray_id": f"{job}.{attempt}", "ray_job_id": "01000000"}
    )


def ran_on(job: str, attempt: int, machine: str, site: str, first_s: float = 1.0, last_s: float = 2.0) -> Draft:
    return Draft(
        Event.JOB_RAN_ON,
        {
            "job": job,
            "attempt": attempt,
            "ray_node_id": f"node-{machine}",
            "instance": machine,
            "site": site,
            "node_type": f"{site}.g",
            "market": "owned" if site == "home" else "on-demand",
            "first_s": first_s,
            "last_s": last_s,
        },
    )


def denied(job: str, machine: str, site: str, data_class: str) -> Draft:
    facts = {"job": job, "ray_job_id": "01000000", "token": machine, "site": site, "data_class": data_class}
    return Draft(Event.JOB_DENIED, {**facts, "sentence": f"Data of class {data_class} may not go to {site}."})


def attempt_ended(job: str, attempt: int, end: str = "succeeded") -> Draft:
    facts = {"job": job, "attempt": attempt, "end": end, "message": "", "cause": "", "retry_at": None}
    return Draft(Event.ATTEMPT_ENDED, facts)


def finished(job: str, phase: str = "succeeded") -> Draft:
    return Draft(Event.JOB_FINISHED, {"job": job, "phase": phase, "message": ""})


MACHINES = {"onprem/home/a": "home", "onprem/home/b": "home", "fab-near-1": "near", "fab-far-1": "far"}


def good_story(job: str, data_class: str, machines: list[str], attempts: int = 1) -> list[Draft]:
    """A job from its submission to its end."""
    story = [submitted(job, data_class)]
    for attempt in range(1, attempts + 1):
        story += [admitted(job, attempt, ALLOWED[data_class]), begun(job, attempt)]
        story += [ran_on(job, attempt, machine, MACHINES[machine]) for machine in machines]
        story.append(attempt_ended(job, attempt, "succeeded" if attempt == attempts else "lost"))
    return [*story, finished(job)]


def opening() -> list[Draft]:
    """What every journal here begins with."""
    return [
        started(),
        token("t1", "mia", "vision"),
        token("t2", "noa", "clinic"),
        *(joined(machine, site) for machine, site in MACHINES.items()),
    ]


def evidence(drafts: Iterable[Draft], job: str) -> Evidence:
    return sign(extract(chained(drafts), job, "lab", 1_790_000_500.25), KEY)


@st.composite
def stories(draw: st.DrawFn) -> tuple[list[Draft], str, bool]:
    """A journal in which several jobs are interleaved, the name of one, and whether that one kept to its class."""
    names = draw(st.lists(st.sampled_from(["job-a", "job-b", "raysubmit_1", "ü\n"]), min_size=1, unique=True))
    threads: list[list[Draft]] = []
    kept: dict[str, bool] = {}
    for name in names:
        data_class = draw(st.sampled_from(sorted(ALLOWED)))
        machines = draw(st.lists(st.sampled_from(sorted(MACHINES)), max_size=4))
        kept[name] = all(MACHINES[machine] in ALLOWED[data_class] for machine in machines)
        story = good_story(name, data_class, machines, draw(st.integers(1, 3)))
        if draw(st.booleans()):
            story.insert(-1, denied(name, "fab-far-1", "far", data_class))
        threads.append(story[: draw(st.integers(1, len(story)))] if draw(st.booleans()) else story)
        kept[name] = kept[name] or not any(draft.kind == Event.JOB_RAN_ON for draft in threads[-1])
    threads.append([Draft(Event.LEASE_RENEWED, {"token": "fab-near-1", "until": 1.0})] * draw(st.integers(0, 5)))
    mixed = opening()
    while any(threads):
        thread = draw(st.sampled_from([thread for thread in threads if thread]))
        mixed.append(thread.pop(0))
    chosen = draw(st.sampled_from(names))
    own = [draft for draft in mixed if draft.data.get("job") == chosen]
    data_class = own[0].data["data_class"]
    good = all(draft.data["site"] in ALLOWED[data_class] for draft in own if draft.kind == Event.JOB_RAN_ON)
    return mixed, chosen, good
