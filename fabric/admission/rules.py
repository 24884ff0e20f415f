"""The configuration as the queue reads it."""

from __future__ import annotations

from collections.abc import Iterable

from fabric.admission.values import ClassRules, DatasetRules, QueueRules, TeamRules
from fabric.config.schema import HOME_ONLY, BudgetBlock, Config, TeamBlock, ThresholdBlock
from fabric.money.budgets import BudgetRule
from fabric.sovereignty.rules import allowed_sites, is_home

TEAM = "team/"


def queue_rules(config: Config) -> QueueRules:
    """What the queue has to know of ``config``: quotas, weights, verdicts and data sets in plain values."""
    budgets = [budget for budget in config.budgets if budget.scope.startswith(TEAM)]
    named = {*config.teams, *(budget.scope.removeprefix(TEAM) for budget in budgets)}
    unnamed = TeamBlock()
    return QueueRules(
        home=frozenset(site for site in config.sites if is_home(config, site)),
        teams={name: _team(config, config.teams.get(name, unnamed), _of(name, budgets)) for name in sorted(named)},
        default_team=_team(config, unnamed, ()),
        classes={name: _class(config, name) for name in (HOME_ONLY, *config.data_classes)},
        datasets={
            name: DatasetRules(dataset.site, dataset.size, dataset.egress) for name, dataset in config.datasets.items()
        },
        baseline=tuple(_threshold(threshold) for threshold in config.burst.baseline),
        half_life_s=config.queue.half_life,
        preemption=config.queue.preemption,
    )


def _threshold(block: ThresholdBlock) -> str:
    """``4 GPUs deep for 300 s``."""
    deep = " and ".join(
        f"{amount:g} {unit}{'' if amount == 1 else 's'}"
        for amount, unit in ((block.gpus, "GPU"), (block.cpus, "CPU"))
        if amount
    )
    return f"{deep or 'anything'} deep for {block.for_:g} s"


def _of(team: str, budgets: Iterable[BudgetBlock]) -> tuple[BudgetRule, ...]:
    return tuple(
        BudgetRule.of(budget.scope, budget.per, budget.limit, budget.at)
        for budget in budgets
        if budget.scope == TEAM + team
    )


def _team(config: Config, block: TeamBlock, budgets: tuple[BudgetRule, ...]) -> TeamRules:
    return TeamRules(
        weight=block.weight,
        gpus=block.gpus,
        running=block.running,
        undeclared=config.queue.undeclared if block.undeclared is None else block.undeclared,
        max_priority=block.max_priority,
        budgets=budgets,
    )


def _class(config: Config, name: str) -> ClassRules:
    block = config.data_classes.get(name)
    return ClassRules(allowed_sites(config, name), spot=block is None or block.spot != "never")
