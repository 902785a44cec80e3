"""Learning curves."""

from __future__ import annotations

from collections.abc import Iterator

from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from raymnist.metrics import METRICS
from raymnist.results import Results


def learning_curves(results: Results) -> Iterator[tuple[str, str, Figure]]:
    """Draw, for each study, what its trials reported in each epoch: a panel per metric, a line per trial."""
    if results.history.empty:
        return
    for study, history in results.history.groupby("study", sort=False):
        metrics = [name for name in history.columns if name in METRICS and history[name].notna().any()]
        columns = min(3, len(metrics))
        rows = -(-len(metrics) // columns)
        figure = Figure(figsize=(4.2 * columns, 3.1 * rows + 0.4), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        trials = list(history.groupby("trial_id", sort=False))
        colours = colormaps["tab10" if len(trials) <= 10 else "turbo"].resampled(max(10, len(trials)))
        for panel, metric in zip(panels, metrics, strict=False):
            for number, (trial_id, of_trial) in enumerate(trials):
                known = of_trial[of_trial[metric].notna()]
                marker = "o" if len(known) < 20 else None
                panel.plot(
                    known["epoch"],
                    known[metric],
                    color=colours(number),
                    label=trial_id,
                    marker=marker,
                    markersize=3,
                )
            panel.set(title=metric, xlabel="epoch")
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
            panel.grid(alpha=0.3)
        for panel in panels[len(metrics) :]:
            panel.set_axis_off()
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=8, fontsize="small")
        yield f"curves_{study}", f"what each trial of {study} reported, per epoch", figure
