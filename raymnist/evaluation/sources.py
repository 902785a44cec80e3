"""Where images come from: an array, files, or a generator; any range of them, read or made where it is needed."""

from __future__ import annotations

import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray

from raymnist.datasets import Labels, Pixels, read_images
from raymnist.errors import InputError
from raymnist.models import networks
from raymnist.models.saved import SUFFIXES, SavedGenerator

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
        return Path(self.path).suffix not in SUFFIXES


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
class Piece:
    """What is read of files of images at once: an `.npz` file, or a row group of a Parquet file."""

    path: Path
    group: int
    length: int


@dataclass(frozen=True)
class Files(Source):
    """Images in `.npz` files (under the key x) or Parquet files (uint8 lists in a column `pixels`), in their order.

    shape: height, width and channels.
    """

    pieces: tuple[Piece, ...]
    shape: tuple[int, int, int]

    def open(self, seed: int) -> Read:
        """See Source."""
        ends = np.cumsum([piece.length for piece in self.pieces]).tolist()

        def read(first: int, count: int) -> Pixels:
            parts, last = [], first + count
            for piece, end in zip(self.pieces, ends, strict=True):
                start = end - piece.length
                if start < last and first < end:
                    parts.append(_read(piece, self.shape)[max(0, first - start) : last - start])
            return np.concatenate(parts)

        return read


@lru_cache(maxsize=2)  # ranges come in their order: a piece is read once for all ranges in it
def _read(piece: Piece, shape: tuple[int, int, int]) -> Pixels:
    if piece.path.suffix == ".npz":
        return read_images(piece.path)
    column = pq.ParquetFile(piece.path).read_row_group(piece.group, columns=["pixels"])["pixels"].combine_chunks()
    pixels = column.flatten().to_numpy()
    if column.null_count or pixels.size != len(column) * np.prod(shape):
        raise InputError(f"{piece.path}: expected lists of {np.prod(shape)} uint8 in the column pixels")
    return pixels.reshape(-1, *shape)


def image_files(path: Path) -> list[Path]:
    """List the files of images at a path, a file or a folder of them, in the order of their names; none if none."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [file for file in files if file.suffix in IMAGE_SUFFIXES and file.is_file()]


def pieces_of(path: Path, shape: tuple[int, int, int]) -> list[Piece]:
    """List what is read at once of the files at a path, without reading it; raises InputError for other contents."""
    return [piece for file in image_files(path) for piece in _pieces(file, shape)]


def _pieces(path: Path, shape: tuple[int, int, int]) -> list[Piece]:
    try:
        return _in_parquet(path) if path.suffix == ".parquet" else [_in_npz(path, shape)]
    except InputError:
        raise
    except Exception as error:  # a damaged file fails in zipfile, NumPy or Arrow, each with errors of its own
        raise InputError(
            f"{path}: expected an .npz file with images under the key x, or Parquet with a column pixels, received "
            f"{next(iter(str(error).splitlines()), type(error).__name__):.150}"
        ) from None


def _in_parquet(path: Path) -> list[Piece]:
    found = pq.ParquetFile(path)
    schema = found.schema_arrow
    kind = schema.field("pixels").type if "pixels" in schema.names else None
    if kind is None or getattr(kind, "value_type", None) != pa.uint8():
        received = f"{kind} in it" if kind else ", ".join(schema.names)
        raise InputError(f"{path}: expected lists of uint8 in a column pixels, received {received}")
    return [
        Piece(path, group, found.metadata.row_group(group).num_rows) for group in range(found.metadata.num_row_groups)
    ]


def _in_npz(path: Path, shape: tuple[int, int, int]) -> Piece:
    with zipfile.ZipFile(path) as archive, archive.open("x.npy") as array:
        version = np.lib.format.read_magic(array)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        size, _, dtype = read_header(array)
    if (*size[1:], 1)[:3] != shape:
        raise InputError(f"{path}: expected images {shape}, as those of the data set, received {tuple(size[1:])}")
    if dtype != np.uint8 and not np.issubdtype(dtype, np.floating):
        raise InputError(f"{path}: expected uint8, or floats in [0, 1], received {dtype}")
    return Piece(path, 0, int(size[0]))


def source_of(network: Network, count: int, shape: tuple[int, int, int]) -> Source:
    """Describe the fakes of a generator, `count` of them, or of images from elsewhere as many as there are."""
    if not network.is_images:
        return Fakes(network.study, network.trial_id, count, None, network)
    pieces = tuple(pieces_of(Path(network.path), shape))
    held = sum(piece.length for piece in pieces)
    return Files(network.study, network.trial_id, min(count, held), None, pieces, shape)


def real_source(images: Pixels, labels: Labels | None) -> Source:
    """Put real images, uint8 [n, H, W, C], into the object store."""
    return Array("", "", len(images), labels, ray.put(images))


def code_column(number: int, trial_id: str) -> str:
    """Name the column of an encoder's codes: of the first `code`, of its confirmations with their names."""
    return f"code:{trial_id}" if number else "code"
