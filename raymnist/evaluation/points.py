"""Reading the embedded images: what each is here, and its features in blocks where they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raymnist.datasets import Labels
from raymnist.evaluation.blocks import BLOCK, Blocks, on_worker


@dataclass(frozen=True)
class Origin:
    """The embedded images of the data set, or of one generator, in the order of their ids.

    study, trial_id: of a generator, empty for real images. ids: int64 [n], without gaps. labels: int64 [n], -1 for
    none. files: those that hold them, in their order. error: why there are none, if a generator failed.
    """

    study: str
    trial_id: str
    ids: NDArray[np.int64]
    labels: Labels
    files: tuple[Path, ...]
    error: str

    def first(self, count: int) -> Origin:
        """Take the first so many."""
        return replace(self, ids=self.ids[:count], labels=self.labels[:count])

    def blocks(self, column: str) -> Blocks:
        """Read a column of lists as points, pixels as numbers in [0, 1]."""
        return read_blocks(self.files, column, int(self.ids[0]), int(self.ids[-1]) + 1)


def read_blocks(files: Sequence[Path], column: str, low: int = 0, high: int = 2**62) -> Blocks:
    """Read the rows of a column of lists whose ids are in [low, high), in the order of the ids.

    Workers read and hold the blocks, whose sizes depend on the points alone and not on the files.
    """
    dims = len(pq.ParquetFile(files[0]).read_row_group(0, columns=[column])[column][0])
    held = {file: pq.read_table(file, columns=["id"])["id"].to_numpy() for file in files}
    ids = np.sort(np.concatenate(list(held.values())))
    ids = ids[(ids >= low) & (ids < high)]
    blocks = np.split(ids, range(rows := max(1, BLOCK // (4 * dims)), len(ids), rows))
    refs = []
    for first, last in ((int(block[0]), int(block[-1])) for block in blocks if len(block)):
        some = [file for file, of_file in held.items() if ((of_file >= first) & (of_file <= last)).any()]
        refs.append(on_worker(read_lists, some, column, first, last + 1))
    return Blocks(tuple(refs), tuple(len(block) for block in blocks if len(block)), dims)


def read_points(path: Path) -> tuple[Origin, list[Origin]]:
    """Read what `embed` wrote: the real images, and each generator's, those of failed generators without any."""
    names = ["id", "source", "study", "trial_id", "label", "error"]
    files = {
        file: pq.read_table(file, columns=names, read_dictionary=names[1:4])
        for file in path.resolve().glob("*.parquet")
    }
    in_order = sorted(files, key=lambda file: pc.min(files[file]["id"]).as_py())
    table = pa.concat_tables([files[file] for file in in_order]).unify_dictionaries().sort_by("id")
    ids, labels = table["id"].to_numpy(), table["label"].fill_null(-1).to_numpy()
    trials = table["trial_id"].to_numpy().astype(str)
    starts = np.flatnonzero(np.concatenate([[True], trials[1:] != trials[:-1]]))
    origins = []
    for start, stop in zip(starts, [*starts[1:], len(ids)], strict=True):
        errors = table["error"].slice(start, stop - start).drop_null()
        of_origin = tuple(file for file in in_order if _held(files[file], ids[start], ids[stop - 1] + 1))
        kept = 0 if len(errors) else stop - start
        study, trial_id = (str(table[name][int(start)]) for name in ("study", "trial_id"))
        found = Origin(
            study, trial_id, ids[start:stop], labels[start:stop], of_origin, str(errors[0]) if len(errors) else ""
        )
        origins.append(found.first(kept))
    return origins[0], origins[1:]


def read_pixels(origin: Origin, places: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Read the pixels of some images, by their places among an origin's: uint8 [n, D] in the order of the places."""
    wanted = origin.ids[places]
    table = pq.read_table(list(origin.files), columns=["id", "pixels"], filters=pc.field("id").isin(wanted.tolist()))
    rows = dict(zip(table["id"].to_pylist(), _rows(table["pixels"]), strict=True))
    return np.array([rows[number] for number in wanted.tolist()], np.uint8)


def read_lists(files: Sequence[Path], column: str, low: int, high: int) -> NDArray[np.float32]:
    """Read the rows of a column of lists whose ids are in [low, high), in the order of the ids: float32 [n, d]."""
    kept = (pc.field("id") >= low) & (pc.field("id") < high)
    table = pq.read_table(list(files), columns=["id", column], filters=kept).sort_by("id")
    rows = _rows(table[column])
    return rows.astype(np.float32) / np.float32(255) if column == "pixels" else rows


def _rows(column: pa.ChunkedArray) -> NDArray[np.float32]:
    whole = column.combine_chunks()
    return whole.flatten().to_numpy(zero_copy_only=False).reshape(len(whole), -1)


def _held(table: pa.Table, low: int, high: int) -> int:
    ids = table["id"].to_numpy()
    return int(((ids >= low) & (ids < high)).sum())
