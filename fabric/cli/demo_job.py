"""The demo's job: submitted to the gateway with Ray's own unmodified command line and a user's token, and followed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from pathlib import Path
from typing import Any

from fabric.cli.bring_up import ray_environment
from fabric.config.schema import Config

_TRIAL = re.compile(r"sweep: (\d+)/(\d+) trial \d+ accuracy ([\d.]+) in [\d.]+ s on (\S+) node \S+")
_COUNT = re.compile(r"sweep: (\d+) trials wait")


class Progress:
    """How far the sweep is, read from the lines it prints.

    Attributes:
        trials, done: how many there are, and how many have finished.
        per_site: finished trials by site.
        best: best validation accuracy so far.
        result: what the job printed at its end; None before.
    """

    def __init__(self) -> None:
        self.trials = 0
        self.done = 0
        self.per_site: Counter[str] = Counter()
        self.best = 0.0
        self.result: dict[str, Any] | None = None
        self._last: deque[str] = deque(maxlen=5)

    @property
    def last_words(self) -> str:
        """The end of what was printed, for when it fails."""
        return "\n".join(self._last)

    def take(self, line: str) -> None:
        """Take in one line of the job's output."""
        if line:
            self._last.append(line)
        if trial := _TRIAL.match(line):
            self.done, self.trials = int(trial[1]), int(trial[2])
            self.best = max(self.best, float(trial[3]))
            self.per_site[trial[4]] += 1
        elif count := _COUNT.match(line):
            self.trials = int(count[1])
        elif line.startswith("{") and "test_accuracy" in line:
            self.result = json.loads(line)


class SweepJob:
    """One ``ray job submit`` of the hyper-parameter sweep, from its start to its end.

    Attributes:
        progress: how far it is.
        submitted_at: monotonic seconds.
    """

    def __init__(self, config: Config, job_dir: Path, log: Path) -> None:
        self.progress = Progress()
        self.submitted_at = time.monotonic()
        self._log = log.open("w")
        self._process = subprocess.Popen(
            [*_ray(), "job", "submit", "--working-dir", str(job_dir), "--", "python", "sweep.py"],
            env={**os.environ, **ray_environment(config), "RAY_LOG_TO_STDERR": "0", "NO_COLOR": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name="job", daemon=True)
        self._reader.start()

    @property
    def exit_code(self) -> int | None:
        """Exit code of ``ray job submit``, which is 0 only when the job succeeded; None while it runs."""
        code = self._process.poll()
        if code is not None:
            self._reader.join(timeout=5)
        return code

    def end(self) -> None:
        """Stop following it, if it still runs; the job itself ends with the cluster."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._reader.join(timeout=5)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self._log.write(line)
            self._log.flush()
            self.progress.take(line.strip())


def _ray() -> list[str]:
    return [str(Path(sys.executable).with_name("ray"))]
