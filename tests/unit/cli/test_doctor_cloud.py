"""``fabric doctor cloud SITE`` asks one cloud, buys nothing, and says what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fabric.cli.main import cli
from tests.conftest import wait_until
from tests.sandboxes import SITE, SandboxServer, unused_port

CONFIG = """
sites:
  home: {{kind: onprem, node_types: {{box: {{nodes: [a], cpus: 1}}}}}}
  {site}:
    kind: sandbox
    endpoint: 127.0.0.1:{port}
    node_types: {{quick: {{cpus: 1, max: 1, price: {{on-demand: 1 USD/h}}}}}}
burst: {{baseline: [{{gpus: 1, for: 0s}}]}}
"""


def asked(folder: Path, port: int, *arguments: str, site: str = "sky") -> Result:
    config = folder / "fabric.yaml"
    config.write_text(CONFIG.format(port=port, site=site))
    return CliRunner().invoke(cli, ["--config", str(config), "doctor", "cloud", *arguments])


def test_a_cloud_that_answers_is_well_and_the_exit_code_is_0(tmp_path: Path) -> None:
    port = unused_port()
    (tmp_path / "cloud").mkdir()
    server = SandboxServer(tmp_path / "cloud", port).start()
    try:
        wait_until(lambda: asked(tmp_path, port, SITE, site=SITE).exit_code == 0, what="the sandbox cloud to be well")
        told = json.loads(asked(tmp_path, port, SITE, "--json", site=SITE).stdout)
        assert {finding["state"] for finding in told} == {"ok"}
        assert {"reachable", "site", "node types"} <= {finding["name"] for finding in told}
        assert server.get("/v1/instances?owner=fabric&page=0&limit=10")["instances"] == []
    finally:
        assert server.stop() == 0


def test_a_cloud_that_does_not_answer_is_said_with_what_to_do(tmp_path: Path) -> None:
    result = asked(tmp_path, unused_port(), "sky")
    assert result.exit_code == 1
    assert "reachable" in result.output and "`fabric up` starts it" in result.output


@pytest.mark.parametrize(
    ("site", "sentence"),
    [("nowhere", "there is no site nowhere"), ("home", "home is a room of your own: nothing is bought there")],
)
def test_a_site_that_sells_nothing_is_refused_and_the_others_are_named(
    tmp_path: Path, site: str, sentence: str
) -> None:
    result = asked(tmp_path, unused_port(), site)
    assert result.exit_code == 2
    assert sentence in result.output and "Sites that sell machines: sky." in result.output
