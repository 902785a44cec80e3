"""Suggestions by Optuna's tree-structured Parzen estimator, from what trials have reached.

Source: Bergstra et al., Algorithms for Hyper-Parameter Optimization, 2011; for several objectives Ozaki et al.,
Multiobjective Tree-Structured Parzen Estimator, 2022.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from raymnist.metrics import METRICS
from raymnist.search_space import Domain
from raymnist.sweep.outcome import Outcome
from raymnist.sweep.plan import Plan, last_name


def suggest(plan: Plan, number: int, others: Sequence[Outcome]) -> dict[str, Any]:
    """Choose the values of the trial `number`, by the domains' paths.

    others: the searched trials whose settings are known, whether they have ended, failed or are training now; one that
    trains now counts as bad, so that trials which begin together look in different places.

    What is suggested depends on these and on (seed, the trial's name) alone: a search that was interrupted goes on as
    if it had not been, as long as trials end in the same order.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    domains = plan.study.domains
    distributions = {path: _distribution(domain) for path, domain in domains.items()}
    metrics = plan.study.sweep.metrics if plan.study.sweep else []
    seed = zlib.crc32(f"{plan.seed} {plan.trial(number).trial_id}".encode())
    study = optuna.create_study(
        directions=["minimize" if METRICS[name].direction == "min" else "maximize" for name in metrics],
        sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=1, constant_liar=True),
    )
    study.add_trials([_as_it_ended(outcome, domains, distributions) for outcome in others])
    chosen = study.ask(distributions).params
    return {path: _outside(domain, chosen[path]) for path, domain in domains.items()}


def _as_it_ended(
    outcome: Outcome, domains: dict[str, Domain], distributions: dict[str, BaseDistribution]
) -> FrozenTrial:
    """Describe a trial to Optuna; one that a scheduler stopped by its best objective and how far it came."""
    searched, best = outcome.trial.searched, outcome.best
    values, intermediate, state = None, {}, TrialState.RUNNING
    if outcome.status == "stopped" and best:
        state, intermediate = TrialState.PRUNED, {outcome.history[-1]["epoch"]: best[outcome.trial.metric]}
    elif outcome.is_ended and best:
        state, values = TrialState.COMPLETE, [best[name] for name in outcome.trial.metrics]
    elif outcome.status == "failed":
        state = TrialState.FAIL
    return create_trial(
        params={path: _inside(domain, searched[last_name(path)]) for path, domain in domains.items()},
        distributions=distributions,
        state=state,
        values=values,
        intermediate_values=intermediate,
    )


def _distribution(domain: Domain) -> BaseDistribution:
    if domain.finite:
        return CategoricalDistribution(range(len(domain.arguments)))  # whatever is listed, by its place
    if domain.kind == "quniform":
        return IntDistribution(*domain.steps)
    low, high = domain.arguments
    if domain.kind == "randint":
        return IntDistribution(low, high - 1)
    return FloatDistribution(low, high, log=domain.kind == "loguniform")


def _outside(domain: Domain, value: Any) -> Any:
    """Turn Optuna's value into the setting's."""
    if domain.finite:
        return domain.arguments[value]
    return domain.multiple(value) if domain.kind == "quniform" else value


def _inside(domain: Domain, value: Any) -> Any:
    """Turn a setting's value into Optuna's."""
    if domain.finite:
        return domain.arguments.index(value)
    return round(value / domain.arguments[2]) if domain.kind == "quniform" else value
