"""The evaluation's stages in their order, each done only when what it depends on has changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from raymnist import folder
from raymnist.config import Evaluation
from raymnist.datasets import Images, Labels, Pixels
from raymnist.evaluation import scores
from raymnist.evaluation.coordinates import read_coordinates, reduce_all
from raymnist.evaluation.embedded import Column, Embedded, columns
from raymnist.evaluation.embedding import embed
from raymnist.evaluation.generator_scores import LEAST
from raymnist.evaluation.generator_scoring import GeneratorScoring, read_features
from raymnist.evaluation.points import Origin, read_points
from raymnist.evaluation.reference import most_scored, test_order
from raymnist.evaluation.sources import Network, Source, real_source, source_of
from raymnist.evaluation.spaces import Map, spaces
from raymnist.folder import Folder
from raymnist.metrics import Features
from raymnist.models.features import ClassifierFile
from raymnist.sweep.gauges import Gauges, Tally
from raymnist.sweep.resources import Cluster


def scored_images(evaluation: Evaluation, images: Images) -> int:
    """Tell how many images of both kinds the scores of generators take; 0 where there are too few."""
    count = most_scored(images, evaluation.scored_images or 0)
    return count if count >= LEAST else 0


LIBRARIES = ("tensorflow", "keras", "scikit-learn", "umap-learn", "openTSNE", "hdbscan")
SUPERVISED = "supervised selection"  # in the table, where labels chose the encoder


@dataclass(frozen=True)
class Stages:
    """A resolved evaluation of chosen trials, and the keys of its stages.

    encoders: the network that encodes, and its confirmations; or none. classifier: of the data set, or None.
    generators: the networks that make fakes, and images made elsewhere.
    """

    evaluation: Evaluation
    images: Images
    seed: int
    encoders: list[Network]
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
        return "classifier" if self.classifier else "code" if self.encoders else "pixels"

    @property
    def clustered(self) -> list[Column]:
        """The features that are clustered."""
        return columns(self.evaluation, self.encoders, self.seed)

    def keys(self) -> dict[str, str]:
        """Hash, for each stage, all that it depends on: the stages before, the settings, the code, the libraries."""
        evaluation = self.evaluation
        networks = [
            [(network.key, network.trial_id, network.output_range) for network in group]
            for group in (self.encoders, self.generators)
        ]
        code = folder.digest_of_code("evaluation", "metrics", "models", "datasets.py")
        libraries = [version(name) for name in LIBRARIES]
        settings = evaluation.model_dump(mode="json")
        embedded = [settings[name] for name in ("split", "images", "fakes", "features")]
        embedded += [self.scored, self.scored and self.scored_by]
        classifies = "classifier" in (evaluation.features or []) or (self.scored and self.scored_by == "classifier")
        classifier = self.classifier.sha256 if self.classifier and classifies else ""
        points = folder.key_of(networks, self.images.sha256, self.seed, embedded, classifier, code, libraries)
        reduced = [settings[name] for name in ("reducers", "fit_on", "reproducible")]
        coordinates = folder.key_of(points, reduced)
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

    def run(self, say: Callable[[str], None], gauges: Gauges) -> list[str]:
        """Do the stages that are not complete; needs Ray. Returns what failed, a line each; such stages stay open."""
        work = {"points": self._embed, "coordinates": self._reduce, "scores": self._score}
        keys = self.keys()
        open_stages = list(keys)
        while open_stages and self._is_done(open_stages[0], keys[open_stages[0]]):
            open_stages.pop(0)
        self.results.reopen(open_stages)
        failures: list[str] = []
        for stage in open_stages:
            start = time.perf_counter()
            said, failed = work[stage](gauges.stage(stage))
            say(said)
            failures += failed
            if failed:
                self.results.add_seconds(stage, time.perf_counter() - start)
            else:
                self.results.complete(stage, keys[stage], time.perf_counter() - start)
        return list(dict.fromkeys(failures))

    def _embed(self, tally: Tally) -> tuple[str, list[str]]:
        real, labels = self._real()
        made = max(self.evaluation.fakes or len(real), self.scored)
        sources = [
            real_source(real, labels),
            *(source_of(generator, made, self.images.shape) for generator in self.generators),
        ]
        self._embed_into(self.results.embeddings / "points", sources, self.encoders, self._columns(), tally)
        failed = [f"{one.trial_id}: {one.error}" for one in self._points()[1] if one.error]
        by = f" and {made} fakes by {', '.join(g.trial_id for g in self.generators)}" if self.generators else ""
        return f"embedded {len(real)} real images{by}", failed

    def _embed_into(
        self, target: Path, sources: Sequence[Source], encoders: list[Network], features: Sequence[str], tally: Tally
    ) -> None:
        wanted = Cluster.connected().settle("evaluation", self.evaluation.resources)
        most = self.evaluation.resources.max_concurrent
        given = (sources, self.images.shape, encoders, self.classifier, features, self.seed, wanted, target)
        print(embed(*given, tally, most))

    def _columns(self) -> list[str]:
        return [*(self.evaluation.features or []), *([self.scored_by] if self.scored else [])]

    def _real(self) -> tuple[Pixels, Labels | None]:
        """Choose the real images: in random order, and at most as many as are wanted."""
        images = self.images
        if self.evaluation.split == "test":
            rows = test_order(images, self.seed)[: self.evaluation.images]
            return images.test[rows], None if images.test_labels is None else images.test_labels[rows]
        parts = [images.train, images.validation, images.test]
        labels = [images.train_labels, images.validation_labels, images.test_labels]
        order = np.random.default_rng(self.seed).permutation(images.count)[: self.evaluation.images]
        known = [part for part in labels if part is not None]
        return np.concatenate(parts)[order], np.concatenate(known)[order] if len(known) == len(parts) else None

    def _points(self) -> tuple[Origin, list[Origin]]:
        return read_points(self.results.embeddings / "points")

    def _reduce(self, tally: Tally) -> tuple[str, list[str]]:
        embedded = Embedded.of(*self._points(), self.evaluation)
        failed = reduce_all(self.evaluation, embedded, self.clustered, self.results.embeddings / "coordinates", tally)
        return "reduced the embeddings", failed

    def _score(self, tally: Tally) -> tuple[str, list[str]]:
        embedded = Embedded.of(*self._points(), self.evaluation)
        coordinates, failures = read_coordinates(self.results.embeddings / "coordinates")
        found = list(spaces(self.evaluation, embedded, self.clustered))
        points = Map(self.evaluation.fit_on, embedded, coordinates, failures)
        tally.pieces = len(self.generators) if self.scored else 0
        clusterings, rows, failed = scores.score_all(self.evaluation, found, points, self.images.classes, tally)
        scores.write_clusters(clusterings, self.results.embeddings / "clusters")
        doubt = ""
        if self.scored:
            encoder = self.encoders[0].trial_id if self.encoders else ""
            scoring = GeneratorScoring(
                self.images, self.classifier, self.scored_by, encoder, self.scored, self.seed, self._extract
            )
            of_generators, of_them, doubt = scoring.run(self._points()[1], self.results, tally)
            rows += of_generators
            failed += of_them
        else:
            self.results.classes.unlink(missing_ok=True)
            folder.remove(self.results.embeddings / "nearest")
        is_supervised = {encoder.trial_id for encoder in self.encoders if encoder.is_supervised}
        for row in rows:
            if row.get("encoder") in is_supervised:
                row["selection"] = SUPERVISED
        folder.write_csv(self.results.table, scores.COLUMNS, rows)
        return "\n".join(filter(None, (f"clustered and scored them: {len(rows)} rows", doubt))), failed

    def _extract(self, pixels: Pixels) -> Features:
        """Compute features of real images as the points are, by Ray Data."""
        target = self.results.embeddings / "reference"
        self._embed_into(target, [real_source(pixels, None)], self.encoders[:1], [self.scored_by], Tally())
        real, _ = read_points(target)
        found = read_features(real, self.scored_by)
        folder.remove(target)
        return found
