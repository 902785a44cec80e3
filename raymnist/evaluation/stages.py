"""The evaluation's stages in their order, each done only when what it depends on has changed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import ray

from raymnist import folder
from raymnist.config import Evaluation
from raymnist.datasets import Images, Pixels
from raymnist.evaluation import scores
from raymnist.evaluation.embedding import Network, embed, read_pixels, read_points
from raymnist.evaluation.generator_scores import LEAST, Scored, score, table_rows, write_classes, write_nearest
from raymnist.evaluation.reference import Reference, most_scored, reference, test_order
from raymnist.evaluation.spaces import generators_of, read_coordinates, reduce_all, rows_of
from raymnist.folder import Folder
from raymnist.metrics import Features
from raymnist.models.features import ClassifierFile


def scored_images(evaluation: Evaluation, images: Images) -> int:
    """Tell how many images of both kinds the scores of generators take; 0 where there are too few."""
    count = most_scored(images, evaluation.scored_images or 0)
    return count if count >= LEAST else 0


SUPERVISED = "supervised selection"  # in the table, where labels chose the encoder


@dataclass(frozen=True)
class Stages:
    """A resolved evaluation of chosen trials, and the keys of its stages.

    encoder: the network that encodes, or None. classifier: of the data set, or None. generators: the networks that make
    fakes.
    """

    evaluation: Evaluation
    images: Images
    seed: int
    encoder: Network | None
    classifier: ClassifierFile | None
    generators: list[Network]
    results: Folder

    @property
    def scored(self) -> int:
        """How many fakes of each generator are scored beside as many test images; 0 for none."""
        return scored_images(self.evaluation, self.images) if self.generators else 0

    @property
    def scored_by(self) -> str:
        """The features that generators are scored on: the classifier's, else the code, else pixels."""
        return "classifier" if self.classifier else "code" if self.encoder else "pixels"

    def keys(self) -> dict[str, str]:
        """Hash, for each stage, all that it depends on: the stages before, the settings, the code, the libraries."""
        evaluation = self.evaluation
        networks = [
            (network.key, network.trial_id, network.output_range)
            for network in (self.encoder, *self.generators)
            if network
        ]
        code = folder.digest_of_code("evaluation", "metrics", "models", "datasets.py")
        libraries = [version(name) for name in ("tensorflow", "keras", "scikit-learn", "umap-learn", "openTSNE")]
        settings = evaluation.model_dump(mode="json")
        embedded = (max(self.scored, evaluation.images), settings["features"], self.scored and self.scored_by)
        classifies = "classifier" in (evaluation.features or []) or (self.scored and self.scored_by == "classifier")
        classifier = self.classifier.sha256 if self.classifier and classifies else ""
        points = folder.key_of(
            bool(self.encoder), networks, self.images.sha256, self.seed, embedded, classifier, code, libraries
        )
        coordinates = folder.key_of(points, evaluation.images, settings["reducers"], evaluation.fit_on)
        return {
            "points": points,
            "coordinates": coordinates,
            "scores": folder.key_of(coordinates, settings["clusterers"], self.scored),
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
        count = min(max(self.evaluation.images, self.scored), len(self.images.test))
        rows = test_order(self.images, self.seed)[:count]
        labels = self.images.test_labels
        features = [*(self.evaluation.features or []), *([self.scored_by] if self.scored else [])]
        statistics = embed(
            self.images.test[rows],
            None if labels is None else labels[rows],
            self.encoder,
            self.classifier,
            self.generators,
            features,
            self.seed,
            self.results.embeddings / "points",
        )
        print(statistics)
        made = f" and {count} fakes by {', '.join(g.trial_id for g in self.generators)}" if self.generators else ""
        return f"embedded {count} real images{made}"

    def _reduce(self) -> str:
        points = read_points(self.results.embeddings / "points", self.evaluation.features or [], self.evaluation.images)
        reduce_all(self.evaluation, points, self.seed, self.results.embeddings / "coordinates")
        return "reduced the embeddings"

    def _score(self) -> str:
        points = read_points(self.results.embeddings / "points", self.evaluation.features or [], self.evaluation.images)
        coordinates = read_coordinates(self.results.embeddings / "coordinates")
        clusterings = scores.cluster_all(self.evaluation, points, coordinates, self.images.classes, self.seed)
        scores.write_clusters(clusterings, points, self.results.embeddings / "clusters")
        encoder = self.encoder.trial_id if self.encoder else ""
        rows, doubt = scores.score_all(clusterings, points, encoder, self.seed), ""
        if self.scored:
            of_generators, doubt = self._score_generators()
            rows += of_generators
        else:
            self.results.classes.unlink(missing_ok=True)
            folder.remove(self.results.embeddings / "nearest")
        for row in rows:
            if row["encoder"] and self.encoder and self.encoder.is_supervised:
                row["selection"] = SUPERVISED
        folder.write_csv(self.results.table, scores.COLUMNS, rows)
        return "\n".join(filter(None, (f"clustered and scored them: {len(rows)} rows", doubt)))

    def _score_generators(self) -> tuple[list[dict[str, Any]], str]:
        """Score each generator on features, in parallel as Ray tasks; writes what the table has no room for.

        Returns the table's rows, and a warning or nothing.
        """
        beside = reference(self.images, self.scored_by, self.classifier, self._extract, self.scored, self.seed)
        path = self.results.embeddings / "points"
        points = read_points(path, [self.scored_by], self.scored)
        shared = ray.put(beside)
        tasks, ids = [], []
        for study, trial_id in generators_of(points):
            rows = rows_of(points, "fake", trial_id)
            fake = Features(points.features[self.scored_by], points.logits)[rows]
            tasks.append(_score_generator.remote(shared, study, trial_id, fake))
            ids.append(points.ids[rows])
        floor = beside.floor()  # here, where the cache is
        scored: list[Scored] = ray.get(tasks)
        shown = [read_pixels(path, of_one[one.copies.rows]) for of_one, one in zip(ids, scored, strict=True)]
        write_nearest(scored, shown, self.images, self.results.embeddings / "nearest")
        write_classes(beside, scored, self.images, self.results.classes)
        return table_rows(beside, scored, floor, self.encoder.trial_id if self.encoder else ""), beside.doubt

    def _extract(self, pixels: Pixels) -> Features:
        """Compute features of real images as the points are, by Ray Data."""
        target = self.results.embeddings / "reference"
        embed(pixels, None, self.encoder, self.classifier, [], [self.scored_by], self.seed, target)
        points = read_points(target, [self.scored_by])
        folder.remove(target)
        return Features(points.features[self.scored_by], points.logits)


@ray.remote(num_cpus=1)
def _score_generator(beside: Reference, study: str, trial_id: str, fake: Features) -> Scored:
    return score(beside, study, trial_id, fake)
