"""What can be seen of a fabric: the controller's account of it, or, when that is down, the journal's; and the money."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fabric.cli.exits import CliError, Exit

if TYPE_CHECKING:
    from fabric.cli.context import Context
    from fabric.cli.status_journal import JournalAccount
    from fabric.money.ledger import Statement


@dataclass(frozen=True, slots=True)
class Seen:
    """One look.

    Attributes:
        account: the controller's ``/status``, or what the journal knows of it; each node also with its
            ``cost_micro_usd``, and beside them ``controller`` (address, answers) and ``journal`` (seq and at of its
            newest entry).
        statement: the ledger then; None when there is no journal yet.
    """

    account: dict[str, Any]
    statement: Statement | None

    @property
    def answers(self) -> bool:
        """Whether the controller told this."""
        return self.account["controller"]["answers"]


@contextmanager
def looking(context: Context) -> Iterator[Callable[[], Seen]]:
    """A function that looks at everything; each call reads only what is new in the journal.

    It raises CliError when something else answers in the controller's place, and when neither the controller nor a
    journal can tell anything.
    """
    from fabric.cli.status_journal import JournalAccount

    if not context.journal_path.exists():
        yield lambda: _look(context, None)
        return
    with context.journal() as journal:
        account = JournalAccount(journal, context.config_in_force, context.config_path)
        yield lambda: _look(context, account)


def _look(context: Context, account: JournalAccount | None) -> Seen:
    told = context.controller_status()
    address = context.config_in_force.listen.controller
    if told is not None and not {"node_types", "last_decision"} <= told.keys():
        raise CliError(
            Exit.CONFLICT,
            f"what answers on {address} is not the controller of a fabric",
            "Find out what listens there, or give listen.controller another port.",
        )
    now, answers = time.time(), told is not None
    if account is None:
        if told is None:
            raise CliError(
                Exit.UNAVAILABLE,
                f"the controller does not answer on {address}, and there is no journal at {context.journal_path}: "
                "this fabric has never run",
                "Start it with: fabric up",
            )
        statement, position = None, {"seq": 0, "at": None}
    else:
        account.refresh()
        statement, position = account.statement(now), account.position()
        told = account.status(now) if told is None else told
    costs = {line.token: line.accrued for line in statement.lines} if statement else {}
    seen = {
        **told,
        "nodes": [{**node, "cost_micro_usd": costs.get(node["token"], 0)} for node in told["nodes"]],
        "controller": {"address": address, "answers": answers},
        "journal": position,
    }
    return Seen(seen, statement)
