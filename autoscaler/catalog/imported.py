"""A price file from a CSV in the format of the SkyPilot catalog, which lists public prices of many clouds.

The format is https://github.com/skypilot-org/skypilot-catalog: one row a shape and zone, with the columns of
``_COLUMNS``. Google sells GPUs apart from the machine, so there a machine's row and a GPU's row make one shape.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from statistics import median_high

from autoscaler.catalog.prices import GIB, Listed, PriceFile, PriceFileError, Shape
from fabric.model.money import MicroUSD, usd

_COLUMNS = ("InstanceType", "AcceleratorName", "AcceleratorCount", "vCPUs", "MemoryGiB", "Price", "SpotPrice", "Region")
# Memory in GiB, for rows that do not say it. What is not in this table is no GPU that Ray schedules by our labels.
GPUS: Mapping[str, int] = {
    "A10": 24, "A10G": 24, "A100-40GB": 40, "A100-80GB": 80, "B200": 180, "H100": 80, "H200": 141, "K80": 12,
    "L4": 24, "L40S": 48, "M60": 8, "P4": 8, "P100": 16, "T4": 16, "T4g": 16, "V100": 16, "V100-32GB": 32,
}  # fmt: skip
_OTHER_NAMES = {"A100": "A100-40GB", "H100-MEGA": "H100"}
# How many vCPUs an N1 machine may have beside so many attached GPUs, and what the API calls the GPU:
# https://cloud.google.com/compute/docs/gpus#general_comparison_chart
_ATTACHED: Mapping[str, tuple[str, Mapping[int, int]]] = {
    "T4": ("nvidia-tesla-t4", {1: 48, 2: 48, 4: 96}),
    "P4": ("nvidia-tesla-p4", {1: 24, 2: 48, 4: 96}),
    "P100": ("nvidia-tesla-p100", {1: 16, 2: 32, 4: 96}),
    "V100": ("nvidia-tesla-v100", {1: 12, 2: 24, 4: 48, 8: 96}),
}
# GPUs of machine families that are sold with them: https://cloud.google.com/compute/docs/accelerator-optimized-machines
_BUILT_IN = (
    (re.compile(r"a2-(?:high|mega)gpu-(\d+)g"), "A100"),
    (re.compile(r"a2-ultragpu-(\d+)g"), "A100-80GB"),
    (re.compile(r"a3-highgpu-(\d+)g"), "H100"),
    (re.compile(r"a3-megagpu-(\d+)g"), "H100-MEGA"),
    (re.compile(r"a3-ultragpu-(\d+)g"), "H200"),
    (re.compile(r"a4-highgpu-(\d+)g"), "B200"),
)
_L4S = {"4": 1, "8": 1, "12": 1, "16": 1, "24": 2, "32": 1, "48": 4, "96": 8}


@dataclass(frozen=True, slots=True)
class _Row:
    """One row: a machine, or with an empty ``name`` Google's GPUs without one."""

    name: str
    gpu: str
    gpus: float
    gpu_memory: int
    cpus: float
    memory: float
    region: str
    zone: str
    on_demand: MicroUSD | None
    spot: MicroUSD | None


def imported(
    cloud: str, text: str, day: date, sources: Iterable[str], regions: Collection[str] = frozenset()
) -> PriceFile:
    """The price file of ``cloud`` that a CSV makes.

    The on-demand price of a region is its dearest zone's, its spot price the median of its zones' (of two, the
    dearer): one zone without demand or without machines does not make the price. TPUs and other accelerators that are
    no GPUs are left out, and so is a shape that nowhere has a price.

    Args:
        cloud: ``aws``, ``gcp`` or ``azure``.
        text: the CSV.
        day: when its prices were read at their source.
        sources: where they come from, as sentences.
        regions: regions to keep; empty keeps all.

    Raises:
        PriceFileError: it is not such a CSV; the sentence names the line.
    """
    rows = [row for row in _rows(text) if not regions or row.region in regions]
    whole = _with_gpus(rows) if cloud == "gcp" else rows
    shapes: dict[str, Shape] = {}
    sold: dict[str, dict[str, list[_Row]]] = defaultdict(lambda: defaultdict(list))
    for row in whole:
        if row.name and (row.on_demand is not None or row.spot is not None) and _label(row) is not None:
            shapes.setdefault(row.name, _shape(row))
            sold[row.region][row.name].append(row)
    if not shapes:
        raise PriceFileError(f"the CSV has no {cloud} shape with a price{' in these regions' if regions else ''}")
    named = cloud == "gcp"  # AWS's zones are ids of the account-independent kind, which no API call takes
    listed = {region: {name: _listed(at, named) for name, at in by_name.items()} for region, by_name in sold.items()}
    return PriceFile(cloud, day, tuple(sources), shapes, listed)


def _rows(text: str) -> Iterator[_Row]:
    reader = csv.DictReader(io.StringIO(text))
    missing = [column for column in _COLUMNS if column not in (reader.fieldnames or ())]
    if missing:
        raise PriceFileError(f"the CSV has no column {', '.join(missing)}; it is not in the SkyPilot catalog's format")
    for row in reader:
        try:
            yield _row(row)
        except (ValueError, TypeError, ArithmeticError) as error:
            raise PriceFileError(f"line {reader.line_num} of the CSV: a value is not a number: {error}") from error


def _row(row: Mapping[str, str]) -> _Row:
    size = re.search(r"SizeInMiB'?: (\d+)", row.get("GpuInfo") or "")
    return _Row(
        row["InstanceType"],
        row["AcceleratorName"],
        float(row["AcceleratorCount"] or 0),
        int(size[1]) * 1024**2 if size else 0,
        float(row["vCPUs"] or 0),
        float(row["MemoryGiB"] or 0),
        row["Region"],
        row.get("AvailabilityZone") or "",
        _money(row["Price"]),
        _money(row["SpotPrice"]),
    )


def _money(text: str) -> MicroUSD | None:
    amount = usd(text) if text else 0
    return amount if amount > 0 else None


def _with_gpus(rows: Iterable[_Row]) -> Iterator[_Row]:
    """Google's machines, each with the GPUs it is sold with and, for N1, with those that can be attached."""
    machines = list(rows)
    gpus = {(row.gpu, int(row.gpus), row.zone): row for row in machines if not row.name}
    for row in machines:
        if not row.name:
            continue
        model, count = _built_in(row.name)
        if model:
            yield from _sum(row, gpus, model, count, row.name)
            continue
        yield row
        if row.name.startswith("n1-standard-"):
            for attached, (api_name, limits) in _ATTACHED.items():
                for number, most in limits.items():
                    if row.cpus <= most:
                        yield from _sum(row, gpus, attached, number, f"{row.name}+{number}x{api_name}")


def _built_in(name: str) -> tuple[str, int]:
    family, _, size = name.rpartition("-")
    if family == "g2-standard":
        return "L4", _L4S.get(size, 0)
    for pattern, model in _BUILT_IN:
        found = pattern.fullmatch(name)
        if found:
            return model, int(found[1])
    return "", 0


def _sum(machine: _Row, gpus: Mapping[tuple[str, int, str], _Row], model: str, count: int, name: str) -> Iterator[_Row]:
    """The machine with ``count`` GPUs of its zone; nothing where the zone does not sell them."""
    times = 1
    row = gpus.get((model, count, machine.zone))
    if row is None:
        row, times = gpus.get((model, 1, machine.zone)), count
    if row is None or count < 1:
        return

    def both(left: MicroUSD | None, right: MicroUSD | None) -> MicroUSD | None:
        return None if left is None or right is None else left + times * right

    yield _Row(
        name,
        model,
        count,
        row.gpu_memory,
        machine.cpus,
        machine.memory,
        machine.region,
        machine.zone,
        both(machine.on_demand, row.on_demand),
        both(machine.spot, row.spot),
    )


def _label(row: _Row) -> str | None:
    """The GPU as the label ``fabric/gpu`` has it; ``""`` for a CPU shape, None for what is no GPU of ours."""
    name = _OTHER_NAMES.get(row.gpu, row.gpu)
    if name == "A100-40GB" and row.gpu_memory > 40 * GIB:
        name = "A100-80GB"
    return name if not name or name in GPUS else None


def _shape(row: _Row) -> Shape:
    label = _label(row) or ""
    memory = (row.gpu_memory or GPUS[label] * GIB) if label else 0
    gpus = math.ceil(row.gpus) if label else 0
    return Shape(row.name, gpus, label, memory, int(row.cpus), round(row.memory * GIB))


def _listed(rows: Collection[_Row], named: bool) -> Listed:
    on_demand = [row.on_demand for row in rows if row.on_demand is not None]
    spot = [row.spot for row in rows if row.spot is not None]
    zones = tuple(sorted({row.zone for row in rows if row.zone})) if named else ()
    return Listed(max(on_demand, default=None), median_high(spot) if spot else None, zones)
