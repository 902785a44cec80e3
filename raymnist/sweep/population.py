"""Population-based training by Ray Tune, over the rates that a study searches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from ray.tune.schedulers import PopulationBasedTraining

from raymnist.config import PBT
from raymnist.search_space import Domain


def population(
    settings: PBT, domains: dict[str, Domain], epochs: int, every: int, seed: int
) -> PopulationBasedTraining:
    """Make the scheduler for trials whose rates stand in their Tune configuration under `planned.rates`.

    Trials do not wait for each other, as Tune's synchronous way waits for ever when a trial fails, or when interrupted
    trials go on. A trial is compared with what the others reported last.
    domains: of the searched settings, by the last part of their name. every: epochs from one look at the objective to
    the next, the only moments at which an exchange is possible.
    """
    rng = np.random.default_rng(seed)
    mutations = {
        name: list(domain.arguments) if domain.finite else _draw(domain, rng) for name, domain in domains.items()
    }
    return PopulationBasedTraining(
        time_attr="epoch",
        perturbation_interval=settings.interval(every, epochs),
        hyperparam_mutations={"planned": {"rates": mutations}},
        quantile_fraction=settings.quantile,
        resample_probability=settings.resample_probability,
        custom_explore_fn=lambda config: _within_bounds(config, domains),
        log_config=False,
    )


def _draw(domain: Domain, rng: np.random.Generator) -> Callable[[], Any]:
    return lambda: domain.sample(rng)


def _within_bounds(config: dict[str, Any], domains: dict[str, Domain]) -> dict[str, Any]:
    """Keep perturbed settings within their domains, which Tune does not."""
    rates = config["planned"]["rates"]
    for name, domain in domains.items():
        if not domain.finite:
            low, high = (float(bound) for bound in domain.arguments)  # Tune rounds what multiplies a whole number
            rates[name] = min(max(rates[name], low), high)
    return config
