"""``python -m fabric.cli`` is ``fabric``."""

from fabric.cli.main import main

main()
