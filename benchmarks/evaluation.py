"""How fast the evaluation is beside the bare libraries: silhouette, k-means past memory, the whole of it, embedding.

RAYMNIST_DATA=folder python benchmarks/evaluation.py [--quick] [--json FILE]

MNIST; a conv_autoencoder and a dense_gan as they are after initialisation, which costs the same as after training.
Ratios are seconds of the bare library over ours: above 1 ours is faster. What the rows compare:

- silhouette: scikit-learn's on all cores, ours by Ray tasks on blocks in the object store; the same clusters.
- kmeans: scikit-learn's on all cores, with 4 starts; ours by partial sums of blocks, with 4 starts of its own.
- evaluation: each library's call that the results table needs, one after the other in one process with all of them
  imported and the networks traced; ours from the networks to the table, with the start of Ray, its workers and imports.
- embedding: Keras' predict on an array in memory, with its default batch and with ours; ours from the object store to
  Parquet, once with the start of its actor and once without, as the rate between two sizes.
"""

import argparse
import json
import os
import tempfile
import time
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import numpy as np
import ray
from sklearn import metrics
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from raymnist import datasets
from raymnist.config import Chain, Dataset, Evaluation, Part, Train
from raymnist.evaluation import clusterers, lloyd, reducers, silhouettes
from raymnist.evaluation.blocks import BLOCK, Blocks
from raymnist.evaluation.embedding import embed
from raymnist.evaluation.scores import SAMPLE
from raymnist.evaluation.sources import Network, real_source
from raymnist.evaluation.stages import Stages
from raymnist.folder import Folder
from raymnist.metrics.clustering import acc
from raymnist.models import MODELS, networks
from raymnist.sweep.gauges import Gauges, Tally
from raymnist.sweep.resources import Request


class Records(list):
    def timed(self, task, variant, call):
        start = time.perf_counter()
        result = call()
        self.add(task, variant, time.perf_counter() - start)
        return result

    def add(self, task, variant, seconds, **more):
        first = next((record["seconds"] for record in self if record["task"] == task), seconds)
        self.append({"task": task, "variant": variant, "seconds": seconds, "ratio": first / seconds, **more})
        print(f"{task:34} {variant:42} {seconds:8.2f} s {first / seconds:7.2f}", flush=True)


def in_blocks(points):
    rows = max(1, BLOCK // points[0].nbytes)
    return Blocks.of(*np.split(points, range(rows, len(points), rows)))


def compare_silhouettes(records, images, count):
    points = images[:count].reshape(count, -1).astype(np.float32) / 255
    clusters = KMeans(10, n_init=1, random_state=0).fit_predict(points)
    held, task = in_blocks(points), f"silhouette {count:,} x {points.shape[1]}"
    expected = records.timed(task, "scikit-learn", lambda: metrics.silhouette_score(points, clusters))
    found = records.timed(task, "raymnist", lambda: silhouettes.silhouette(held, clusters, 0))
    records[-1]["difference"] = abs(found - expected)
    print(f"{'':34} difference {abs(found - expected):.1e}")


def compare_kmeans(records, images, encoder, count):
    points = networks.encode(encoder, images[:count])
    held, task = in_blocks(points), f"kmeans {count:,} x {points.shape[1]}"
    bare = records.timed(task, "scikit-learn", lambda: KMeans(10, n_init=4, random_state=0).fit(points))
    found = records.timed(task, "raymnist", lambda: lloyd.kmeans(held, 10, 4, 0))
    records[-1]["inertia_ratio"] = found.inertia / bare.inertia_
    print(f"{'':34} inertia {found.inertia / bare.inertia_:.4f} of scikit-learn's")


PARTS = ("none", "pca", "tsne", "umap")


def bare_evaluation(records, images, labels, encoder, generator, count):
    """Call the libraries as a script would, for all that the table of the same evaluation holds."""
    from openTSNE import TSNE
    from umap import UMAP

    task, spent = f"evaluation {count:,} + {count:,}", {}

    def timed(name, call):
        start = time.perf_counter()
        result = call()
        spent[name] = spent.get(name, 0) + time.perf_counter() - start
        return result

    noise = np.random.default_rng(0).standard_normal((count, generator.input_shape[-1]), dtype=np.float32)
    generator.predict(noise[:256], verbose=0)
    encoder.predict(images[:256].astype(np.float32), verbose=0)
    fakes = timed("generate", lambda: generator.predict(noise, batch_size=256, verbose=0))
    real = timed("encode", lambda: encoder.predict(images.astype(np.float32) / 255, batch_size=256, verbose=0))
    fake = timed("encode", lambda: encoder.predict(fakes, batch_size=256, verbose=0))
    pca, umap = PCA(3, random_state=0), UMAP(random_state=0, transform_seed=0, n_jobs=1)
    spaces = {"none": (real, fake)}
    spaces["pca"] = timed("pca", lambda: (pca.fit_transform(real), pca.transform(fake)))
    fitted = timed("tsne", lambda: TSNE(2, n_jobs=2, random_state=0).fit(real))
    spaces["tsne"] = (np.asarray(fitted), np.asarray(timed("tsne", lambda: fitted.transform(fake))))
    spaces["umap"] = timed("umap", lambda: (umap.fit_transform(real), umap.transform(fake)))
    sample = np.sort(np.random.default_rng(0).choice(count, min(SAMPLE, count), replace=False))
    both_codes = np.concatenate([real, fake])
    for name, (of_real, of_fake) in spaces.items():
        for population, points, codes in (
            ("real", of_real, real), ("fake", of_fake, fake), ("both", np.concatenate([of_real, of_fake]), both_codes),
        ):  # fmt: skip
            clusters = timed("kmeans", lambda points=points: KMeans(10, n_init=4, random_state=0).fit_predict(points))
            timed("silhouette", lambda points=points, clusters=clusters: metrics.silhouette_score(points, clusters))
            if population == "real":
                for score in (
                    metrics.adjusted_rand_score, metrics.normalized_mutual_info_score,
                    metrics.adjusted_mutual_info_score, acc,
                ):  # fmt: skip
                    timed("label scores", lambda score=score, clusters=clusters: score(labels, clusters))
                knn = KNeighborsClassifier(10).fit(points[sample], labels[sample])
                timed("neighbours", lambda knn=knn, points=points: knn.predict(points[sample]))
            if name != "none":
                timed("neighbours", lambda a=codes, b=points: trustworthiness(a[sample], b[sample], n_neighbors=10))
                for side in (codes, points):
                    tree = NearestNeighbors(n_neighbors=11)
                    timed("neighbours", lambda tree=tree, side=side: tree.fit(side[sample]).kneighbors())
    records.add(task, "sum of the bare calls", sum(spent.values()), calls=spent)
    print(f"{'':34} " + ", ".join(f"{name} {seconds:.1f}" for name, seconds in spent.items()))


def our_evaluation(records, images, paths, count, place):
    task = f"evaluation {count:,} + {count:,}"
    evaluation = Evaluation(
        images=count, scored_images=None, features=["code"], encoder="autoencoder", generators=[],
        reducers=[reducers.resolve(Chain(parts=[Part(name=name)]), "") for name in PARTS],
        clusterers=[clusterers.resolve(Part(name="kmeans"), "")],
    )  # fmt: skip
    start = time.perf_counter()
    ray.init("local", include_dashboard=False, log_to_driver=False)
    encoder = Network("autoencoder", "autoencoder-00", str(paths["encoder"]), "")
    generator = Network("gan", "gan-00", str(paths["generator"]), "")
    folder = Folder(place / "results")
    stages = Stages(evaluation, images, 0, [encoder], None, [generator], folder)
    with Gauges("benchmark") as gauges:
        failures = stages.run(lambda line: None, gauges)
    seconds = time.perf_counter() - start
    assert not failures, failures
    spent = folder.manifest["seconds"]
    records.add(task, "raymnist, from Ray's start to the table", seconds, stages=spent)
    print(f"{'':34} " + ", ".join(f"{name} {of_stage:.1f}" for name, of_stage in spent.items()))


def compare_embedding(records, images, encoder, path, count, place):
    """Embed `count` images and a third of them; their difference is the rate of a job that has started."""
    many = np.resize(images, (count, *images.shape[1:]))
    task = f"embedding {count:,}"
    encoder.predict(many[:256].astype(np.float32), verbose=0)
    for batch, variant in ((32, "Keras predict, its default batch of 32"), (256, "Keras predict, batch of 256")):
        records.timed(
            task, variant, lambda batch=batch: encoder.predict(many.astype(np.float32) / 255, batch, verbose=0)
        )
    network = Network("autoencoder", "autoencoder-00", str(path), "")
    taken = {}
    for size in (count // 3, count):
        start = time.perf_counter()
        sources = [real_source(many[:size], None)]
        embed(sources, (28, 28, 1), [network], None, ["code"], 0, Request(1, 0), place / "p", Tally())
        taken[size] = time.perf_counter() - start
    records.add(task, "raymnist, with its start", taken[count])
    rate = (count - count // 3) / (taken[count] - taken[count // 3])
    records.add(task, "raymnist, at the rate once started", count / rate, images_per_second=rate)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the images")
    parser.add_argument("--json", type=Path, help="write the records to a file")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    part = 10 if options.quick else 1
    images = datasets.load(Dataset(name="mnist"))
    every = np.concatenate([images.train, images.validation, images.test])
    records = Records()
    with tempfile.TemporaryDirectory() as scratch:
        place, paths, made = Path(scratch), {}, {}
        for title, name, settings in (
            ("spatial", "conv_autoencoder", {}), ("encoder", "conv_autoencoder", {"latent_dim": 32}),
            ("generator", "dense_gan", {}),
        ):  # fmt: skip
            made[title] = MODELS[name](MODELS[name].Settings(**settings), Train(), (28, 28, 1)).network
            paths[title] = place / f"{title}.keras"
            made[title].save(paths[title])
        encoder = made["encoder"].get_layer("encoder")
        bare_evaluation(
            records, images.test[: 10_000 // part], images.test_labels[: 10_000 // part], encoder, made["generator"],
            10_000 // part,
        )  # fmt: skip
        our_evaluation(records, images, paths, 10_000 // part, place)
        compare_silhouettes(records, every, 60_000 // part)
        compare_kmeans(records, every, made["spatial"].get_layer("encoder"), 70_000 // part)
        compare_embedding(records, every, encoder, paths["encoder"], 300_000 // part, place)
        ray.shutdown()
    if options.json:
        options.json.write_text(json.dumps(records, indent=2) + "\n")


if __name__ == "__main__":
    main()
