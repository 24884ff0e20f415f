"""The Python and the Ray that the fabric is made for, as its package says."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

_PACKAGE = "elastic-ai-fabric"
_CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class MadeFor:
    """What the package requires.

    Attributes:
        python: as in its ``Requires-Python``, for example ``>=3.11,<3.14``; ``""`` if it does not say.
        ray: the requirement with its exact version, for example ``ray[serve]==2.60.0``; ``""`` if it does not say.
    """

    python: str
    ray: str

    @property
    def ray_version(self) -> str:
        """The one release of Ray."""
        return self.ray.partition("==")[2]

    def takes_python(self, version: str) -> bool:
        """Whether a Python such as ``3.11.9`` is in the range."""
        found = _minor(version)
        least, below = (re.search(rf"{sign}\s*(\d+\.\d+)", self.python) for sign in (">=", "<(?!=)"))
        return (least is None or found >= _minor(least[1])) and (below is None or found < _minor(below[1]))


def made_for(package: str = _PACKAGE, checkout: Path = _CHECKOUT) -> MadeFor:
    """From the installed package's metadata; when it runs without being installed, from ``pyproject.toml``."""
    try:
        told = metadata(package)
        python, requirements = told["Requires-Python"] or "", told.get_all("Requires-Dist") or []
    except PackageNotFoundError:
        try:
            project = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
        except (OSError, KeyError, ValueError):
            return MadeFor("", "")
        python, requirements = project.get("requires-python", ""), project.get("dependencies", [])
    rays = (re.match(r"ray\s*(?:\[[^\]]*\])?\s*==\s*[\w.]+", line) for line in requirements)
    return MadeFor(python, next((re.sub(r"\s", "", ray[0]) for ray in rays if ray), ""))


def _minor(version: str) -> tuple[int, int]:
    major, minor = version.split(".")[:2]
    return int(major), int(minor)
