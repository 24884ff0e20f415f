"""Quantities of Ray resources, in Ray's own fixed point.

Ray counts every resource in units of 1/10,000 (``FixedPoint`` in Ray's C++ scheduler), so 0.1 GPU and ten
times 0.1 GPU compare exactly. Here a quantity is an ``int`` number of those units.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

UNITS = 10_000

GPU = "GPU"
CPU = "CPU"
MEMORY = "memory"


def units(quantity: float) -> int:
    """``quantity`` of a resource in Ray's fixed-point units, rounded to nearest."""
    return round(quantity * UNITS)


@dataclass(frozen=True, slots=True)
class Resources:
    """An immutable, hashable bag of resources: sorted ``(name, units)`` pairs, zero quantities dropped."""

    items: tuple[tuple[str, int], ...] = ()

    @staticmethod
    def of(quantities: Mapping[str, float]) -> Resources:
        """Resources from plain numbers, for example ``Resources.of({"GPU": 1, "CPU": 0.5})``.

        Raises:
            ValueError: a quantity is negative.
        """
        return Resources.from_units((name, units(value)) for name, value in quantities.items())

    @staticmethod
    def from_units(pairs: Iterable[tuple[str, int]]) -> Resources:
        """Resources from ``(name, units)`` pairs.

        Raises:
            ValueError: a quantity is negative.
        """
        items = tuple(sorted((name, value) for name, value in pairs if value != 0))
        if any(value < 0 for _, value in items):
            raise ValueError(f"a resource quantity cannot be negative: {dict(items)}")
        return Resources(items)

    def get(self, name: str) -> int:
        """Units of ``name``; zero where absent."""
        return next((value for key, value in self.items if key == name), 0)

    @property
    def gpus(self) -> float:
        """Number of GPUs."""
        return self.get(GPU) / UNITS

    @property
    def cpus(self) -> float:
        """Number of CPUs."""
        return self.get(CPU) / UNITS

    def plus(self, other: Resources) -> Resources:
        """The sum of both."""
        total = dict(self.items)
        for name, value in other.items:
            total[name] = total.get(name, 0) + value
        return Resources.from_units(total.items())

    def fits_in(self, free: Resources) -> bool:
        """Whether every quantity asked for here is free there."""
        return all(value <= free.get(name) for name, value in self.items)

    def to_dict(self) -> dict[str, float]:
        """Plain numbers by resource name."""
        return {name: value / UNITS for name, value in self.items}

    def __bool__(self) -> bool:
        return bool(self.items)
