"""The command line in the process of the test, which is many times faster than one of its own for each command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from click.testing import CliRunner

from fabric.cli.main import cli
from tests.unit.cli.places import Place


@dataclass(frozen=True)
class Typed:
    """What came of a command."""

    returncode: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Screen:
    """Somebody who types commands about one fabric."""

    place: Place

    @property
    def state(self) -> Path:
        return self.place.path.parent / "state"

    @property
    def path(self) -> Path:
        return self.place.path

    @property
    def journal(self) -> Path:
        return self.place.journal

    def fabric(self, *arguments: str) -> Typed:
        done = CliRunner().invoke(cli, ["--config", str(self.place.path), *arguments])
        return Typed(done.exit_code, done.stdout, done.stderr)
