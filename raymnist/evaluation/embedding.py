"""The Ray Data job: read real images and make fakes, embed both, write them as Parquet."""

from __future__ import annotations

import itertools
import math
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from raymnist import folder
from raymnist.datasets import Pixels
from raymnist.errors import InputError
from raymnist.evaluation.attempts import line_of
from raymnist.evaluation.sources import Network, Read, Source, code_column, pieces_of
from raymnist.models import networks
from raymnist.models.features import ClassifierFile
from raymnist.models.saved import SavedGenerator, load
from raymnist.sweep.gauges import Tally
from raymnist.sweep.resources import Cluster, Request

PART = 32 * networks.CHUNK  # images of one work item at most: some 6 MB of pixels, and a file of the output


class Embed:
    """An actor of the pool: reads or makes the images of one part of a source, and embeds them."""

    def __init__(
        self,
        sources: Sequence[Source],
        shape: tuple[int, int, int],
        encoders: Sequence[Network],
        classifier: ClassifierFile | None,
        features: Sequence[str],
        seed: int,
        threads: int,
        gpus: float,
    ):
        """Load the networks that embed; sources are opened when their first part comes."""
        from raymnist.training import devices

        devices.claim(threads, gpus)
        self.batch = devices.inference_batch()
        self.sources = sources
        self.shape = shape
        self.seed = seed
        self.opened: dict[int, Read] = {}
        chosen = encoders if "code" in features else []
        self.encoders = {
            code_column(number, encoder.trial_id): load(Path(encoder.path)).get_layer("encoder")
            for number, encoder in enumerate(chosen)
        }
        self.classify = classifier.open() if classifier and "classifier" in features else None

    def __call__(self, batch: dict[str, NDArray[Any]]) -> pa.Table:
        """Turn a batch of one part into a table with a row per image."""
        part = {name: int(values[0]) for name, values in batch.items()}
        source, first, count = self.sources[part["source"]], part["first"], part["count"]
        described = {
            "id": pa.array(np.arange(part["first_id"], part["first_id"] + count)),
            "source": pa.array(["fake" if source.trial_id else "real"] * count),
            "study": pa.array([source.study] * count),
            "trial_id": pa.array([source.trial_id] * count),
            "label": pa.array(
                [None] * count if source.labels is None else source.labels[first : first + count], pa.int64()
            ),
        }
        try:
            images = self._images(part["source"], first, count)
        except Exception as error:
            if not source.trial_id:
                raise
            traceback.print_exc()  # to the log; the table has the line
            failed = pa.array([line_of(error)] * count)
            # An image stands for them all, so that every file has the same columns.
            black = np.zeros((1, *self.shape), np.uint8)
            empty = {name: pa.nulls(count, column.type) for name, column in self._embedded(black).items()}
            return pa.table({**described, "error": failed, **empty})
        return pa.table({**described, "error": pa.nulls(count, pa.string()), **self._embedded(images)})

    def _images(self, number: int, first: int, count: int) -> Pixels:
        if number not in self.opened:
            self.opened[number] = self.sources[number].open(self.seed)
        return self.opened[number](first, count)

    def _embedded(self, images: Pixels) -> dict[str, pa.Array]:
        columns = {"pixels": _lists(images.reshape(len(images), -1))}  # always: pages and tables show them
        for name, encoder in self.encoders.items():
            columns[name] = _lists(networks.encode(encoder, images, self.batch))
        if self.classify is not None:
            seen = self.classify(images, self.batch)
            columns["classifier"] = _lists(seen.points)
            if seen.logits is not None:
                columns["logits"] = _lists(seen.logits)
        return columns


def embed(
    sources: Sequence[Source],
    shape: tuple[int, int, int],
    encoders: Sequence[Network],
    classifier: ClassifierFile | None,
    features: Sequence[str],
    seed: int,
    wanted: Request,
    target: Path,
    tally: Tally,
    most: int | None = None,
) -> str:
    """Embed the images of all sources, the real ones first, into Parquet files in `target`; they stream through.

    A row per image, its id the place in the order of the sources. Where a generator fails, its rows have an `error` and
    nothing else. wanted: what an actor of the pool occupies. tally: counts the files. most: actors at the same time.
    Returns Ray Data's statistics of the job.
    """
    cpus = ray.cluster_resources().get("CPU", 1)
    images = sum(source.count for source in sources)
    # One CPU stays free for Ray Data's tasks that write: a pool that holds them all would wait for ever.
    room = min(Cluster.connected().at_once(wanted), int((cpus - 1) / wanted.cpus), most or sys.maxsize)
    actors = max(1, min(room, math.ceil(images / networks.CHUNK)))
    share = min(wanted.cpus, cpus / 2 if cpus <= 1 else (cpus - 1) / actors)  # of an actor
    size = min(PART, networks.CHUNK * math.ceil(images / networks.CHUNK / actors / 4))
    parts = list(_parts(sources, size))
    with folder.replacing(target) as draft:
        tally.pieces, tally.counted = len(parts), lambda: len(list(draft.glob("*.parquet")))
        data = ray.data.from_items(parts, override_num_blocks=len(parts)).map_batches(
            Embed,
            fn_constructor_args=(list(sources), shape, list(encoders), classifier, list(features), seed),
            fn_constructor_kwargs={"threads": max(math.ceil(wanted.cpus), int(cpus / actors)), "gpus": wanted.gpus},
            batch_size=1,
            num_cpus=share,
            num_gpus=wanted.gpus,
            compute=ray.data.ActorPoolStrategy(size=actors),
            **({"resources": wanted.other} if wanted.other else {}),
        )
        data.set_name("embed")
        data.write_parquet(str(draft.resolve()), ray_remote_args={"num_cpus": min(1, cpus / 2)})
        tally.done, tally.counted = len(parts), None
        return str(data.stats())


def _parts(sources: Sequence[Source], size: int) -> Iterator[dict[str, int]]:
    """Cut each source into parts of `size` images, a multiple of the networks' batch."""
    ids = itertools.accumulate((source.count for source in sources), initial=0)
    for number, (source, first_id) in enumerate(zip(sources, ids, strict=False)):
        for first in range(0, source.count, size):
            count = min(size, source.count - first)
            yield {"source": number, "first": first, "count": count, "first_id": first_id + first}


def check_generators(generators: Sequence[Network], shape: tuple[int, int, int], least: int) -> None:
    """Open saved generators, and hold their images against `shape`; in workers, as this process needs no TensorFlow.

    least: images that are scored, which files of images must hold. Raises InputError for the first that cannot be used.
    """
    for images in (generator for generator in generators if generator.is_images):
        try:
            count = sum(piece.length for piece in pieces_of(Path(images.path), shape))
            if count < max(1, least):
                raise InputError(f"{images.path}: expected at least {max(1, least)} images, received {count}")
        except InputError as error:
            raise InputError(f"evaluation.generators: {error}") from None
    checks = [_problem_with.remote(generator, shape) for generator in generators if not generator.is_images]
    for problem in ray.get(checks):
        if problem:
            raise InputError(f"evaluation.generators: {problem}")


@ray.remote(num_cpus=1, max_calls=1)
def _problem_with(generator: Network, shape: tuple[int, int, int]) -> str | None:
    from raymnist.training import devices

    devices.claim(cpus=1, gpus=0)
    try:
        opened = SavedGenerator.open(Path(generator.path), generator.output_range)
    except InputError as error:
        return str(error)
    if opened.shape == shape:
        return None
    return f"{generator.path}: expected images {shape}, as those of the data set, received {opened.shape}"


def _lists(rows: NDArray[Any]) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
