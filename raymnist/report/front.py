"""Pareto fronts of studies with several objectives."""

from __future__ import annotations

from collections.abc import Iterator

from matplotlib.figure import Figure

from raymnist.metrics import METRICS
from raymnist.report.scatter import FAKE, REAL
from raymnist.results import Results


def pareto_fronts(results: Results) -> Iterator[tuple[str, str, Figure]]:
    """Draw, for each study with several objectives, its trials by the first objective and each other one."""
    for study, settings in results.experiment.studies.items():
        metrics = settings.sweep.metrics if settings.sweep else []
        front = results.pareto_front(study)
        if front.empty:
            continue
        trials = results.trials[(results.trials["study"] == study) & results.trials[f"best_{metrics[0]}"].notna()]
        if "confirms" in trials:
            trials = trials[trials["confirms"] == ""]
        figure = Figure(figsize=(5.2 * (len(metrics) - 1), 4.4), layout="constrained")
        panels = figure.subplots(1, len(metrics) - 1, squeeze=False).ravel()
        for panel, other in zip(panels, metrics[1:], strict=True):
            panel.scatter(trials[f"best_{metrics[0]}"], trials[f"best_{other}"], color=REAL, alpha=0.5, label="trials")
            panel.plot(front[metrics[0]], front[other], "o-", color=FAKE, label="Pareto front")
            rises = METRICS[metrics[0]].direction != METRICS[other].direction
            beside = (5, -11) if rises else (5, 4)  # where the line between two objectives does not pass
            for line in front.to_dict("records"):
                place = (line[metrics[0]], line[other])
                panel.annotate(line["trial_id"], place, xytext=beside, textcoords="offset points", fontsize=8)
            panel.set(xlabel=_axis(metrics[0]), ylabel=_axis(other))
            panel.grid(alpha=0.3)
        panels[0].legend(fontsize="small")
        caption = f"the trials of {study} by {' and '.join(metrics)}; those on the front are beaten by no other in all"
        yield f"pareto_{study}", caption, figure


def _axis(metric: str) -> str:
    return f"{metric} ({'lower' if METRICS[metric].direction == 'min' else 'higher'} is better)"
