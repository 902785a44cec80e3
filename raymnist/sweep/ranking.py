"""Which configuration of a study is best, and by how much."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from raymnist.metrics import METRICS
from raymnist.sweep.outcome import Outcome


@dataclass(frozen=True)
class Ranked:
    """A configuration, and what it reached.

    trial: the searched one. runs: what counts, in the order of their ids: its confirmations, or itself without any.
    values: each run's best objective.
    """

    trial: Outcome
    runs: list[Outcome]
    values: list[float]

    @property
    def mean(self) -> float:
        """The mean over the runs."""
        return statistics.fmean(self.values)

    @property
    def sd(self) -> float | None:
        """The standard deviation of a single run, estimated from all; None for one run alone."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def best(self) -> Outcome:
        """The run with the best objective; the first of equals."""
        sign = METRICS[self.trial.trial.metric].sign
        return self.runs[min(range(len(self.runs)), key=lambda run: sign * self.values[run])]


def by_objective(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Sort the ended trials, the best first and equals as they were."""
    ended = [outcome for outcome in outcomes if outcome.is_ended and outcome.best]
    return sorted(ended, key=lambda outcome: METRICS[outcome.trial.metric].sign * _value(outcome))


def ranking(outcomes: Sequence[Outcome]) -> list[Ranked]:
    """Rank a study's confirmed configurations by the mean of their ended runs; without any, the best trial alone."""
    searched = [outcome for outcome in outcomes if not outcome.trial.confirms]
    ranked = []
    for chosen in by_objective(searched):
        runs = [o for o in outcomes if o.trial.confirms == chosen.trial.trial_id and o.is_ended and o.best]
        if runs:
            ranked.append(Ranked(chosen, runs, [_value(run) for run in runs]))
    if not ranked:
        return [Ranked(chosen, [chosen], [_value(chosen)]) for chosen in by_objective(searched)[:1]]
    return sorted(ranked, key=lambda one: METRICS[one.trial.trial.metric].sign * one.mean)


def pareto_front(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """List the searched trials that no other one beats in all objectives, the best by the first objective first."""
    ended = by_objective([outcome for outcome in outcomes if not outcome.trial.confirms])
    values = [
        [METRICS[name].sign * outcome.best[name] for name in outcome.trial.metrics] for outcome in ended if outcome.best
    ]
    return [
        outcome
        for outcome, own in zip(ended, values, strict=True)
        if not any(other != own and all(a <= b for a, b in zip(other, own, strict=True)) for other in values)
    ]


def _value(outcome: Outcome) -> float:
    value: float = outcome.best[outcome.trial.metric] if outcome.best else float("nan")
    return value
