"""The Ray Data job: read real images and make fakes, embed both, write them as Parquet."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray
from numpy.typing import NDArray

from raymnist import folder
from raymnist.datasets import Labels, Pixels
from raymnist.errors import InputError
from raymnist.models import networks
from raymnist.models.features import ClassifierFile
from raymnist.models.saved import SavedGenerator, load


@dataclass(frozen=True)
class Network:
    """A trained network that takes part: the best trial of a study, or a saved generator.

    study, trial_id: of a saved generator its name without and with suffix. path: the file that holds it.
    key: stands for all that the network depends on. output_range: said in the experiment, for a saved generator.
    is_supervised: whether the trial was chosen by a score of labels.
    """

    study: str
    trial_id: str
    path: str
    key: str
    output_range: list[float] | None = None
    is_supervised: bool = False


@dataclass(frozen=True)
class Points:
    """The embedded images, in the order of their ids: first the real ones, then each generator's fakes.

    ids: int64 [n]. is_fake: bool [n]. study, trial_id: str [n], empty for real images. labels: int64 [n], -1 for none.
    features: float32 [n, d] by name (`code`, `pixels`, `classifier`). logits: float32 [n, c], or None.
    """

    ids: NDArray[np.int64]
    is_fake: NDArray[np.bool_]
    study: NDArray[np.object_]
    trial_id: NDArray[np.object_]
    labels: Labels
    features: dict[str, NDArray[np.float32]]
    logits: NDArray[np.float32] | None


class Embed:
    """An actor of the pool: makes the images of a chunk of ids, and embeds them."""

    def __init__(
        self,
        images: ray.ObjectRef,
        labels: Labels | None,
        encoder: Network | None,
        classifier: ClassifierFile | None,
        generators: Sequence[Network],
        features: Sequence[str],
        seed: int,
        threads: int,
        gpus: float,
    ):
        """Load the networks; `images` refers to the real ones, uint8 [n, H, W, C]."""
        from raymnist.training import devices

        devices.claim(threads, gpus)
        self.images: Pixels = ray.get(images)
        self.labels = labels
        self.encoder = load(Path(encoder.path)).get_layer("encoder") if encoder else None
        self.classify = classifier.open() if classifier and "classifier" in features else None
        self.generators = generators
        self.loaded = [SavedGenerator.open(Path(made_by.path), made_by.output_range) for made_by in generators]
        self.features = features
        self.seed = seed

    def __call__(self, batch: dict[str, NDArray[Any]]) -> pa.Table:
        """Turn a batch of one chunk into a table with a row per image."""
        chunk = {name: int(values[0]) for name, values in batch.items()}
        count, number = chunk["count"], chunk["generator"]
        is_real = number < 0
        if is_real:
            start = chunk["chunk"] * networks.CHUNK
            images = self.images[start : start + count]
            labels = [None] * count if self.labels is None else self.labels[start : start + count].tolist()
        else:
            images = self.loaded[number].generate(count, self.seed, chunk["chunk"])
            labels = [None] * count
        study, trial_id = ("", "") if is_real else (self.generators[number].study, self.generators[number].trial_id)
        columns: dict[str, pa.Array] = {
            "id": pa.array(range(chunk["first_id"], chunk["first_id"] + count), pa.int64()),
            "source": pa.array(["real" if is_real else "fake"] * count),
            "study": pa.array([study] * count),
            "trial_id": pa.array([trial_id] * count),
            "label": pa.array(labels, pa.int64()),
            "pixels": _lists(images.reshape(count, -1)),  # always: pages and tables show them
        }
        if "code" in self.features and self.encoder is not None:
            columns["code"] = _lists(networks.encode(self.encoder, images))
        if self.classify is not None:
            seen = self.classify(images)
            columns["classifier"] = _lists(seen.points)
            if seen.logits is not None:
                columns["logits"] = _lists(seen.logits)
        return pa.table(columns)


def embed(
    images: Pixels,
    labels: Labels | None,
    encoder: Network | None,
    classifier: ClassifierFile | None,
    generators: Sequence[Network],
    features: Sequence[str],
    seed: int,
    target: Path,
) -> str:
    """Embed real `images`, uint8 [n, H, W, C], and as many fakes of each generator, into Parquet files in `target`.

    Fakes are made inside the pipeline from (seed, chunk), so that they do not depend on who makes them. Returns Ray
    Data's statistics of the job.
    """
    chunks = list(_chunks(len(images), len(generators)))
    cpus, gpus = ray.cluster_resources().get("CPU", 1), ray.cluster_resources().get("GPU", 0)
    # One CPU stays free for Ray Data's own tasks: a pool that holds them all may wait for ever.
    actors = max(1, min(int(gpus) or 8, int(cpus) - 1, len(chunks)))
    per_actor = float(gpus >= 1)
    data = ray.data.from_items(chunks, override_num_blocks=min(len(chunks), 4 * actors))
    embedded = data.map_batches(
        Embed,
        fn_constructor_args=(
            ray.put(images),
            labels,
            encoder,
            classifier,
            list(generators),
            list(features),
            seed,
        ),
        fn_constructor_kwargs={"threads": math.ceil(cpus / actors), "gpus": per_actor},
        batch_size=1,
        num_cpus=1,
        num_gpus=per_actor,
        compute=ray.data.ActorPoolStrategy(size=actors),
    ).materialize()
    with folder.replacing(target) as draft:
        embedded.write_parquet(str(draft.resolve()))
    return str(embedded.stats())


def check_generators(generators: Sequence[Network], shape: tuple[int, int, int]) -> None:
    """Open saved generators, and hold their images against `shape`; in workers, as this process needs no TensorFlow.

    Raises InputError for the first that cannot be used.
    """
    for problem in ray.get([_problem_with.remote(generator, shape) for generator in generators]):
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


def read_points(path: Path, features: Sequence[str], first: int | None = None) -> Points:
    """Read what `embed` wrote, sorted by id, with these features; of each source the `first` so many images."""
    table = pq.read_table(path).sort_by("id")
    if first is not None:
        real = pc.sum(pc.equal(table["source"], "real")).as_py()
        table = table.filter(pa.array(table["id"].to_numpy() % real < first))
    wanted = [name for name in (*features, "logits") if name in table.column_names]
    columns = {
        name: table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(len(table), -1)
        for name in wanted
    }
    return Points(
        ids=table["id"].to_numpy(),
        is_fake=table["source"].to_numpy() == "fake",
        study=table["study"].to_numpy(),
        trial_id=table["trial_id"].to_numpy(),
        labels=table["label"].fill_null(-1).to_numpy(),
        features={name: columns[name].astype(np.float32) / (255 if name == "pixels" else 1) for name in features},
        logits=columns.get("logits"),
    )


def read_pixels(path: Path, ids: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Read the pixels of some images, uint8 [n, D] in the order of the ids, of what `embed` wrote."""
    table = pq.read_table(path, columns=["id", "pixels"], filters=pc.field("id").isin(ids.tolist()))
    found = dict(zip(table["id"].to_pylist(), table["pixels"].to_pylist(), strict=True))
    return np.array([found[number] for number in ids.tolist()], np.uint8)


def _chunks(count: int, generators: int) -> Iterator[dict[str, int]]:
    """Cut the images of each source, the real ones being source -1, into chunks of the networks' batch size."""
    for source in range(-1, generators):
        for chunk, start in enumerate(range(0, count, networks.CHUNK)):
            yield {
                "generator": source,
                "chunk": chunk,
                "first_id": (source + 1) * count + start,
                "count": min(networks.CHUNK, count - start),
            }


def _lists(rows: NDArray[Any]) -> pa.Array:
    offsets = np.arange(0, rows.size + 1, rows.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, rows.reshape(-1))
