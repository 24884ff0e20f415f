"""What runs in users' processes: selectors are only ever narrowed, and Python starts as it would have."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray._private.label_utils import validate_label_selector

from elastic_fabric_worker import STARTUP, both
from fabric.model.labels import Constraint, Operator, Selector
from fabric.sovereignty.selectors import ray_selector

MODULE = Path(STARTUP).parent / "__init__.py"
KEYS, VALUES = ("fabric/site", "fabric/market", "disk"), ("a", "b", "c-1")
sets = st.lists(st.sampled_from(VALUES), min_size=1, unique=True).map(tuple)
selectors = st.dictionaries(st.sampled_from(KEYS), st.tuples(st.sampled_from(Operator), sets)).map(
    lambda by_key: Selector(tuple(Constraint(key, operator, values) for key, (operator, values) in by_key.items()))
)
labels = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES))


def spelled(selector: Selector, short: bool, spaced: bool) -> dict[str, str]:
    """The selector in one of the ways that Ray allows users to write it."""
    written: dict[str, str] = {}
    for constraint in selector.constraints:
        no = "" if constraint.operator is Operator.IN else "!"
        many = f"{no}in({(', ' if spaced else ',').join(constraint.values)})"
        written[constraint.key] = f"{no}{constraint.values[0]}" if short and len(constraint.values) == 1 else many
    return written


def read(selector: dict[str, str]) -> Selector:
    constraints: list[Constraint] = []
    for key, expression in selector.items():
        operator = Operator.NOT_IN if expression.startswith("!") else Operator.IN
        inner = expression.lstrip("!").removeprefix("in(").removesuffix(")")
        constraints.append(Constraint(key, operator, tuple(part.strip() for part in inner.split(","))))
    return Selector(tuple(constraints))


@given(selectors, selectors, labels, st.booleans(), st.booleans())
def test_a_node_matches_both_selectors_together_when_it_matches_each(
    ours: Selector, theirs: Selector, node: dict[str, str], short: bool, spaced: bool
) -> None:
    together = both(ray_selector(ours), spelled(theirs, short, spaced))
    assert read(together).matches(node) == (ours.matches(node) and theirs.matches(node))
    assert validate_label_selector(together) is None


def python(code: str, directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([STARTUP, str(directory)])
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": path, **environment}
    return subprocess.run(
        [sys.executable, "-c", code, str(MODULE)], env=env, capture_output=True, text=True, check=False
    )


def test_a_sitecustomize_of_the_users_own_still_runs_and_is_the_one_that_is_imported(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("WHOSE = 'mine'")
    done = python("import sitecustomize; print(sitecustomize.WHOSE)", tmp_path, FABRIC_SELECTOR='{"fabric/site": "a"}')
    assert done.stdout == "mine\n", done.stderr


def test_a_process_without_ray_costs_no_import_of_it(tmp_path: Path) -> None:
    code = "import sys; print([name for name in ('ray', 'elastic_fabric_worker') if name in sys.modules])"
    done = python(code, tmp_path, FABRIC_SELECTOR='{"fabric/site": "a"}')
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize(("selector", "placed"), [('{"fabric/site": "a"}', True), ("", False)])
def test_ray_is_prepared_when_a_job_imports_it_and_only_then(tmp_path: Path, selector: str, placed: bool) -> None:
    (tmp_path / "elastic_fabric_worker.py").write_text("raise RuntimeError('a file of the same name')")
    done = python(
        "import ray; print(ray.remote_function.RemoteFunction._remote.__module__)", tmp_path, FABRIC_SELECTOR=selector
    )
    assert (done.stdout.strip() == "elastic_fabric_worker") == placed, done.stderr


def test_a_worker_that_does_not_know_where_it_may_run_does_not_start(tmp_path: Path) -> None:
    done = python("import sys, runpy; runpy.run_path(sys.argv[1])['setup']()", tmp_path)
    assert done.returncode != 0
    assert "FABRIC_SELECTOR is not set" in done.stderr
