"""What an edit of the configuration changes, and what it may not change while the fabric runs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from fabric.config.problems import Finding, Path
from fabric.config.resolve import HEAD, home_site, node_types
from fabric.config.schema import Config
from fabric.config.sites import OnPremSite, SandboxSite
from fabric.model.nodes import NodeType

_RESTART = "undo the edit, or run fabric down and then fabric up"


@dataclass(frozen=True, slots=True)
class Changes:
    """An edit that may take effect now: one sentence per change; none when the meaning is the same."""

    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refusals:
    """An edit that may not take effect while the fabric runs, and why; never empty."""

    findings: tuple[Finding, ...]


def diff(old: Config, new: Config, live_node_types: Collection[str]) -> Changes | Refusals:
    """What changes from ``old`` to ``new``.

    Args:
        old: the configuration in force.
        new: the edited one.
        live_node_types: node types (``site.key``) of which a machine exists or has been asked for. Ray stops
            scaling when it meets a live node whose type it does not know, so these stay as they are.
    """
    findings = [*live_type_findings(old, new, live_node_types), *_fixed_while_running(old, new)]
    if findings:
        return Refusals(tuple(findings))
    return Changes(tuple(_sentences(_dump(old), _dump(new))))


def live_type_findings(old: Config, new: Config, live_node_types: Collection[str]) -> Iterator[Finding]:
    """What an edit may not do even while everything is started anew: drop or change a node type that is in use."""
    before, after = node_types(old), node_types(new)
    for name in sorted(live_node_types):
        if name == HEAD or name not in before:
            continue
        site, _, key = name.partition(".")
        path: Path = ("sites", site, "node_types", key)
        if name not in after:
            what = f"the node type {name} is gone but machines of it are alive"
            yield Finding(path, what, "put it back, and set its max or the baseline so that they are given back first")
            continue
        changed = _shape_changes(before[name], after[name])
        if changed:
            what = f"the node type {name} changes its {changed} but machines of it are alive"
            yield Finding(path, what, "undo the edit and add a node type with a new name instead")


def _shape_changes(before: NodeType, after: NodeType) -> str:
    relabelled = sorted({key for key, _ in before.labels.items() ^ after.labels.items()})
    parts = [
        ("resources", before.resources != after.resources),
        (f"labels {', '.join(relabelled)}", bool(relabelled)),
        ("kind of site", before.launchable != after.launchable),
    ]
    return " and ".join(word for word, changed in parts if changed)


def _fixed_while_running(old: Config, new: Config) -> Iterator[Finding]:
    """Settings that a running process has already acted on: addresses, paths, and which processes there are."""
    for block in ("listen", "ray"):
        yield from _fixed((block,), getattr(old, block).model_dump(), getattr(new, block).model_dump())
    yield from _fixed(("fabric",), old.fabric.model_dump(), new.fabric.model_dump())
    if home_site(old) != home_site(new):
        what = (
            f"the Ray head stands in the first on-prem site, which was {home_site(old)} and would be {home_site(new)}"
        )
        yield Finding(("sites", home_site(new)), what, _RESTART)
    for name, site in new.sites.items():
        before = old.sites.get(name)
        if isinstance(site, SandboxSite):
            if not isinstance(before, SandboxSite):
                yield Finding(("sites", name), f"the new site {name} needs a process that is not running", _RESTART)
                continue
            names = ("endpoint", "network")
            yield from _fixed(
                ("sites", name), before.model_dump(include=set(names)), site.model_dump(include=set(names))
            )
    if _local_nodes(old) != _local_nodes(new):
        yield Finding(
            ("sites", home_site(new)), "the nodes that fabric up starts on this machine (local: true) change", _RESTART
        )


def _fixed(path: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Finding]:
    for key, value in new.items():
        if value != old[key]:
            yield Finding((*path, key), f"{_name((*path, key))} cannot change while the fabric runs", _RESTART)


def _local_nodes(config: Config) -> dict[str, object]:
    return {
        f"{name}.{key}": (sorted(block.nodes), block.gpus, block.cpus, block.memory, block.gpu, block.labels)
        for name, site in config.sites.items()
        if isinstance(site, OnPremSite)
        for key, block in site.node_types.items()
        if block.local
    }


def _dump(config: Config) -> dict[str, Any]:
    return config.model_dump(mode="json", by_alias=True)


def _sentences(old: Any, new: Any, path: Path = ()) -> Iterator[str]:
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        yield from _entries(cast("dict[Any, Any]", old), cast("dict[Any, Any]", new), path)
    elif (olds := _blocks(old)) is not None and (news := _blocks(new)) is not None:
        yield from _entries(dict(enumerate(olds)), dict(enumerate(news)), path)
    else:
        yield f"{_name(path)} changes from {_shown(old)} to {_shown(new)}"


def _entries(old: Mapping[Any, Any], new: Mapping[Any, Any], path: Path) -> Iterator[str]:
    for key in [*old, *(key for key in new if key not in old)]:
        here = (*path, key)
        if key not in new:
            yield f"{_name(here)} is removed"
        elif key not in old:
            yield f"{_name(here)} is added" + ("" if isinstance(new[key], dict) else f": {_shown(new[key])}")
        else:
            yield from _sentences(old[key], new[key], here)


def _blocks(value: Any) -> list[Any] | None:
    """The value, if it is a list of blocks."""
    items = cast("list[Any]", value) if isinstance(value, list) else [None]
    return items if all(isinstance(item, dict) for item in items) else None


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return f"[{', '.join(_shown(item) for item in cast('list[Any]', value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_shown(item)}' for key, item in cast('dict[Any, Any]', value).items())}}}"
    return str(value)


def _name(path: Path) -> str:
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f"{'.' if text else ''}{step}"
    return text
