"""`raymnist score`: the scores of one generator, or of images from anywhere."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raymnist.errors import InputError

if TYPE_CHECKING:
    from raymnist.datasets import Images, Pixels

Source = Annotated[
    Path, typer.Argument(help="A .keras or .h5 file, or an .npz file with images under the key x.", show_default=False)
]


def score(
    source: Source,
    dataset: Annotated[str, typer.Option(help="Whose test images to compare with.")],
    count: Annotated[int, typer.Option("-n", min=50, help="How many images, at most as many as test images.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of the noise and of every draw.")] = 0,
    json_: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the rows there too.")] = None,
    output_range: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Of a generator: its values of black and white, where its last activation does not tell."),
    ] = None,
) -> None:
    """Score images beside a data set's test images, with intervals and the floor that real images reach."""
    from raymnist import datasets
    from raymnist.cli.look import print_scores
    from raymnist.config import Dataset
    from raymnist.terminal import logging_to

    if json_ and (json_.is_dir() or not json_.absolute().parent.is_dir()):
        raise InputError(f"--json: expected a file to write in a folder that is there, received {json_}")
    images = datasets.load(Dataset(name=dataset))
    with logging_to(Path(os.devnull)):  # TensorFlow's greetings
        rows, doubt = _rows(source, images, count, seed, output_range)
    if rows[0]["features"] == "pixels":
        typer.echo(f"no classifier of {dataset}: scored on principal components of pixels")
    if rows[0]["n_images"] < count:
        typer.echo(f"scored {rows[0]['n_images']} images, as there are no more")
    print_scores(rows)
    if doubt:
        typer.echo(doubt)
    if json_:
        try:
            json_.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise InputError(f"--json: expected a file to write, received {json_}; {error.strerror}") from None
        typer.echo(json_)


def _rows(
    source: Path, images: Images, count: int, seed: int, output_range: tuple[float, float] | None
) -> tuple[list[dict[str, Any]], str]:
    """Compute the rows of the table, and a warning or nothing."""
    from raymnist.evaluation import generator_scores
    from raymnist.evaluation.reference import flat, most_scored, reference
    from raymnist.models import features

    count = most_scored(images, count)
    fakes = _fakes(source, images, count, seed, output_range)
    for where, what, received in (
        (images.name, "test images", len(images.test)),
        (images.name, "training images", len(images.train)),
        (source, "images", len(fakes)),
    ):
        if received < generator_scores.LEAST:
            raise InputError(f"{where}: expected at least {generator_scores.LEAST} {what}, received {received}")
    classifier = features.find(images)
    extract = classifier.open() if classifier else flat
    beside = reference(images, "classifier" if classifier else "pixels", classifier, extract, len(fakes), seed)
    scored = generator_scores.score(beside, source.stem, source.name, extract(fakes))
    return generator_scores.table_rows(beside, [scored], beside.floor(), encoder=""), beside.doubt


def _fakes(source: Path, images: Images, count: int, seed: int, output_range: tuple[float, float] | None) -> Pixels:
    """Make `count` fakes, or read as many at most, drawn by the seed, from a file."""
    import numpy as np

    from raymnist.datasets import read_images
    from raymnist.models.saved import SUFFIXES, SavedGenerator

    if source.suffix in SUFFIXES:
        fakes = SavedGenerator.open(source, output_range).generate(count, seed)
    elif output_range is not None:
        raise InputError(f"--output-range: belongs to a generator, received {source}")
    elif source.suffix == ".npz":
        fakes = read_images(source)
        fakes = fakes[np.random.default_rng(seed).permutation(len(fakes))[:count]]
    else:
        raise InputError(f"{source}: expected a generator {' or '.join(SUFFIXES)}, or images .npz")
    if fakes.shape[1:] != images.shape:
        raise InputError(
            f"{source}: expected images {images.shape}, as those of the data set, received {fakes.shape[1:]}"
        )
    return fakes
