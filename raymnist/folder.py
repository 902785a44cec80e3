"""The results folder: where everything lies, written so that a reader never sees half a file."""

from __future__ import annotations

import contextlib
import csv
import functools
import hashlib
import json
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raymnist import lock

WORKER = ".worker"  # in a trial's folder: the mark of the process that trains there


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a name to write a file or folder to, which takes the place of `path` when all went well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{uuid.uuid4().hex[:8]}-{path.name}")  # keeps the suffix, which some writers read
    try:
        yield draft
        remove(path)
        draft.replace(path)
    finally:
        if draft.is_dir():
            shutil.rmtree(draft)
        else:
            draft.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Remove a folder, if it is there, so that it is gone at once or not at all under its name."""
    if path.is_dir():
        shutil.rmtree(path.rename(path.with_name(f".{uuid.uuid4().hex[:8]}-{path.name}")))


def write_text(path: Path, text: str) -> None:
    """Write a text file in one piece."""
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")


def write_json(path: Path, data: Any) -> None:
    """Write a JSON file in one piece."""
    write_text(path, json.dumps(data, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file; None where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV in one piece; what a row lacks stays empty."""
    with replacing(path) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def key_of(*parts: Any) -> str:
    """Hash whatever JSON can hold into 16 hexadecimal digits, the same for the same content."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


@functools.cache  # so that an edit during a run does not make its own trials those of other code
def digest_of_code(*modules: str) -> str:
    """Hash the source of modules and packages of this package, such as `datasets.py` and `models`."""
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for module in modules:
        path = package / module
        for source in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(str(source.relative_to(package)).encode() + source.read_bytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Folder:
    """The names of what a run leaves under `path`."""

    path: Path

    @property
    def experiment(self) -> Path:
        """The resolved experiment."""
        return self.path / "experiment.yaml"

    @property
    def log(self) -> Path:
        """Everything that was printed, Ray's and TensorFlow's chatter too."""
        return self.path / "log.txt"

    @property
    def trials(self) -> Path:
        """A row per trial."""
        return self.path / "trials.csv"

    @property
    def history(self) -> Path:
        """A row per trial and epoch."""
        return self.path / "history.csv"

    @property
    def table(self) -> Path:
        """The results table."""
        return self.path / "results.csv"

    @property
    def classifier(self) -> Path:
        """The classifier that serves the scores, as it was when the run began."""
        return self.path / "classifier.keras"

    @property
    def classes(self) -> Path:
        """How often each class is among each generator's fakes."""
        return self.path / "classes.csv"

    @property
    def leaderboard(self) -> Path:
        """A line per study's best."""
        return self.path / "leaderboard.md"

    @property
    def report(self) -> Path:
        """The page."""
        return self.path / "report.html"

    @property
    def figures(self) -> Path:
        """The pictures."""
        return self.path / "figures"

    @property
    def embeddings(self) -> Path:
        """The Parquet files `points`, `coordinates`, `clusters` and `nearest`."""
        return self.path / "embeddings"

    def study(self, name: str) -> Path:
        """Everything about a study."""
        return self.path / "studies" / name

    def trial(self, study: str, trial_id: str) -> Path:
        """Everything about a trial."""
        return self.study(study) / trial_id

    @property
    def manifest(self) -> dict[str, Any]:
        """What is known about the run: status, versions, seconds per stage, what is complete."""
        return read_json(self.path / "manifest.json") or {}

    def note(self, **facts: Any) -> None:
        """Put facts into the manifest."""
        write_json(self.path / "manifest.json", self.manifest | facts)

    def is_complete(self, stage: str, key: str) -> bool:
        """Tell whether a stage was completed from the inputs that `key` stands for."""
        return self.manifest.get("complete", {}).get(stage) == key

    def complete(self, stage: str, key: str, seconds: float) -> None:
        """Note that a stage is complete, and the seconds it took."""
        manifest = self.manifest
        self.note(
            complete=manifest.get("complete", {}) | {stage: key},
            seconds=manifest.get("seconds", {}) | {stage: round(seconds, 1)},
        )

    def reopen(self, stages: Iterable[str]) -> None:
        """Note that stages are not complete, before their files are replaced."""
        self.note(complete={k: v for k, v in self.manifest.get("complete", {}).items() if k not in set(stages)})

    def remove_evaluation(self) -> None:
        """Remove the table and the embeddings, where the experiment no longer has an evaluation."""
        self.reopen(["points", "coordinates", "scores"])
        self.table.unlink(missing_ok=True)
        self.classes.unlink(missing_ok=True)
        remove(self.embeddings)

    def clear(self) -> None:
        """Remove everything but the lock; the manifest, by which the folder is known, last."""
        for entry in sorted(self.path.iterdir(), key=lambda entry: entry.name == "manifest.json"):
            if entry.is_dir():
                remove(entry)
            elif entry.name != lock.NAME:
                entry.unlink()

    def remove_drafts(self) -> None:
        """Remove what a killed run was writing."""
        for draft in self.path.rglob(".????????-*"):
            if draft.is_dir():
                shutil.rmtree(draft)
            else:
                draft.unlink(missing_ok=True)

    def add_seconds(self, stage: str, seconds: float) -> None:
        """Note seconds that a stage took, beside those of earlier runs."""
        spent = self.manifest.get("seconds", {})
        self.note(seconds=spent | {stage: round(spent.get(stage, 0) + seconds, 3)})
