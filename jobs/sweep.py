"""A hyper-parameter sweep over scikit-learn's handwritten digits: one Ray task, and one GPU, per trial.

    ray job submit --working-dir jobs -- python sweep.py

Each trial trains a small convolutional network and is judged on digits it has not seen. The best setting is chosen
on a validation split and reported on a test split that no trial was chosen by. A trial on a node that is lost is
run again elsewhere. One line per finished trial; the last line is a JSON object with the result.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import ray

SEED = 20240611
EPOCHS = 16


@dataclass(frozen=True)
class Setting:
    """The hyper-parameters of one trial."""

    learning_rate: float
    channels: int
    dropout: float
    batch: int


@dataclass(frozen=True)
class Outcome:
    """What one trial found, and where it ran."""

    trial: int
    setting: Setting
    validation: float
    test: float
    seconds: float
    site: str
    node_type: str
    node: str
    device: str


def settings(count: int) -> list[Setting]:
    """``count`` settings of the grid, spread over it; the same ones every time."""
    grid = [
        Setting(rate, channels, dropout, batch)
        for rate, channels, dropout, batch in itertools.product(
            (1e-2, 3e-3, 1e-3, 3e-4), (8, 16, 32), (0.0, 0.25), (32, 64)
        )
    ]
    if not 1 <= count <= len(grid):
        raise SystemExit(f"--trials must be between 1 and {len(grid)}, the size of the grid; it is {count}")
    return [grid[position * len(grid) // count] for position in range(count)]


def train(trial: int, setting: Setting, epochs: int) -> Outcome:
    """Train one setting for ``epochs`` passes over the training digits, and judge it. The same again gives the same."""
    import torch
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(SEED + trial)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target)
    rest, test = train_test_split(range(len(labels)), test_size=0.2, stratify=digits.target, random_state=SEED)
    learn, check = train_test_split(rest, test_size=0.2, stratify=digits.target[rest], random_state=SEED)

    width = setting.channels
    network = nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(setting.dropout), nn.Linear(width * 16, 10),
    ).to(device)  # fmt: skip
    optimizer = torch.optim.Adam(network.parameters(), lr=setting.learning_rate)
    loss = nn.CrossEntropyLoss()
    x, y = images[learn].to(device), labels[learn].to(device)

    begun = time.perf_counter()
    network.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(y), device=device).split(setting.batch):
            optimizer.zero_grad()
            loss(network(x[rows]), y[rows]).backward()
            optimizer.step()

    def accuracy(rows: Sequence[int]) -> float:
        with torch.no_grad():
            right = network(images[rows].to(device)).argmax(1).cpu() == labels[rows]
        return float(right.float().mean())

    network.eval()
    context = ray.get_runtime_context()
    placed = context.get_node_labels()
    return Outcome(
        trial=trial,
        setting=setting,
        validation=accuracy(check),
        test=accuracy(test),
        seconds=time.perf_counter() - begun,
        site=str(placed.get("fabric/site", "unknown")),
        node_type=str(placed.get("fabric/node-type", "unknown")),
        node=str(context.get_node_id()),
        device=device,
    )


def run(count: int, epochs: int, gpus: float) -> dict[str, Any]:
    """Run ``count`` trials as Ray tasks and return the summary that ``main`` prints."""
    begun = time.perf_counter()
    # Ray gives a GPU task a fresh process unless told otherwise; importing PyTorch takes longer than a trial.
    task = ray.remote(num_gpus=gpus, num_cpus=0, max_retries=5, max_calls=1000)(train)
    waiting = [task.remote(number, setting, epochs) for number, setting in enumerate(settings(count), 1)]
    print(f"sweep: {count} trials wait for {gpus:g} GPU each", flush=True)
    outcomes: list[Outcome] = []
    while waiting:
        (first, *_), waiting = ray.wait(waiting, num_returns=1)
        outcome: Outcome = ray.get(first)
        outcomes.append(outcome)
        print(
            f"sweep: {len(outcomes)}/{count} trial {outcome.trial} accuracy {outcome.validation:.4f} "
            f"in {outcome.seconds:.1f} s on {outcome.site} node {outcome.node[:8]}",
            flush=True,
        )
    return summary(outcomes, time.perf_counter() - begun)


def summary(outcomes: Sequence[Outcome], seconds: float) -> dict[str, Any]:
    """The best setting by validation accuracy, its accuracy on the test split, and what ran where."""
    best = max(outcomes, key=lambda outcome: (outcome.validation, -outcome.trial))
    durations = sorted(outcome.seconds for outcome in outcomes)
    return {
        "trials": len(outcomes),
        "best": asdict(best.setting),
        "best_trial": best.trial,
        "validation_accuracy": round(best.validation, 4),
        "test_accuracy": round(best.test, 4),
        "trials_per_site": dict(sorted(Counter(outcome.site for outcome in outcomes).items())),
        "trials_per_node": dict(sorted(Counter(outcome.node[:8] for outcome in outcomes).items())),
        "median_trial_s": round(durations[len(durations) // 2], 2),
        "sweep_s": round(seconds, 1),
        "devices": sorted({outcome.device for outcome in outcomes}),
    }


def main() -> None:
    """Read the command line, run the sweep, print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=40, help="how many settings of the grid to try (default 40)")
    parser.add_argument(
        "--epochs", type=int, default=EPOCHS, help=f"passes over the data in a trial (default {EPOCHS})"
    )
    parser.add_argument("--gpus", type=float, default=1, help="GPUs that each trial asks Ray for (default 1)")
    options = parser.parse_args()
    ray.init(address="auto", log_to_driver=False)
    print(json.dumps(run(options.trials, options.epochs, options.gpus)), flush=True)


if __name__ == "__main__":
    main()
