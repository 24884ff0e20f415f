"""The example jobs: a real sweep with real accuracy, and a truthful account of accelerators."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.gpu_check import sound
from jobs.sweep import EPOCHS, Outcome, Setting, settings, summary

JOBS = Path(__file__).resolve().parents[3] / "jobs"


def outcome(trial: int, validation: float, test: float, site: str) -> Outcome:
    setting = Setting(0.01, 8, 0.0, 32)
    return Outcome(trial, setting, validation, test, float(trial), site, f"{site}.x", f"{site}-node", "cpu")


def test_settings_are_spread_over_the_whole_grid_without_repeats() -> None:
    chosen = settings(40)
    assert len(set(chosen)) == 40
    assert {setting.learning_rate for setting in chosen} == {1e-2, 3e-3, 1e-3, 3e-4}
    assert settings(40) == chosen
    with pytest.raises(SystemExit, match="between 1 and 48"):
        settings(49)


def test_the_best_setting_is_chosen_by_validation_and_judged_by_the_test_split() -> None:
    told = summary([outcome(1, 0.90, 0.99, "home"), outcome(2, 0.95, 0.94, "cloud"), outcome(3, 0.95, 1.0, "cloud")], 9)
    assert (told["best_trial"], told["test_accuracy"]) == (2, 0.94)
    assert told["trials_per_site"] == {"cloud": 2, "home": 1}


def test_a_node_that_offers_more_gpus_than_it_has_is_unsound_unless_they_are_logical() -> None:
    report = {"gpus_offered": 2.0, "devices": [{"name": "L4"}]}
    assert not sound(report, logical=False)
    assert sound(report, logical=True)
    assert not sound({**report, "error": "no answer"}, logical=True)


def test_the_jobs_say_what_they_take_without_a_cluster() -> None:
    for job in ("sweep.py", "gpu_check.py"):
        done = subprocess.run([sys.executable, str(JOBS / job), "--help"], capture_output=True, text=True, check=True)
        assert "ray job submit" in done.stdout
    assert EPOCHS > 0


@pytest.mark.cluster
def test_a_sweep_on_a_real_cluster_learns_the_digits_and_gpu_check_sees_no_gpu() -> None:
    code = f"""
import json, sys
sys.path.insert(0, {str(JOBS.parent)!r})
import ray
here = {{"fabric/site": "home"}}
ray.init("local", num_cpus=1, num_gpus=2, include_dashboard=False, object_store_memory=80_000_000, labels=here)
from jobs import gpu_check, sweep
print(json.dumps(sweep.run(2, 8, 1)))
print(json.dumps(gpu_check.check(ray.nodes(), 60)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    result, reports = (json.loads(line) for line in done.stdout.splitlines() if line.startswith(("{", "[")))
    assert result["trials_per_site"] == {"home": 2}
    assert result["test_accuracy"] > 0.9
    assert [(report["gpus_offered"], report["site"]) for report in reports] == [(2.0, "home")]
