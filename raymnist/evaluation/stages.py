"""The evaluation's stages in their order, each done only when what it depends on has changed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

from raymnist import folder
from raymnist.config import Evaluation
from raymnist.datasets import Images
from raymnist.evaluation import scores
from raymnist.evaluation.embedding import Network, embed, read_points
from raymnist.evaluation.spaces import read_coordinates, reduce_all
from raymnist.folder import Folder


@dataclass(frozen=True)
class Stages:
    """A resolved evaluation of chosen trials, and the keys of its stages.

    encoder: the network that encodes, or None. generators: the networks that make fakes.
    """

    evaluation: Evaluation
    images: Images
    seed: int
    encoder: Network | None
    generators: list[Network]
    results: Folder

    def keys(self) -> dict[str, str]:
        """Hash, for each stage, all that it depends on: the stage before, the settings, the code, the libraries."""
        evaluation = self.evaluation
        networks = [
            (network.key, network.trial_id, network.output_range)
            for network in (self.encoder, *self.generators)
            if network
        ]
        code = folder.digest_of_code("evaluation", "metrics", "models", "datasets.py")
        libraries = [version(name) for name in ("tensorflow", "keras", "scikit-learn", "umap-learn", "openTSNE")]
        settings = evaluation.model_dump(mode="json")
        inputs = (self.images.sha256, self.seed, evaluation.images, settings["features"], code, libraries)
        points = folder.key_of(bool(self.encoder), networks, *inputs)
        coordinates = folder.key_of(points, settings["reducers"], evaluation.fit_on)
        return {
            "points": points,
            "coordinates": coordinates,
            "scores": folder.key_of(coordinates, settings["clusterers"]),
        }

    def is_complete(self) -> bool:
        """Tell whether the table in the folder is the one that these stages would make."""
        return all(self._is_done(stage, key) for stage, key in self.keys().items())

    def _is_done(self, stage: str, key: str) -> bool:
        embeddings = self.results.embeddings
        written = {
            "points": [embeddings / "points"],
            "coordinates": [embeddings / "coordinates"],
            "scores": [embeddings / "clusters", self.results.table],
        }
        return self.results.is_complete(stage, key) and all(path.exists() for path in written[stage])

    def run(self, say: Callable[[str], None]) -> None:
        """Do the stages that are not complete; needs Ray."""
        work = {"points": self._embed, "coordinates": self._reduce, "scores": self._score}
        keys = self.keys()
        open_stages = list(keys)
        while open_stages and self._is_done(open_stages[0], keys[open_stages[0]]):
            open_stages.pop(0)
        self.results.reopen(open_stages)
        for stage in open_stages:
            start = time.perf_counter()
            say(work[stage]())
            self.results.complete(stage, keys[stage], time.perf_counter() - start)

    def _embed(self) -> str:
        count = min(self.evaluation.images, len(self.images.test))
        rows = np.sort(np.random.default_rng(self.seed).permutation(len(self.images.test))[:count])
        labels = self.images.test_labels
        statistics = embed(
            self.images.test[rows],
            None if labels is None else labels[rows],
            self.encoder,
            self.generators,
            self.evaluation.features or [],
            self.seed,
            self.results.embeddings / "points",
        )
        print(statistics)
        made = f" and {count} fakes by {', '.join(g.trial_id for g in self.generators)}" if self.generators else ""
        return f"embedded {count} real images{made}"

    def _reduce(self) -> str:
        points = read_points(self.results.embeddings / "points")
        reduce_all(self.evaluation, points, self.seed, self.results.embeddings / "coordinates")
        return "reduced the embeddings"

    def _score(self) -> str:
        points = read_points(self.results.embeddings / "points")
        coordinates = read_coordinates(self.results.embeddings / "coordinates")
        clusterings = scores.cluster_all(self.evaluation, points, coordinates, self.images.classes, self.seed)
        scores.write_clusters(clusterings, points, self.results.embeddings / "clusters")
        encoder = self.encoder.trial_id if self.encoder else ""
        rows = scores.score_all(clusterings, points, encoder, self.seed)
        folder.write_csv(self.results.table, scores.COLUMNS, rows)
        return f"clustered and scored them: {len(rows)} rows"
