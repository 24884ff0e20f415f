"""Python imports this first in every child process of a job's workers, the driver among them (``PYTHONPATH``).

It has the selector added once Ray is imported, and then runs the ``sitecustomize`` that would have run without it.
"""

import os
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec, spec_from_file_location

_HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120


class _WhenRayIsImported:
    """Lets Ray be imported as always, and then places what this process submits."""

    def find_spec(self, name, path=None, target=None):  # noqa: ANN001, ANN202, ARG002
        if name != "ray":
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_place(module):  # noqa: ANN001, ANN202
                load(module)
                _worker_module().place_everything()

            spec.loader.exec_module = load_and_place
        return spec


def _worker_module():  # noqa: ANN202
    """``elastic_fabric_worker`` by its place: a Python of the user's own (uv, a virtual environment) lacks it."""
    name = "elastic_fabric_worker"
    if name not in sys.modules:
        spec = spec_from_file_location(name, os.path.join(os.path.dirname(_HERE), "__init__.py"))  # noqa: PTH118, PTH120
        assert spec is not None and spec.loader is not None  # noqa: S101
        sys.modules[name] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def _run_the_next_sitecustomize() -> None:
    spec = PathFinder.find_spec("sitecustomize", [path for path in sys.path if os.path.abspath(path) != _HERE])  # noqa: PTH100
    if spec is not None and spec.loader is not None:
        sys.modules["sitecustomize"] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules["sitecustomize"])


if os.environ.get("FABRIC_SELECTOR"):
    sys.meta_path.insert(0, _WhenRayIsImported())
_run_the_next_sitecustomize()
