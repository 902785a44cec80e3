"""Where a trial's checkpoints lie: its last one, and those of its best epochs."""

from __future__ import annotations

import io
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pyarrow as pa
from pyarrow import fs

from raymnist.errors import InputError
from raymnist.metrics import METRICS

if TYPE_CHECKING:
    from raymnist.training.loop import Training

LAST = "last.npz"


class CheckpointFolder:
    """The checkpoints of one trial, in a folder of any file system that pyarrow knows.

    A checkpoint is written under another name first, so that a reader never sees half of one.
    """

    def __init__(self, system: fs.FileSystem, path: str, best: int):
        """`best`: so many are kept beside the last."""
        self.system = system
        self.path = path
        self.best = best

    @classmethod
    def local(cls, path: Path, best: int) -> Self:
        """Keep them in a local folder."""
        return cls(fs.LocalFileSystem(), str(path.resolve()), best)

    @classmethod
    def remote(cls, uri: str, below: str, best: int) -> Self:
        """Keep them `below` a URI, such as `s3://bucket/folder`."""
        system, path = fs.FileSystem.from_uri(uri)
        return cls(system, f"{path.rstrip('/')}/{below}", best)

    def save_last(self, training: Training) -> io.BytesIO:
        """Write the last checkpoint; returns what was written."""
        written = io.BytesIO()
        training.save(written)
        self.system.create_dir(self.path, recursive=True)
        self._write(LAST, written)
        return written

    def save(self, training: Training) -> None:
        """Write the last checkpoint, and keep it as one of the best if it is; those that no longer are are removed."""
        written = self.save_last(training)
        metric = training.trial.metric
        sign = METRICS[metric].sign
        looks = [row for row in training.history if metric in row and training.trial.is_due(row["epoch"])]
        kept = [_name(row["epoch"]) for row in sorted(looks, key=lambda row: sign * row[metric])[: self.best]]
        if _name(training.epochs_done) in kept:
            self._write(_name(training.epochs_done), written)
        for found in self.system.get_file_info(fs.FileSelector(self.path)):
            if found.base_name.startswith("epoch_") and found.base_name not in kept:
                self.system.delete_file(found.path)

    def restore(self, training: Training) -> bool:
        """Go on from the last checkpoint; tells whether there was one."""
        path = f"{self.path}/{LAST}"
        if self.system.get_file_info(path).type != fs.FileType.File:
            return False
        with self.system.open_input_file(path) as file:
            training.restore(io.BytesIO(file.read()))
        return True

    def _write(self, name: str, content: io.BytesIO) -> None:
        draft = f"{self.path}/.{uuid.uuid4().hex[:8]}-{name}"
        with self.system.open_output_stream(draft) as file:
            file.write(content.getbuffer())
        self.system.move(draft, f"{self.path}/{name}")


def _name(epoch: int) -> str:
    return f"epoch_{epoch:04d}.npz"


def check(uri: str) -> None:
    """Write to a place for checkpoints, for a try; raises InputError where that cannot be done."""
    try:
        system, path = fs.FileSystem.from_uri(uri)
        was_there = system.get_file_info(path).type != fs.FileType.NotFound
        trial = f"{path.rstrip('/')}/.raymnist-{uuid.uuid4().hex[:8]}"
        system.create_dir(path, recursive=True)
        with system.open_output_stream(trial) as file:
            file.write(b"raymnist")
        system.delete_file(trial)
        if not was_there:
            system.delete_dir(path)
    except (pa.ArrowInvalid, OSError) as error:
        problem = str(error).splitlines()[0]
        raise InputError(f"checkpoints.uri: expected a folder to write to, received {uri}: {problem}") from None


def remove(uri: str, folder: str) -> str:
    """Remove all checkpoints in a folder below a URI; says what was left behind where that fails, else nothing."""
    try:
        system, path = fs.FileSystem.from_uri(uri)
        place = f"{path.rstrip('/')}/{folder}"
        if system.get_file_info(place).type == fs.FileType.Directory:
            system.delete_dir(place)
    except (pa.ArrowInvalid, OSError) as error:
        return f"checkpoints {folder} were left behind in {uri}: {str(error).splitlines()[0]}"
    return ""
