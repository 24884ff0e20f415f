"""What a waiting job asks for, in the form in which equal jobs are equal: a decision tries each kind once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from fabric.model.jobs import NOTHING, JobRequest
from fabric.model.labels import Constraint, Operator, Selector
from fabric.model.money import MicroUSD
from fabric.model.resources import CPU, GPU, MEMORY, UNITS, Resources

ANY = Selector()
# What a job is taken to run where it does not say. Doubled as often as a running job has outlived it.
ASSUMED_RUNTIME_S = 3600.0
# Runtimes within a factor of 2^(1/4) count as one kind.
_STEPS = 4


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """What has to be free in one site for a job: ``workers`` times ``bundle`` and, if it needs anything, the driver."""

    bundle: Resources
    workers: int
    driver: Resources = NOTHING
    driver_selector: Selector = ANY

    @property
    def total(self) -> Resources:
        """The sum of its parts."""
        whole = [(name, units * self.workers) for name, units in self.bundle.items]
        return Resources.from_units(whole).plus(self.driver)

    def words(self) -> str:
        """The same in a few words: ``2 x (4 GPUs, 16 CPUs)``."""
        worker = _words(self.bundle)
        workers = worker if self.workers == 1 else f"{self.workers} x ({worker})"
        return f"{workers} and {_words(self.driver)} for the driver" if self.driver else workers


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """Jobs that a decision cannot tell apart but by their place in the line. Equal kinds are one object.

    Attributes:
        team, declared, data_class, datasets, max_cost: as in the submission.
        ask: what has to be free; equal asks are one object as well.
        rung: its runtime, rounded up on a ladder; infinite where not declared.
        gpus: units of GPU in all that it asks for.
    """

    team: str
    declared: bool
    data_class: str
    ask: Ask
    datasets: tuple[str, ...]
    rung: float
    max_cost: MicroUSD | None
    gpus: int


class Kinds:
    """Every kind there has been: comparing two of them is comparing two addresses."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[Any, ...], Kind] = {}
        self._asks: dict[tuple[Any, ...], Ask] = {}

    def of(self, request: JobRequest) -> Kind:
        """The kind of a job."""
        needs = request.needs
        ladder = math.inf if needs.runtime_s is None else rung(needs.runtime_s)
        ask = self._ask(request)
        declared = declares(request)
        values = (request.team, declared, request.data_class, ask, needs.datasets, ladder, needs.max_cost)
        kind = self._kinds.get(values)
        if kind is None:
            gpus = ask.total.get(GPU) if declared else 0
            kind = self._kinds[values] = Kind(*values, gpus)
        return kind

    def _ask(self, request: JobRequest) -> Ask:
        ask = ask_of(request)
        values = (ask.bundle.items, ask.workers, ask.driver.items, ask.driver_selector)
        return self._asks.setdefault(values, ask)


def rung(runtime_s: float) -> float:
    """``runtime_s`` rounded up to the next quarter of a power of two."""
    return 2.0 ** (math.ceil(math.log2(max(runtime_s, 1.0)) * _STEPS) / _STEPS)


def expected_runtime(request: JobRequest) -> float:
    """How long a job is taken to run: what it declared, else an hour."""
    return ASSUMED_RUNTIME_S if request.needs.runtime_s is None else request.needs.runtime_s


def expected_end(started_at: float, runtime_s: float, now: float) -> float:
    """When a running job is taken to end: an expectation it has outlived is doubled until it has not.

    After Tsafrir, Etsion and Feitelson, "Backfilling using system-generated predictions" (IEEE TPDS 18, 2007): a
    prediction that has proved too short must grow, or the reservation made on it would lie in the past.
    """
    runtime_s = max(runtime_s, 1.0)
    lived = now - started_at
    if lived >= runtime_s:
        runtime_s *= 2.0 ** (math.floor(math.log2(lived / runtime_s)) + 1)
    end = started_at + runtime_s
    return end if end > now else now + runtime_s


def declares(request: JobRequest) -> bool:
    """Whether a job is queued for room: it declared that it needs any."""
    needs = request.needs
    return needs.declared and bool((needs.bundle and needs.count) or needs.entrypoint)


def ask_of(request: JobRequest) -> Ask:
    """What has to be free for a job."""
    needs = request.needs
    selector = driver_selector(request.submission)
    if not needs.bundle:
        return Ask(needs.entrypoint, 1 if needs.entrypoint else 0, NOTHING, selector)
    return Ask(needs.bundle, needs.count, needs.entrypoint, selector if needs.entrypoint else Selector())


def driver_selector(submission: Mapping[str, object]) -> Selector:
    """The label selector that the user put on the driver, in Ray's syntax: ``x``, ``!x``, ``in(a,b)``, ``!in(a,b)``."""
    given = submission.get("entrypoint_label_selector")
    if not isinstance(given, dict):
        return Selector()
    pairs = cast("dict[object, object]", given).items()
    return Selector(tuple(sorted(_constraint(str(key), str(value).strip()) for key, value in pairs)))


def _constraint(key: str, expression: str) -> Constraint:
    operator = Operator.NOT_IN if expression.startswith("!") else Operator.IN
    expression = expression.removeprefix("!")
    if expression.startswith("in(") and expression.endswith(")"):
        values = tuple(sorted(part.strip() for part in expression[3:-1].split(",")))
        return Constraint(key, operator, values)
    return Constraint(key, operator, (expression,))


def _words(bundle: Resources) -> str:
    return (
        ", ".join(
            _quantity(name, units / UNITS)
            for name, units in sorted(bundle.items, key=lambda item: (item[0] != GPU, item[0]))
        )
        or "nothing"
    )


def _quantity(name: str, quantity: float) -> str:
    if name == MEMORY:
        return f"{quantity / 1024**3:.3g} GiB of memory"
    return f"{quantity:g} {name}{'' if quantity == 1 or name not in (CPU, GPU) else 's'}"
