"""The price files that come with the program: enough of them, dated, sourced, and believable."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from autoscaler.catalog.files import CLOUDS, price_files
from autoscaler.catalog.imported import GPUS
from autoscaler.catalog.prices import GIB, Listed, Shape
from fabric.model.money import usd

FILES = price_files()


def entries(cloud: str) -> Iterator[tuple[str, Shape, Listed]]:
    file = FILES[cloud]
    for region, prices in file.listed.items():
        for name, entry in prices.items():
            yield region, file.shapes[name], entry


@pytest.mark.parametrize("cloud", CLOUDS)
def test_every_cloud_has_enough_shapes_regions_and_a_source(cloud: str) -> None:
    file = FILES[cloud]
    gpu_shapes = [shape for shape in file.shapes.values() if shape.gpus]
    assert len(gpu_shapes) >= 25
    assert len(file.shapes) > len(gpu_shapes)
    assert sum(region.startswith("eu-") or "europe" in region for region in file.listed) >= 2
    assert sum("us" in region for region in file.listed) >= 2
    assert any("https://" in source for source in file.sources)
    assert any(entry.spot for _, _, entry in entries(cloud))


@pytest.mark.parametrize("cloud", CLOUDS)
def test_what_is_shipped_is_believable(cloud: str) -> None:
    for region, shape, entry in entries(cloud):
        where = f"{cloud} {region} {shape.name}"
        assert shape.name in FILES[cloud].shapes, where
        if shape.gpus:
            assert shape.gpu in GPUS, where
            assert shape.gpus <= 16, where
            assert abs(shape.gpu_memory / GIB - GPUS[shape.gpu]) <= 0.2 * GPUS[shape.gpu], where
            for price in (entry.on_demand, entry.spot):
                assert price is None or usd("0.03") < price / shape.gpus < usd(20), where
        if entry.on_demand and entry.spot:
            assert entry.spot <= entry.on_demand * 1.001, where  # AWS rounds both differently


@pytest.mark.parametrize("cloud", CLOUDS)
def test_more_of_the_same_gpu_in_the_same_region_is_never_cheaper(cloud: str) -> None:
    listed = [(region, shape, entry.on_demand) for region, shape, entry in entries(cloud) if entry.on_demand]
    for region, small, price in listed:
        for other, large, more in listed:
            if region == other and small.gpu == large.gpu and small.gpus and large.gpus >= 2 * small.gpus:
                bigger = large.cpus >= small.cpus and large.memory >= small.memory
                assert not bigger or more >= price, f"{region} {small.name} {large.name}"
