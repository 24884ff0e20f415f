"""A price file as values: shapes of one cloud, and what each costs in each region.

A price file is JSON (``configs/prices/<cloud>.json``; ``docs/reference/prices.md`` has the format). It is dated, names
its sources, and is never asked for over a network while something is being decided.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, cast

from fabric.model.money import MicroUSD, usd

GIB = 1024**3
FORMAT = 1
# Spot prices move within hours and on-demand prices within months; after this, a person should look.
STALE_AFTER_DAYS = 30


class PriceFileError(ValueError):
    """A price file does not say what it should; the sentence names the key."""


@dataclass(frozen=True, slots=True)
class Shape:
    """One instance type.

    Attributes:
        name: the cloud's own.
        gpus: GPUs of one instance; 0 for a CPU shape. A fraction of a GPU counts as one.
        gpu: GPU model as the label ``fabric/gpu`` has it, for example ``L4``; ``""`` for a CPU shape.
        gpu_memory: memory of one GPU in bytes.
        cpus: virtual CPUs.
        memory: memory of the machine in bytes.
    """

    name: str
    gpus: int
    gpu: str
    gpu_memory: int
    cpus: int
    memory: int


@dataclass(frozen=True, slots=True)
class Listed:
    """What one instance type costs in one region, micro-USD per hour; None where a market does not sell it.

    Attributes:
        on_demand, spot: prices. A spot price moves; this is what it was on the file's date.
        zones: zones that sell it; empty where the source does not say.
    """

    on_demand: MicroUSD | None
    spot: MicroUSD | None
    zones: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PriceFile:
    """One cloud's shapes and prices.

    Attributes:
        cloud: ``aws``, ``gcp`` or ``azure``.
        date: the day the prices were read at their source.
        sources: where they come from, as sentences with addresses.
        shapes: by instance type.
        listed: by region, then by instance type.
    """

    cloud: str
    date: date
    sources: tuple[str, ...]
    shapes: Mapping[str, Shape] = field(default_factory=dict[str, Shape])
    listed: Mapping[str, Mapping[str, Listed]] = field(default_factory=dict[str, Mapping[str, Listed]])

    def price(self, region: str, instance_type: str) -> Listed | None:
        """The entry of one instance type in one region; None if the file has none."""
        return self.listed.get(region, {}).get(instance_type)

    def age_days(self, today: date) -> int:
        """Whole days since the prices were read."""
        return (today - self.date).days

    def staleness(self, today: date) -> str:
        """Why a person should look at this file, as a sentence; ``""`` while it is young enough."""
        age = self.age_days(today)
        return f"the {self.cloud} prices are of {self.date}, {age} days old" if age > STALE_AFTER_DAYS else ""


def parse(text: str) -> PriceFile:
    """Read a price file.

    Raises:
        PriceFileError: it is not one, or a value in it cannot be.
    """
    try:
        root = json.loads(text)
    except ValueError as error:
        raise PriceFileError(f"the file is not JSON: {error}") from error
    if not isinstance(root, dict) or cast(dict[str, Any], root).get("format") != FORMAT:
        raise PriceFileError(f"the file does not say format: {FORMAT}; it may be of another version")
    data = cast(dict[str, Any], root)
    try:
        shapes = {name: _shape(name, block) for name, block in data["shapes"].items()}
        listed = {
            region: {name: _listed(f"{region} {name}", block, name in shapes) for name, block in prices.items()}
            for region, prices in data["regions"].items()
        }
        return PriceFile(data["cloud"], date.fromisoformat(data["date"]), tuple(data["sources"]), shapes, listed)
    except PriceFileError:
        raise
    except KeyError as error:
        raise PriceFileError(f"the key {error} is missing") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise PriceFileError(f"a value is not what it should be: {error}") from error


def text_of(file: PriceFile) -> str:
    """``file`` as JSON, one shape and one price a line; ``parse`` reads it back."""
    head = {"format": FORMAT, "cloud": file.cloud, "date": file.date.isoformat(), "sources": list(file.sources)}
    lines = [f' "{key}": {json.dumps(value)},' for key, value in head.items()]
    lines += [' "shapes": {', ",\n".join(_shape_line(shape) for _, shape in sorted(file.shapes.items())), " },"]
    regions = [
        f'  "{region}": {{\n' + ",\n".join(_price_line(name, entry) for name, entry in sorted(prices.items())) + "\n  }"
        for region, prices in sorted(file.listed.items())
    ]
    return "\n".join(["{", *lines, ' "regions": {', ",\n".join(regions), " }", "}", ""])


def _shape(name: str, block: Mapping[str, Any]) -> Shape:
    shape = Shape(
        name,
        int(block.get("gpus", 0)),
        str(block.get("gpu", "")),
        round(block.get("gpu_memory_gib", 0) * GIB),
        int(block["cpus"]),
        round(block["memory_gib"] * GIB),
    )
    if shape.cpus < 1 or shape.memory < 1 or shape.gpus < 0 or bool(shape.gpus) != bool(shape.gpu):
        raise PriceFileError(f"the shape {name} cannot be: {shape}")
    return shape


def _listed(where: str, block: Mapping[str, Any], is_known: bool) -> Listed:
    if not is_known:
        raise PriceFileError(f"{where} has a price but no shape")
    prices = [None if block.get(market) is None else usd(str(block[market])) for market in ("on_demand", "spot")]
    if all(price is None for price in prices) or any(price is not None and price <= 0 for price in prices):
        raise PriceFileError(f"{where} has no price above zero")
    return Listed(prices[0], prices[1], tuple(block.get("zones", ())))


def _shape_line(shape: Shape) -> str:
    block: dict[str, Any] = {"cpus": shape.cpus, "memory_gib": _gib(shape.memory)}
    if shape.gpus:
        block |= {"gpus": shape.gpus, "gpu": shape.gpu, "gpu_memory_gib": _gib(shape.gpu_memory)}
    return f"  {json.dumps(shape.name)}: {json.dumps(block)}"


def _price_line(name: str, entry: Listed) -> str:
    block: dict[str, Any] = {}
    if entry.on_demand is not None:
        block["on_demand"] = _dollars(entry.on_demand)
    if entry.spot is not None:
        block["spot"] = _dollars(entry.spot)
    if entry.zones:
        block["zones"] = list(entry.zones)
    return f"   {json.dumps(name)}: {json.dumps(block)}"


def _gib(size: int) -> float | int:
    whole, rest = divmod(size, GIB)
    return size / GIB if rest else whole


def _dollars(amount: MicroUSD) -> str:
    """Prices are text, so that no float ever holds money."""
    return f"{amount // 1_000_000}.{amount % 1_000_000:06d}".rstrip("0").rstrip(".")
