"""The controller process: ``python -m autoscaler.shell.main --config fabric.yaml``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from fabric.config.reload import BadConfigError
from fabric.config.schema import Config
from fabric.journal.base import Journal, JournalUnavailableError
from fabric.journal.stores import open_journal
from fabric.telemetry.emit import configure_logging

_PATIENCE_WITH_THE_HEAD_S = str(7 * 86400)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM. Returns 0, 2 for a bad configuration, 3 for a journal or an address that cannot be had."""
    parser = argparse.ArgumentParser(prog="python -m autoscaler.shell.main", description="Run the controller.")
    parser.add_argument("--config", required=True, type=Path, help="path of fabric.yaml")
    parser.add_argument("--keep", type=Path, help="file that always holds the last good configuration")
    options = parser.parse_args(arguments)
    configure_logging("controller")
    # Ray reads this once, when it is imported.
    os.environ["RAY_AUTH_MODE"] = "token"
    # Ray ends a process whose head is away for a minute. This one waits: the queue and the machines still need it.
    os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", _PATIENCE_WITH_THE_HEAD_S)
    from autoscaler.shell.controller import Controller

    def journal(config: Config) -> Journal:
        return open_journal(config.fabric.journal, "controller", options.config.parent)

    try:
        controller = Controller(options.config, options.keep, journal)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: controller.stop())
        controller.run()
    except BadConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except (JournalUnavailableError, OSError) as error:
        print(error, file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
