"""On-prem nodes: always told to Ray, never bought or ended, and written of when they die or come back."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import structlog

from autoscaler.core.configured import HomeNode
from autoscaler.shell.book import Book
from fabric.journal.base import Draft
from fabric.model.events import Event

# A machine that has just been switched on is waited for this long before it counts as dead.
STARTING_S = 120.0


@dataclass(frozen=True, slots=True)
class HomeView:
    """One on-prem node as of the last tick.

    Attributes:
        node: which.
        alive: it is in the cluster.
        starting: it has not been seen yet and is still waited for.
        since: Unix seconds since when it has been alive, or away.
    """

    node: HomeNode
    alive: bool
    starting: bool
    since: float


class HomeWatch:
    """Follows on-prem nodes through Ray's node table.

    A dead one is no longer listed to Ray as a machine, so that no work is planned on it and nobody tries to end
    it; its raylet may come back at any time under the same id and is a member again with the next tick.

    Args:
        nodes: the nodes of the configuration in force.
        book: the journal's fold.
        clock: Unix seconds.
    """

    def __init__(self, nodes: Callable[[], Collection[HomeNode]], book: Book, clock: Callable[[], float]) -> None:
        self._nodes = nodes
        self._book = book
        self._clock = clock
        self._started = clock()
        self._known: dict[str, HomeView] = {}
        self._log = structlog.get_logger()

    def observe(self, alive: Collection[str], died: Collection[str]) -> None:
        """Take in one look at Ray's node table, and write down what has changed.

        Args:
            alive: ids of the nodes that are up.
            died: ids of nodes that were up and are not.
        """
        now, written, drafts = self._clock(), self._book.home(), list[Draft]()
        views: dict[str, HomeView] = {}
        for node in self._nodes():
            before = self._known.get(node.node_id)
            up = node.node_id in alive
            waited = now - (before.since if before else self._started) >= STARTING_S
            starting = not up and node.node_id not in died and not waited and (before is None or before.starting)
            changed = before is None or before.alive != up
            since = now if before is None or changed else before.since
            views[node.node_id] = HomeView(node, up, starting, since)
            last = written.get(node.node_id)
            if up and (last is None or not last.alive):
                facts = {"node": node.node_id, "node_type": node.node_type}
                drafts.append(Draft(Event.ONPREM_NODE_SEEN, facts))
            elif not up and not starting and (last is None or last.alive):
                facts = {"node": node.node_id, "node_type": node.node_type, "since": since}
                drafts.append(Draft(Event.ONPREM_NODE_DEAD, facts))
                self._log.warning("an on-prem node is dead; nothing is bought for it", node=node.node_id)
        self._known = views
        if drafts:
            self._book.append(*drafts)

    def views(self) -> tuple[HomeView, ...]:
        """Every on-prem node, in the order of the configuration."""
        return tuple(self._known.values())
