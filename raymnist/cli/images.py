"""`raymnist generate` and `raymnist reconstruct`: pictures from trained networks."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raymnist.errors import InputError, choices

if TYPE_CHECKING:
    from raymnist.results import Results, Trial

Source = Annotated[Path, typer.Argument(help="A results folder, or a .keras or .h5 file.", show_default=False)]
Folder = Annotated[Path, typer.Argument(help="A results folder.", show_default=False)]
Study = Annotated[str | None, typer.Option(help="Whose best trial; needed where there are several.")]
Out = Annotated[Path, typer.Option(help="A .png file for a grid, or an .npz file with uint8 images under the key x.")]


def generate(
    source: Source,
    out: Out,
    count: Annotated[int, typer.Option("-n", min=1, help="How many images.")] = 100,
    study: Study = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the noise.")] = 0,
    output_range: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Of a file: its values of black and white, where its last activation does not tell."),
    ] = None,
) -> None:
    """Make images with the best trial of a GAN study, or with a saved generator."""
    import raymnist
    from raymnist.results import Results
    from raymnist.terminal import logging_to
    from raymnist.training import samples

    _check_suffix(out, ".png", ".npz")
    with logging_to(Path(os.devnull)):  # TensorFlow's greetings
        opened = raymnist.open(source, output_range)
        if study is not None and not isinstance(opened, Results):
            raise InputError(f"--study: belongs to a results folder, received {source}")
        if output_range is not None and isinstance(opened, Results):
            raise InputError(f"--output-range: belongs to a file, received {source}")
        generator = _best(opened, "generator", study) if isinstance(opened, Results) else opened
        images = generator.generate(count, seed)
    with _writing(out):
        if out.suffix == ".png":
            samples.save_png(out, samples.mosaic(images))
        else:
            import numpy as np

            out.parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(out, x=images)
    typer.echo(out)


def reconstruct(
    results: Folder,
    out: Out,
    count: Annotated[int, typer.Option("-n", min=1, help="How many test images.")] = 50,
    study: Study = None,
) -> None:
    """Draw test images above their reconstructions by the best trial of an autoencoder study."""
    from raymnist import datasets
    from raymnist.results import Results
    from raymnist.terminal import logging_to
    from raymnist.training import samples

    _check_suffix(out, ".png")
    opened = Results(results)
    trial = _best(opened, "autoencoder", study)
    originals = datasets.load(opened.experiment.dataset).test[:count]
    with logging_to(Path(os.devnull)):
        reconstructions = trial.reconstruct(originals)
    with _writing(out):
        samples.save_png(out, samples.in_pairs(originals, reconstructions))
    typer.echo(out)


def _check_suffix(out: Path, *suffixes: str) -> None:
    if out.suffix not in suffixes:
        raise InputError(f"--out: expected a file that ends in {' or '.join(suffixes)}, received {out}")
    above = next(path for path in out.absolute().parents if path.exists())
    if out.is_dir() or not above.is_dir():
        raise InputError(
            f"--out: expected a file to write, received {out}, which is {'a' if out.is_dir() else 'below no'} folder"
        )


@contextlib.contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"--out: expected a file to write, received {out}; {error.strerror}") from None


def _best(results: Results, kind: str, study: str | None) -> Trial:
    from raymnist.models import MODELS

    studies = [name for name, s in results.experiment.studies.items() if MODELS[s.model["name"]].kind == kind]
    if study is None:
        if len(studies) != 1:
            raise InputError(
                f"{results.folder.path}: expected one {kind} study, found {', '.join(studies) or 'none'}"
                + ("; choose with --study" if studies else "")
            )
        study = studies[0]
    elif study not in studies:
        raise InputError(f"--study: {choices(f'{kind} study', study, studies)}")
    return results.best(study)
