"""The reference page of the configuration: ``python -m fabric.config.reference > docs/reference/configuration.md``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from fabric.config.problems import Path
from fabric.config.rules import RULES
from fabric.config.shape import Shape, config_shape, default_of, fields_of

_HEAD = """# Configuration

Generated from `fabric/config/schema.py` by `python -m fabric.config.reference`; do not edit.

One YAML 1.2 file says everything a fabric knows about itself. `configs/fabric.yaml` is an annotated example that sets
every key; `configs/examples/` has smaller ones. Check a file with `fabric validate FILE`. How to change it while the
fabric runs: [change the configuration](../howto/change-the-configuration.md).

Keys that are not listed here are refused. A key without a default and not marked *required* may be left out.

## Quantities

| Quantity | Written as | Note |
| --- | --- | --- |
| duration | `90s`, `5m`, `1h30m`, `2d`, `250ms` | units `ms`, `s`, `m`, `h`, `d`; only `0` needs none |
| money | `150 USD` | the only currency is USD |
| price | `2.50 USD/h` | per instance and hour, billed by the second |
| size | `512GiB`, `80GB` | `KiB` to `PiB` count in 1024, `kB` to `PB` in 1000 |
| GPUs, CPUs | `8` | the key names the unit |
| part of a budget | `80%` | more than 0 %, at most 100 % |
| address | `127.0.0.1:8400`, `[::1]:8400` | host and port |
| name | `aws-fra` | 1 to 63 small letters, digits and inner hyphens |
| path | `../state` | relative paths are taken from the folder of the file |
"""

_TAIL = """## What else is checked

"""


def text() -> str:
    """The page."""
    sections = "\n".join(_sections(config_shape(), ()))
    rules = "".join(f"* {(rule.__doc__ or '').strip()}\n" for rule in RULES)
    return f"{_HEAD}\n{sections}\n{_TAIL}{rules}"


def _sections(shape: Shape, path: Path, note: str = "") -> Iterator[str]:
    for tag, choice in shape.choices.items():
        if choice.model is not None:
            yield from _sections(choice, path, f" (`kind: {tag}`)")
    if shape.item is not None:
        yield from _sections(shape.item, path, note)
    if shape.model is None:
        return
    title = f"`{'.'.join(map(str, path)).replace('.[]', '[]')}`{note}" if path else "The file"
    yield f"## {title}\n\n{(shape.model.__doc__ or '').strip()}\n"
    yield "| Key | Value | Default | Meaning |\n| --- | --- | --- | --- |"
    for key, info in fields_of(shape.model).items():
        default = "*required*" if info.is_required() else _default(default_of(info))
        yield f"| `{key}` | {_value(shape.keys[key])} | {default} | {info.description} |"
    yield ""
    for key, inner in shape.keys.items():
        yield from _sections(inner, (*path, key, *_entry(inner)), note)


def _entry(shape: Shape) -> Path:
    return () if shape.item is None else ("[]",) if shape.is_list else ("NAME",)


def _default(default: Any) -> str:
    if default is None or default in ([], {}):
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, list):
        return f"`[{', '.join(map(str, default))}]`"  # pyright: ignore[reportUnknownArgumentType]
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def _value(shape: Shape) -> str:
    if shape.allowed:
        return " or ".join(f"`{word}`" for word in shape.allowed)
    if shape.choices and shape.item is None:
        choices = [choice for choice in shape.choices.values() if choice.model is None]
        return " or ".join(_value(choice) for choice in choices) or "a block, see below"
    if shape.item is not None:
        inner = _value(shape.item)
        several = "blocks, see below" if shape.item.model or shape.item.choices else inner
        return f"list of: {several}" if shape.is_list else f"by name: {several}"
    if shape.model is not None:
        return "a block, see below"
    return shape.wanted


if __name__ == "__main__":
    sys.stdout.write(text())
