"""A price file from a CSV in the SkyPilot catalog's format."""

from __future__ import annotations

from datetime import date

import pytest

from autoscaler.catalog.imported import imported
from autoscaler.catalog.prices import GIB, PriceFile, PriceFileError, parse, text_of
from fabric.model.money import usd

HEAD = "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,GpuInfo,Price,SpotPrice,Region,AvailabilityZone\n"
INFO = "\"{'Gpus': [{'Name': 'L4', 'MemoryInfo': {'SizeInMiB': 22888}}]}\""
DAY = date(2026, 11, 1)


def made(cloud: str, *rows: str, regions: tuple[str, ...] = ()) -> PriceFile:
    file = imported(cloud, HEAD + "\n".join(rows), DAY, ["made up"], regions)
    assert parse(text_of(file)) == file
    return file


def test_the_spot_price_of_a_region_is_the_median_of_its_zones_and_its_zone_ids_are_not_kept() -> None:
    file = made(
        "aws",
        *(f"g6.xlarge,L4,1.0,4.0,16.0,{INFO},1.0064,{spot},eu-central-1,euc1-az{n}" for n, spot in enumerate("193")),
    )
    entry = file.price("eu-central-1", "g6.xlarge")
    assert entry is not None
    assert (entry.on_demand, entry.spot, entry.zones) == (usd("1.0064"), usd(3), ())
    shape = file.shapes["g6.xlarge"]
    assert (shape.gpu, shape.gpus, shape.gpu_memory, shape.memory) == ("L4", 1, 22888 * 1024**2, 16 * GIB)


def test_of_two_zones_the_dearer_one_counts() -> None:
    file = made("aws", *(f"m.x,,,4,16,,1,{spot},r,z{spot}" for spot in ("0.2", "0.4")))
    assert (entry := file.price("r", "m.x")) is not None
    assert entry.spot == usd("0.4")


def test_google_machines_and_gpus_of_the_same_zone_make_one_shape() -> None:
    file = made(
        "gcp",
        "g2-standard-24,,,24,96,,0.9,0.4,r,r-a",
        "n1-standard-16,,,16,60,,0.8,0.3,r,r-a",
        "n1-standard-16,,,16,60,,0.8,0.3,r,r-b",
        ",T4,1,,,,0.35,0.14,r,r-b",
        ",tpu-v6e-8,1,,,,9,1,r,r-b",
    )
    entry = file.price("r", "n1-standard-16+2xnvidia-tesla-t4")
    assert entry is not None
    assert (entry.on_demand, entry.spot, entry.zones) == (usd("1.5"), usd("0.58"), ("r-b",))
    assert file.shapes["n1-standard-16+2xnvidia-tesla-t4"].gpus == 2
    assert file.price("r", "n1-standard-16") is not None
    assert not any("tpu" in name or name.startswith("g2") for name in file.shapes)


def test_a_machine_family_with_gpus_costs_both_and_lacks_a_price_that_one_of_them_lacks() -> None:
    file = made("gcp", "a2-highgpu-4g,,,48,340,,3,1.2,r,r-a", ",A100,1,,,,,1.1,r,r-a")
    entry = file.price("r", "a2-highgpu-4g")
    assert entry is not None
    assert (entry.on_demand, entry.spot) == (None, usd("5.6"))
    assert file.shapes["a2-highgpu-4g"].gpu == "A100-40GB"


def test_a_fraction_of_a_gpu_counts_as_one_and_other_accelerators_are_left_out() -> None:
    file = made(
        "azure", "v,A10,0.5,18,220,A10,1.6,0.4,westeurope,", "m,Radeon MI25,1,4,14,,0.2,,westeurope,", "n,,,4,8,,,,r,"
    )
    assert list(file.shapes) == ["v"]
    assert (file.shapes["v"].gpus, file.shapes["v"].gpu_memory) == (1, 24 * GIB)


def test_only_the_regions_that_were_asked_for_are_kept() -> None:
    rows = [f"m,,,4,16,,1,0.2,{region},z" for region in ("r1", "r2")]
    assert list(made("aws", *rows, regions=("r2",)).listed) == ["r2"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "no column InstanceType"),
        ("InstanceType,Region\nx,y\n", "no column AcceleratorName"),
        (HEAD, "has no aws shape with a price"),
        (HEAD + "m,,,many,16,,1,0.2,r,z\n", "line 2 of the CSV: a value is not a number"),
        (HEAD + "m,,,4,16,,free,0.2,r,z\n", "line 2 of the CSV: a value is not a number"),
    ],
)
def test_what_is_no_such_csv_is_refused_with_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(PriceFileError, match=sentence):
        imported("aws", text, DAY, ["made up"])
