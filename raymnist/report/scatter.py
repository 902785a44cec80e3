"""Maps of the embeddings, coloured by digit, by cluster, and by real and fake."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from raymnist.results import Results

TEN = colormaps["tab10"]
MANY = [*TEN.colors, *colormaps["tab20b"].colors]  # type: ignore[attr-defined]
NOISE = (0.6, 0.6, 0.6, 1.0)
SHOWN = 10_000  # images of each origin at most; more would only cover each other
REAL, FAKE = "#0072b2", "#d55e00"  # Okabe and Ito's blue and vermilion, told apart by everyone


def reduced_maps(results: Results) -> Iterator[tuple[str, str, Figure]]:
    """Draw every reduction of real and fake images in its first two dimensions, thrice coloured."""
    for name, title, points in _maps(results):
        figure = Figure(figsize=(15, 5.2), layout="constrained")
        digits, clusters, sources = figure.subplots(1, 3, sharex=True, sharey=True)
        real = points["source"] == "real"
        labelled = points[real & points["label"].notna()]
        shown = labelled if len(labelled) else points[real]
        _scatter(digits, shown, [TEN(int(label) % 10) for label in shown["label"].fillna(0)])
        digits.set_title("real images by digit" if len(labelled) else "real images (no labels)")
        if len(labelled):
            _legend(
                digits,
                {f"{int(label)}": TEN(int(label) % 10) for label in sorted(labelled["label"].unique())},
            )
        _scatter(clusters, points, [_colour(cluster) for cluster in points["cluster"]])
        noise = "" if (points["cluster"] >= 0).all() else " (grey: in none)"
        clusters.set_title(f"all images by cluster{noise}")
        _scatter(sources, points, [REAL if is_real else FAKE for is_real in real])
        sources.set_title("real and fake" if (~real).any() else "real")
        _legend(sources, {"real": REAL, "fake": FAKE} if (~real).any() else {"real": REAL})
        figure.suptitle(title)
        yield f"map_{name}", title, figure


def scatter_3d(results: Results) -> Iterator[tuple[str, str, Figure]]:
    """Draw every reduction to three or more dimensions in its first three, coloured by cluster."""
    for name, title, points in _maps(results):
        xyz = np.stack(points["xyz"].to_list())
        if xyz.shape[1] < 3:
            continue
        figure = Figure(figsize=(7.5, 7.5), layout="constrained")
        axes: Any = figure.add_subplot(projection="3d")
        for is_real, marker, label in ((True, "o", "real"), (False, "^", "fake")):
            chosen = (points["source"] == "real") == is_real
            if chosen.any():
                colours = [_colour(cluster) for cluster in points.loc[chosen, "cluster"]]
                axes.scatter(
                    *xyz[chosen, :3].T,
                    c=colours,
                    s=_size(points),
                    alpha=0.6,
                    marker=marker,
                    linewidths=0,
                    label=label,
                )
        axes.set(xlabel="first", ylabel="second", zlabel="third", title=f"{title}\nby cluster; o real, ^ fake")
        axes.set_box_aspect(None, zoom=0.9)
        yield f"scatter3d_{name}", f"{title}, coloured by cluster", figure


def _maps(results: Results) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Go through the reductions: a name, a title, and a row per point with xyz, source, label and cluster.

    Each generator has its own, of its fakes and the real images; without generators, of the real images.
    """
    evaluation = results.experiment.evaluation
    parts = ("points", "coordinates", "clusters")
    if evaluation is None or not all(any((results.folder.embeddings / part).glob("*.parquet")) for part in parts):
        return
    places = [results.folder.embeddings / part for part in parts]
    points = pd.read_parquet(places[0], columns=["id", "source", "trial_id", "label"])
    chosen = points.sort_values("id").groupby("trial_id", sort=False).head(SHOWN)["id"]  # which are in random order
    coordinates, clusters = (pd.read_parquet(place, filters=[("id", "in", set(chosen))]) for place in places[1:])
    points = points.set_index("id")[["source", "label"]]
    firsts = coordinates.drop_duplicates("features")
    first_encoders = dict(zip(firsts["features"], firsts["encoder"], strict=True))
    generators = coordinates.loc[coordinates["study"] != "", ["study", "trial_id"]].drop_duplicates()
    pairs = [pair for pair in generators.itertuples(index=False, name=None) if pair[1] not in results.averaged]
    pairs = pairs or [("", "")]
    first_clusterer = clusters["clusterer"].iloc[0]
    shown = coordinates["encoder"] == coordinates["features"].map(first_encoders)  # an encoder, not its confirmations
    for (features, reducer), placed in coordinates[shown].groupby(["features", "reducer"], sort=False):
        for study, trial_id in pairs:
            fit_on = evaluation.fit_on if study else "real"
            of_pair = placed[placed["fit_on"] == fit_on]
            wanted = (of_pair["trial_id"] == trial_id) | ((of_pair["study"] == "") & (fit_on == "real"))
            grouped = clusters[
                (clusters["features"] == features)
                & (clusters["encoder"] == first_encoders[str(features)])
                & (clusters["reducer"] == reducer)
                & (clusters["clusterer"] == first_clusterer)
                & (clusters["trial_id"] == trial_id)
                & (clusters["population"] == ("both" if study else "real"))
            ]
            joined = of_pair[wanted].set_index("id")[["xyz"]].join(points).join(grouped.set_index("id")["cluster"])
            if joined.empty:  # it failed
                continue
            title = f"{reducer} of {features}, {f'real and {trial_id}' if study else 'real'}, fitted on {fit_on}"
            title += f", clusters of {first_clusterer}"
            title += f", {len(joined):,} shown" if len(chosen) < len(points) else ""
            yield "_".join(part for part in (str(features), str(reducer), trial_id) if part), title, joined


def _colour(cluster: Any) -> Any:
    """Choose a cluster's colour; that of noise, and of images whose clustering failed, is grey."""
    return NOISE if pd.isna(cluster) or cluster < 0 else MANY[int(cluster) % len(MANY)]


def _scatter(axes: Any, points: pd.DataFrame, colours: list[Any]) -> None:
    xyz = np.stack(points["xyz"].to_list())
    second = xyz[:, 1] if xyz.shape[1] > 1 else np.zeros(len(xyz))
    order = np.random.default_rng(0).permutation(len(xyz))  # so that no colour covers the others
    axes.scatter(xyz[order, 0], second[order], c=[colours[i] for i in order], s=_size(xyz), alpha=0.6, linewidths=0)
    axes.set(xticks=[], yticks=[], xlabel="first dimension", ylabel="second dimension")


def _size(points: Any) -> float:
    """Choose an area for the markers, in square points: large where there are few."""
    return float(np.clip(10_000 / len(points), 3, 20))


def _legend(axes: Any, colours: dict[str, Any]) -> None:
    handles = [Line2D([], [], marker="o", linestyle="", color=colour, label=name) for name, colour in colours.items()]
    axes.legend(handles=handles, loc="best", fontsize="small", markerscale=0.8)
