"""Pages and schemas that are generated from the code: write them, or check that they are current.

python -m tests.docs.generated --write | --check
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def targets() -> dict[str, Callable[[], str]]:
    """Every generated file, by path, with what makes its text."""
    from autoscaler.providers import reference as provider_reference
    from fabric.cli import reference as cli_reference
    from fabric.config import jsonschema as config_schema
    from fabric.config import reference as config_reference
    from fabric.telemetry import reference as telemetry_reference

    return {
        "configs/fabric.schema.json": config_schema.text,
        "docs/reference/configuration.md": config_reference.text,
        "docs/reference/cli.md": cli_reference.text,
        "docs/reference/reasons-and-metrics.md": telemetry_reference.text,
        "docs/reference/provider-errors.md": provider_reference.text,
    }


def main(mode: str) -> int:
    """Write or check all; returns the number of files that were not current in check mode."""
    stale = 0
    for name, text in targets().items():
        path = ROOT / name
        wanted = text()
        if mode == "--write":
            path.write_text(wanted)
            continue
        if not path.exists() or path.read_text() != wanted:
            print(f"{name} is not what the code says; run: make docs")
            stale += 1
    return stale


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
