"""What ``fabric why`` can be asked about: every name by which the journal knows a launch or a node."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from fabric.cli.exits import CliError, Exit
from fabric.journal.base import Entry
from fabric.model.events import Event

ONPREM_PREFIX = "onprem/"
KINDS = (
    "latest, the number of a decision, a launch token, an instance id, a Ray node id, onprem/SITE/NODE or the NODE "
    "alone, a Ray job or submission id; of an id its beginning is enough"
)
_LEAST_PREFIX = 3


def names(entries: Iterable[Entry]) -> dict[str, set[str]]:
    """Every name, with the launch tokens or on-prem node ids it may mean."""
    found: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        if entry.kind == Event.DECISION:
            # Only a receipt says which launch is which Ray node. Not decoded: there may be very many.
            for node in (entry.data.get("snapshot") or {}).get("nodes") or ():
                _learn(found, node.get("token") or _onprem(node), node.get("ray_node_id"), node.get("instance_id"))
        else:
            token = entry.data.get("token") or entry.data.get("node")
            _learn(found, token, entry.data.get("instance"), entry.data.get("ray_node_id"))
    return found


def meant(known: Mapping[str, set[str]], subject: str) -> str | None:
    """The token or on-prem node id that ``subject`` names, whole or by its beginning; None if nothing.

    Raises:
        CliError: it names several.
    """
    found = known.get(subject) or set()
    if not found and len(subject) >= _LEAST_PREFIX:
        found = {token for name, tokens in known.items() if name.startswith(subject) for token in tokens}
    if len(found) > 1:
        raise CliError(
            Exit.NO, f"{subject} may be any of {len(found)}: {', '.join(sorted(found)[:8])}", "Give more of the id."
        )
    return next(iter(found), None)


def unknown(known: Mapping[str, set[str]], subject: str) -> CliError:
    """The answer when nothing has this name."""
    near = get_close_matches(subject, known, n=3)
    hint = f"Near it: {', '.join(near)}. " if near else ""
    return CliError(
        Exit.NO, f"the journal knows nothing named {subject}", f"{hint}SUBJECT is {KINDS}. fabric nodes lists nodes."
    )


def _learn(found: dict[str, set[str]], token: Any, *ids: Any) -> None:
    if not token:
        return
    short = str(token).rpartition("/")[2] if str(token).startswith(ONPREM_PREFIX) else ""
    for name in (token, short, *ids):
        if name:
            found[str(name)].add(str(token))


def _onprem(node: Mapping[str, Any]) -> str:
    instance = str(node.get("instance_id") or "")
    return instance if instance.startswith(ONPREM_PREFIX) else ""
