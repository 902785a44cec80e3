"""The tables of trials, and what a study's best is, as files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from raymnist import folder
from raymnist.folder import Folder
from raymnist.metrics import METRICS
from raymnist.sweep.outcome import RAN_ON, Outcome
from raymnist.sweep.ranking import pareto_front, ranking


def row(outcome: Outcome) -> dict[str, Any]:
    """Give the trial's row of `trials.csv`."""
    final, best = (outcome.history[-1] if outcome.history else {}), outcome.best or {}
    metrics = [name for name in final if name in METRICS]
    return {
        "study": outcome.trial.study,
        "trial_id": outcome.trial.trial_id,
        "status": outcome.status,
        **({"confirms": outcome.trial.confirms} if outcome.trial.confirms else {}),
        **outcome.settings,
        "seed": outcome.trial.seed,
        "epochs_done": len(outcome.history),
        "best_epoch": best.get("epoch", ""),
        "metric": outcome.trial.metric,
        **{f"best_{name}": best.get(name, "") for name in outcome.trial.metrics},
        **{f"final_{name}": final[name] for name in metrics},
        "seconds": round(outcome.seconds, 1),
        **{name: outcome.ran_on.get(name, "") for name in RAN_ON},
        "error": outcome.error,
    }


def write_tables(outcomes: Sequence[Outcome], results: Folder) -> None:
    """Write `trials.csv` and `history.csv` of all studies."""
    trials = [row(outcome) for outcome in outcomes]
    for study in {outcome.trial.study for outcome in outcomes if outcome.trial.other_metrics}:
        front = {one.trial.trial_id for one in pareto_front([o for o in outcomes if o.trial.study == study])}
        for trial in trials:
            if trial["study"] == study:
                trial["pareto_front"] = "yes" if trial["trial_id"] in front else ""
    last = ["seconds", *RAN_ON, "error"]
    columns = [name for name in dict.fromkeys(name for row in trials for name in row) if name not in last]
    folder.write_csv(results.trials, [*columns, *last], trials)
    epochs = [
        {"study": outcome.trial.study, "trial_id": outcome.trial.trial_id, **epoch}
        for outcome in outcomes
        for epoch in outcome.history
    ]
    columns = list(dict.fromkeys(name for row in epochs for name in row)) or ["study", "trial_id", "epoch"]
    folder.write_csv(results.history, columns, epochs)


def write_best(outcomes: Sequence[Outcome], results: Folder) -> None:
    """Write a study's `best.json`: the ranking of its configurations, and the run whose network stands for the best."""
    ranked = ranking(outcomes)
    if not ranked:
        (results.study(outcomes[0].trial.study) / "best.json").unlink(missing_ok=True)
        return
    first, trial = ranked[0], ranked[0].best.trial
    chosen = {
        "trial_id": trial.trial_id,
        "metric": trial.metric,
        "value": first.mean,
        "epoch": first.best.best["epoch"] if first.best.best else None,
        **trial.model_dump(mode="json", include={"seed", "model"}),
        "train": trial.train.model_dump() | {name: first.best.settings[name] for name in trial.perturbed},
        "searched": first.best.settings,
        "runs": [run.trial.trial_id for run in first.runs],
        "ranking": [
            {
                "trial_id": one.trial.trial.trial_id,
                "searched": one.best.settings,
                "mean": one.mean,
                "sd": one.sd,
                "n": len(one.runs),
                "best": one.best.trial.trial_id,
                "epoch": one.best.best["epoch"] if one.best.best else None,
            }
            for one in ranked
        ],
        "pareto_front": [one.trial.trial_id for one in pareto_front(outcomes)] if trial.other_metrics else [],
    }
    folder.write_json(results.study(trial.study) / "best.json", chosen)
