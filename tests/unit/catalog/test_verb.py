"""``fabric prices``: what it lists, how it says age, and what import and refresh write."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from autoscaler.catalog.files import price_files
from autoscaler.catalog.prices import STALE_AFTER_DAYS, parse
from fabric.cli.exits import Exit
from fabric.cli.main import cli
from tests.unit.catalog.test_refresh import item, price_list

CSV = (
    "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,GpuInfo,Price,SpotPrice,Region,AvailabilityZone\n"
    "g6.xlarge,L4,1.0,4.0,16.0,,2,0.5,eu-central-1,euc1-az1\n"
    "m7a.xlarge,,,4.0,16.0,,0.27772,,eu-central-1,euc1-az1\n"
)
YAML = """
fabric: {state: state}
sites:
  home: {kind: onprem, node_types: {box: {nodes: [a], cpus: 1}}}
  sky:
    kind: aws
    region: eu-central-1
    image: ubuntu
    discount: 10%
    node_types:
      cheap: {instance_type: g6.xlarge, max: 2}
      mine: {instance_type: g6.xlarge, max: 2, price: {on-demand: 0.9 USD/h}}
burst: {baseline: [{gpus: 1, for: 0s}]}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "fabric.yaml"
    path.write_text(YAML)
    return path


def fabric(config: Path, *arguments: str, code: Exit = Exit.OK) -> str:
    done = CliRunner().invoke(cli, ["--config", str(config), *arguments])
    assert done.exit_code == code, done.output
    return done.output


def imported(config: Path, *arguments: str) -> dict[str, Any]:
    table = config.parent / "vms.csv"
    table.write_text(CSV)
    fabric(config, "prices", "import", str(table), "--cloud", "aws", *arguments)
    shown: dict[str, Any] = json.loads(fabric(config, "prices", "--cloud", "aws", "--json"))
    return shown


def test_imported_prices_count_before_those_that_came_with_the_program(config: Path) -> None:
    shown = imported(config, "--source", "ours")
    assert shown["files"]["aws"]["sources"] == ["ours"]
    assert (shown["files"]["aws"]["age_days"], shown["files"]["aws"]["stale"]) == (0, False)
    assert [(row["shape"], row["on_demand"], row["spot"]) for row in shown["prices"]] == [
        ("m7a.xlarge", "0.27772", None),
        ("g6.xlarge", "2", "0.5"),
    ]
    assert parse((config.parent / "state" / "prices" / "aws.json").read_text()).cloud == "aws"


def test_own_prices_and_discounts_are_shown_on_top(config: Path) -> None:
    own = {row["node_type"]: row for row in imported(config)["own"]}
    assert (own["sky.cheap"]["on_demand"], own["sky.cheap"]["discount"]) == ("1.8", "10%")
    assert (own["sky.mine"]["on_demand"], own["sky.mine"]["discount"]) == ("0.9", None)
    text = fabric(config, "prices", "--cloud", "aws")
    assert text.index("your own") < text.index("m7a.xlarge")


def test_prices_are_narrowed_by_region_and_gpu(config: Path) -> None:
    text = fabric(config, "prices", "--gpu", "l4", "--region", "europe-west4")
    assert "g2-standard-4" in text
    assert "a2-highgpu" not in text
    assert "us-central1" not in text
    fabric(config, "prices", "--gpu", "L5", code=Exit.NO)


def test_old_prices_are_said_by_the_list_the_doctor_and_validate(config: Path) -> None:
    old = (datetime.now(UTC).date() - timedelta(days=STALE_AFTER_DAYS + 1)).isoformat()
    assert imported(config, "--date", old)["files"]["aws"]["stale"]
    sentence = f"the aws prices are of {old}, {STALE_AFTER_DAYS + 1} days old"
    assert "STALE" in fabric(config, "prices")
    assert f"warning: {sentence}" in fabric(config, "validate")
    assert sentence in json.loads(fabric(config, "validate", "--json"))["warnings"][0]
    assert sentence in CliRunner().invoke(cli, ["--config", str(config), "doctor"]).output
    imported(config)
    assert "warning" not in fabric(config, "validate")


def test_a_file_that_is_no_such_table_changes_nothing(config: Path) -> None:
    wrong = config.parent / "wrong.csv"
    wrong.write_text("a,b\n1,2\n")
    done = CliRunner().invoke(
        cli, ["--config", str(config), "prices", "import", str(wrong), "--cloud", "gcp"], standalone_mode=False
    )
    assert "no column InstanceType" in str(done.exception)
    assert not (config.parent / "state" / "prices").exists()


def test_a_refresh_writes_what_the_price_list_says_today(config: Path) -> None:
    page = json.dumps({"Items": [item("eastus", 0.4), item("mars", 1)], "NextPageLink": None}).encode()
    none = json.dumps({"Items": []}).encode()
    with price_list(lambda wanted, _page: (200, page if "NC4as_T4_v3'" in wanted else none)) as address:
        said = fabric(config, "prices", "refresh", "--endpoint", address)
    assert "1 GPU shapes and 0 others in 1 regions" in said
    file = price_files(config.parent / "state" / "prices")["azure"]
    assert file.date == datetime.now(UTC).date()
    assert list(file.listed) == ["eastus"]
