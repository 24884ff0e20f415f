"""Every metric the fabric exports, in one table: what cannot be found here is not exported.

Prometheus conventions: counters end in ``_total``, units are in the name (``_seconds``, ``_usd_per_hour``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """How a metric behaves over time."""

    COUNTER = "counter"  # only grows, until the process restarts
    GAUGE = "gauge"  # goes up and down
    HISTOGRAM = "histogram"  # a distribution of seconds


@dataclass(frozen=True, slots=True)
class Metric:
    """One exported metric.

    Attributes:
        name: as Prometheus shows it.
        kind: counter, gauge or histogram.
        help: what it means, in a sentence.
        labels: names of its labels.
        buckets: upper bounds in seconds; histograms only.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_CLOUD = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

# controller
TICKS = Metric("fabric_ticks_total", Kind.COUNTER, "Ticks of the controller, by how they ended.", ("result",))
TICK_SECONDS = Metric("fabric_tick_seconds", Kind.HISTOGRAM, "Duration of a whole tick.", (), _FAST)
DECIDE_SECONDS = Metric("fabric_decide_seconds", Kind.HISTOGRAM, "Duration of the decision alone.", (), _FAST)
LAST_TICK = Metric("fabric_last_tick_timestamp_seconds", Kind.GAUGE, "Unix time at which the last tick ended well.")
NODES = Metric("fabric_nodes", Kind.GAUGE, "Nodes by node type and phase.", ("node_type", "phase"))
GPUS = Metric("fabric_gpus", Kind.GAUGE, "GPUs of joined nodes, by site and use.", ("site", "use"))
QUEUE_GPUS = Metric("fabric_queue_depth_gpus", Kind.GAUGE, "GPUs that free home capacity cannot hold.")
QUEUE_REQUESTS = Metric("fabric_queue_depth_requests", Kind.GAUGE, "Requests that free home capacity cannot hold.")
BURST_OPEN = Metric("fabric_burst_open", Kind.GAUGE, "1 while the baseline lets the burst buy.")
SPEND = Metric("fabric_spend_usd_per_hour", Kind.GAUGE, "Price of all burst nodes now, in dollars per hour.")
LAUNCHES = Metric("fabric_launches_total", Kind.COUNTER, "Launch attempts by site and result.", ("site", "result"))
TERMINATIONS = Metric("fabric_terminations_total", Kind.COUNTER, "Instances whose end was seen, by site.", ("site",))
REFUSED_TO_END = Metric(
    "fabric_refused_to_end_total",
    Kind.COUNTER,
    "Attempts to end a machine that is not ours to end; always 0.",
)
ORPHANS = Metric("fabric_orphans_total", Kind.COUNTER, "Instances nothing justified, by site.", ("site",))
CONFIG_PROBLEMS = Metric(
    "fabric_config_problems",
    Kind.GAUGE,
    "Problems of the last edit of the configuration; 0 when it was accepted.",
)
ONPREM_DEAD = Metric("fabric_onprem_nodes_dead", Kind.GAUGE, "On-prem nodes that are named but not in the cluster.")
JOBS = Metric(
    "fabric_jobs", Kind.GAUGE, "Jobs that wait in the queue, and jobs with an attempt that goes on.", ("phase",)
)
ADMISSIONS = Metric("fabric_admissions_total", Kind.COUNTER, "Attempts that the queue let start.")
ATTEMPTS = Metric("fabric_attempts_ended_total", Kind.COUNTER, "Attempts that came to their end, by how.", ("end",))
ADMIT_SECONDS = Metric("fabric_admit_seconds", Kind.HISTOGRAM, "Duration of the queue's decision alone.", (), _FAST)

# every process that talks to a provider
PROVIDER_SECONDS = Metric(
    "fabric_provider_call_seconds", Kind.HISTOGRAM, "Duration of a provider call.", ("site", "call"), _CLOUD
)
PROVIDER_ERRORS = Metric(
    "fabric_provider_errors_total",
    Kind.COUNTER,
    "Errors of provider calls, by kind.",
    ("site", "call", "error"),
)

# gateway
JOINS = Metric("fabric_joins_total", Kind.COUNTER, "Join requests by result.", ("result",))
LEASES = Metric("fabric_lease_renewals_total", Kind.COUNTER, "Lease renewals by answer.", ("answer",))
SUBMISSIONS = Metric("fabric_submissions_total", Kind.COUNTER, "Job submissions by result.", ("result",))

# reaper
SWEEPS = Metric("fabric_sweeps_total", Kind.COUNTER, "Sweeps of the reaper by site and result.", ("site", "result"))
REAPED = Metric(
    "fabric_reaped_total", Kind.COUNTER, "Instances that a sweep found had to end, by cause.", ("site", "cause")
)

METRICS: tuple[Metric, ...] = (
    TICKS,
    TICK_SECONDS,
    DECIDE_SECONDS,
    LAST_TICK,
    NODES,
    GPUS,
    QUEUE_GPUS,
    QUEUE_REQUESTS,
    BURST_OPEN,
    SPEND,
    LAUNCHES,
    TERMINATIONS,
    REFUSED_TO_END,
    ORPHANS,
    CONFIG_PROBLEMS,
    ONPREM_DEAD,
    JOBS,
    ADMISSIONS,
    ATTEMPTS,
    ADMIT_SECONDS,
    PROVIDER_SECONDS,
    PROVIDER_ERRORS,
    JOINS,
    LEASES,
    SUBMISSIONS,
    SWEEPS,
    REAPED,
)
