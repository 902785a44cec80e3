"""Where images come from: an array, files, or a generator; any range of them, read or made where it is needed."""

from __future__ import annotations

import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import ray

from raymnist.datasets import Labels, Pixels, read_images
from raymnist.errors import InputError
from raymnist.models import networks
from raymnist.models.saved import SavedGenerator

IMAGE_SUFFIXES = (".npz", ".parquet")
Read = Callable[[int, int], Pixels]


@dataclass(frozen=True)
class Network:
    """A trained network that takes part: the best trial of a study, or a saved generator.

    study, trial_id: of a saved generator its name without and with suffix. path: the file that holds it, or files of
    images. key: stands for all that it depends on. output_range: said in the experiment, for a saved generator.
    is_supervised: whether the trial was chosen by a score of labels.
    """

    study: str
    trial_id: str
    path: str
    key: str
    output_range: list[float] | None = None
    is_supervised: bool = False

    @property
    def is_images(self) -> bool:
        """Whether it stands for images that were made elsewhere."""
        return Path(self.path).suffix not in (".keras", ".h5", ".hdf5")


@dataclass(frozen=True)
class Source(ABC):
    """Images of one origin.

    study, trial_id: whose fakes they are, empty for real images. count: how many. labels: int64 [count], or None.
    """

    study: str
    trial_id: str
    count: int
    labels: Labels | None

    @abstractmethod
    def open(self, seed: int) -> Read:
        """Prepare to give uint8 images [n, H, W, C] by their first place, a multiple of networks.CHUNK, and number."""


@dataclass(frozen=True)
class Array(Source):
    """Images in the object store, uint8 [count, H, W, C]."""

    images: ray.ObjectRef

    def open(self, seed: int) -> Read:
        """See Source."""
        images: Pixels = ray.get(self.images)
        return lambda first, count: images[first : first + count]


@dataclass(frozen=True)
class Fakes(Source):
    """Images that a network makes from noise of (seed, chunk), the same whoever makes them."""

    network: Network

    def open(self, seed: int) -> Read:
        """See Source; imports TensorFlow."""
        generator = SavedGenerator.open(Path(self.network.path), self.network.output_range)
        return lambda first, count: generator.generate(count, seed, first // networks.CHUNK)


@dataclass(frozen=True)
class Files(Source):
    """Images in `.npz` files (under the key x) or Parquet files (uint8 lists in a column `pixels`), in their order.

    lengths: of the files. shape: height, width and channels.
    """

    paths: tuple[Path, ...]
    lengths: tuple[int, ...]
    shape: tuple[int, int, int]

    def open(self, seed: int) -> Read:
        """See Source."""
        ends = np.cumsum(self.lengths)

        def read(first: int, count: int) -> Pixels:
            parts, last = [], first + count
            for path, end, length in zip(self.paths, ends, self.lengths, strict=True):
                start = int(end) - length
                if start < last and first < end:
                    parts.append(_read(path, self.shape)[max(0, first - start) : last - start])
            return np.concatenate(parts)

        return read


@lru_cache(maxsize=2)  # ranges come in their order: a file is read once for all ranges in it
def _read(path: Path, shape: tuple[int, int, int]) -> Pixels:
    if path.suffix == ".npz":
        return read_images(path)
    column = pq.read_table(path, columns=["pixels"])["pixels"].combine_chunks()
    pixels = column.flatten().to_numpy()
    if pixels.dtype != np.uint8 or column.null_count or pixels.size != len(column) * np.prod(shape):
        raise InputError(f"{path}: expected lists of {np.prod(shape)} uint8 in the column pixels")
    return pixels.reshape(-1, *shape)


def image_files(path: Path) -> list[Path]:
    """List the files of images at a path, a file or a folder of them, in the order of their names; none if none."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [file for file in files if file.suffix in IMAGE_SUFFIXES and file.is_file()]


def lengths_of(paths: Sequence[Path], shape: tuple[int, int, int]) -> tuple[int, ...]:
    """Count the images of each file without reading them; raises InputError for a file without images of `shape`."""
    return tuple(_length(path, shape) for path in paths)


def _length(path: Path, shape: tuple[int, int, int]) -> int:
    try:
        if path.suffix == ".parquet":
            found = pq.ParquetFile(path)
            if "pixels" not in found.schema_arrow.names:
                names = ", ".join(found.schema_arrow.names)
                raise InputError(f"{path}: expected lists of uint8 in a column pixels, received {names}")
            return int(found.metadata.num_rows)
        with zipfile.ZipFile(path) as archive, archive.open("x.npy") as array:
            version = np.lib.format.read_magic(array)
            read_header = (
                np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            )
            size = read_header(array)[0]
    except InputError:
        raise
    except Exception as error:  # a damaged file fails in zipfile, NumPy or Arrow, each with errors of its own
        raise InputError(
            f"{path}: expected an .npz file with images under the key x, or Parquet with a column pixels, received "
            f"{next(iter(str(error).splitlines()), type(error).__name__):.150}"
        ) from None
    if (*size[1:], 1)[:3] != shape:
        raise InputError(f"{path}: expected images {shape}, as those of the data set, received {tuple(size[1:])}")
    return int(size[0])


def source_of(network: Network, count: int, shape: tuple[int, int, int]) -> Source:
    """Describe the fakes of a generator, `count` of them, or of images from elsewhere as many as there are."""
    if not network.is_images:
        return Fakes(network.study, network.trial_id, count, None, network)
    paths = tuple(image_files(Path(network.path)))
    lengths = lengths_of(paths, shape)
    return Files(network.study, network.trial_id, min(count, sum(lengths)), None, paths, lengths, shape)


def real_source(images: Pixels, labels: Labels | None) -> Source:
    """Put real images, uint8 [n, H, W, C], into the object store."""
    return Array("", "", len(images), labels, ray.put(images))


def code_column(number: int, trial_id: str) -> str:
    """Name the column of an encoder's codes: of the first `code`, of its confirmations with their names."""
    return f"code:{trial_id}" if number else "code"
