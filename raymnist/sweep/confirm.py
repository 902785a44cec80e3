"""Confirmation: the best configurations are trained again with fresh seeds, so that no luck decides.

The best of many trials owes its rank to luck in part; a mean over seeds that took no part in the search does not.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from raymnist.config import TrialConfig
from raymnist.sweep.outcome import Outcome
from raymnist.sweep.plan import Plan
from raymnist.sweep.ranking import by_objective


def confirmations(plan: Plan, searched: Sequence[Outcome]) -> list[TrialConfig]:
    """List the confirmations of a search; none before it is over, which failed trials do not hold up.

    Their seeds depend on the experiment's seed and on their names alone. They train all epochs: what stops trials early
    has chosen them, and would choose among the seeds.
    """
    settings = plan.study.confirm
    if settings is None or not all(outcome.is_ended or outcome.status == "failed" for outcome in searched):
        return []
    trials = []
    for chosen in by_objective(searched)[: settings.top]:
        for number in range(1, settings.seeds + 1):
            trial_id = f"{chosen.trial.trial_id}-s{number}"
            rng = np.random.default_rng([plan.seed, zlib.crc32(trial_id.encode())])
            update = {
                "trial_id": trial_id,
                "seed": int(rng.integers(2**31)),
                "train": chosen.trial.train.model_copy(update={"patience": None}),
                "confirms": chosen.trial.trial_id,
            }
            trials.append(chosen.trial.model_copy(update=update))
    return trials
