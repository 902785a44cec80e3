"""Fakes beside real images: the nearest training images, and how often each class is there."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from raymnist.report.scatter import FAKE, REAL
from raymnist.results import Results


def nearest_training_images(results: Results) -> Iterator[tuple[str, str, Figure]]:
    """Draw, for each generator, its first fakes and those most like a training image, each above that image."""
    folder = results.folder.embeddings / "nearest"
    if not any(folder.glob("*.parquet")):
        return
    nearest = pd.read_parquet(folder)
    nearest = nearest[~nearest["trial_id"].isin(results.averaged)]
    shape = nearest[["height", "width", "channels"]].iloc[0].to_list()
    for trial_id, shown in nearest.groupby("trial_id", sort=False):
        columns = shown["shown"].value_counts().max()
        figure = Figure(figsize=(columns * 0.9, 5.2), layout="constrained")
        panels = figure.subplots(4, columns, squeeze=False)
        for panel in panels.ravel():
            panel.set_axis_off()
        for part, (kind, title) in enumerate((("first", "fakes"), ("nearest", "most alike"))):
            of_kind = shown[shown["shown"] == kind]
            ratios = of_kind["distance"] / of_kind["own_distance"].clip(lower=float(np.finfo(np.float32).tiny))
            for column, (row, ratio) in enumerate(zip(of_kind.itertuples(), ratios, strict=True)):
                for line, pixels in enumerate((row.fake_pixels, row.training_pixels)):
                    picture = np.asarray(pixels, np.uint8).reshape(shape)
                    panels[2 * part + line, column].imshow(picture.squeeze(), cmap="gray", vmin=0, vmax=255)
                panels[2 * part, column].set_title(f"{ratio:.2f}" if ratio < 1000 else "> 1000", fontsize=9)
            for line, text in enumerate((title, "nearest training")):
                panels[2 * part + line, 0].text(
                    -0.25, 0.5, text, rotation=90, ha="center", va="center", fontsize=9,
                    transform=panels[2 * part + line, 0].transAxes,
                )  # fmt: skip
        caption = (
            f"fakes of {trial_id} above their nearest training images: the first ten, and the ten most like a training "
            "image; the number is the features' distance over that image's own to its nearest other, near 0 for copies"
        )
        yield f"nearest_{trial_id}", caption, figure


def class_counts(results: Results) -> Iterator[tuple[str, str, Figure]]:
    """Draw how often each class is among each generator's fakes, beside the test images."""
    if results.classes.empty:
        return
    real = results.classes[results.classes["population"] == "real"]
    fake = results.classes[results.classes["population"] == "fake"]
    for trial_id, counted in fake[~fake["trial_id"].isin(results.averaged)].groupby("trial_id", sort=False):
        figure = Figure(figsize=(7, 3.2), layout="constrained")
        axes = figure.subplots()
        places = np.arange(len(counted))
        axes.bar(places - 0.2, real["count"] / real["n_images"], 0.4, color=REAL, label="test images")
        axes.bar(places + 0.2, counted["count"] / counted["n_images"], 0.4, color=FAKE, label=str(trial_id))
        axes.set_xticks(places, [str(label) for label in counted["label"]])
        axes.set(xlabel="class", ylabel="share of images")
        figure.legend(loc="outside upper center", ncols=2, fontsize="small")
        axes.grid(axis="y", alpha=0.3)
        caption = (
            f"how often each class is among {counted['n_images'].iloc[0]} fakes of {trial_id}, as the classifier sees"
        )
        yield f"classes_{trial_id}", f"{caption} them, and among the test images", figure
