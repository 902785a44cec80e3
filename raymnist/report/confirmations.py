"""What confirmed configurations reach, seed by seed."""

from __future__ import annotations

from collections.abc import Iterator

from matplotlib.figure import Figure

from raymnist import folder
from raymnist.report.scatter import FAKE, REAL
from raymnist.results import Results


def confirmed_objectives(results: Results) -> Iterator[tuple[str, str, Figure]]:
    """Draw, for each study with confirmations, the objective of every run beside what the search had found."""
    if "confirms" not in results.trials:
        return
    for study in results.experiment.studies:
        chosen = folder.read_json(results.folder.study(study) / "best.json")
        trials = results.trials[results.trials["study"] == study].set_index("trial_id")
        if chosen is None or not (trials["confirms"] != "").any():
            continue
        names = [ranked["trial_id"] for ranked in chosen["ranking"]]
        column = f"best_{chosen['metric']}"
        figure = Figure(figsize=(7, 1.2 + 0.5 * len(names)), layout="constrained")
        axes = figure.subplots()
        for place, ranked in enumerate(chosen["ranking"]):
            runs = trials.loc[trials["confirms"] == ranked["trial_id"], column]
            is_first = place == 0
            axes.plot(runs, [place] * len(runs), "o", color=REAL, alpha=0.6, label="fresh seeds" if is_first else None)
            line = [place - 0.3, place + 0.3]
            axes.plot([ranked["mean"]] * 2, line, color=REAL, label="their mean" if is_first else None)
            searched = trials.loc[ranked["trial_id"], column]
            axes.plot(searched, place, "D", color=FAKE, fillstyle="none", label="in the search" if is_first else None)
        axes.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5), xlabel=chosen["metric"])
        axes.grid(axis="x", alpha=0.3)
        figure.legend(loc="outside upper center", ncols=3, fontsize="small")
        caption = f"the best configurations of {study} with fresh seeds, beside what each had reached in the search"
        yield f"confirmations_{study}", caption, figure
