"""What a well-formed configuration may still get wrong: rules that look at more than one key."""

from __future__ import annotations

from fabric.config.problems import Finding
from fabric.config.schema import Config


def check(config: Config) -> list[Finding]:
    """Everything the rules object to."""
    return []
