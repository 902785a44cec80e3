"""The evaluation on several nodes, which run in one process tree."""

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version

import pandas as pd
import pytest

import raymnist
from raymnist.metrics import GENERATOR_METRICS

EVALUATION = """
import sys
from ray.cluster_utils import Cluster
import raymnist

nodes = int(sys.argv[2])
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1 if nodes > 1 else 2, "include_dashboard": False})
for _ in range(nodes - 1):
    cluster.add_node(num_cpus=1)
cluster.wait_for_nodes()
try:
    results = raymnist.run(sys.argv[1], SETS, results=sys.argv[3], address=cluster.address)
    assert results.manifest["status"] == "complete"
finally:
    cluster.shutdown()
"""
SETS = {
    "evaluation.fakes": 1500,
    "evaluation.scored_images": 300,
    "evaluation.images": 300,
    "evaluation.reducers": ["none", [{"pca": 4}, {"pca": 3}], "umap", {"tsne": {"sample": 200}}],
    "evaluation.clusterers": [{"kmeans": [2, 4]}, "gmm", {"hdbscan": 20}],
}


@pytest.mark.long
def test_three_nodes_come_to_the_table_of_one(tiny_run, tiny_file, tmp_path):
    tables = {}
    for nodes in (1, 3):
        place = tmp_path / f"on-{nodes}"
        shutil.copytree(tiny_run.folder.path, place / "tiny")  # the trials are those of one training
        saved = {"evaluation.generators": ["gan", str(tiny_run.best("gan").path / "model.keras")]}
        (place / "run.py").write_text(EVALUATION.replace("SETS", repr(SETS | saved)))
        words = [sys.executable, place / "run.py", tiny_file, str(nodes), place]
        alone = os.environ | {
            "RAYMNIST_CACHE": str(place / "cache"),  # so that all of it is computed there
            "RAY_DATA_DEFAULT_WAIT_FOR_MIN_ACTORS_S": "300",  # else those that start first may leave nothing to do
        }
        finished = subprocess.run(words, env=alone, capture_output=True, text=True, timeout=600, check=False)
        assert finished.returncode == 0, finished.stdout + finished.stderr
        results = raymnist.open(place / "tiny")
        tables[nodes] = results.table
        used = re.findall(r"\(Embed\): \d+ tasks exec.*?; (\d+) nodes used", results.folder.log.read_text(), re.DOTALL)
        assert max(used) == {1: "1", 3: "2"}[nodes], used  # one CPU, here a node, is left to the tasks that write
    pd.testing.assert_frame_equal(tables[1], tables[3], rtol=1e-6)
    metrics = {"silhouette", "mixing", "ari", "noise_share", "trustworthiness", *GENERATOR_METRICS} - {"fid_infinity"}
    assert metrics <= set(tables[3]["metric"])
    assert "model.keras" in set(tables[3]["trial_id"])


CHECK = """
import sys
import tempfile
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from raymnist.errors import InputError
from raymnist.sweep import nodes
from raymnist.sweep.session import ray_session

place = Path(sys.argv[1])
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=1)
try:
    with tempfile.TemporaryDirectory() as scratch, ray_session(None, scratch, {}):
        assert len(ray.nodes()) == 1  # one of its own, not this cluster, to which nobody has sent it
    ray.init(cluster.address)
    cluster.wait_for_nodes()
    nodes.check(place / "not" / "there" / "yet")
    assert list(place.iterdir()) == []
    here = nodes.versions()
    assert here["ray"] == ray.__version__
    nodes.versions = lambda: here | {"tensorflow": "9.9"}
    try:
        nodes.check(place)
    except InputError as error:
        print(error)
    assert list(place.iterdir()) == []
    ray.shutdown()
finally:
    cluster.shutdown()
"""


@pytest.mark.long
def test_a_node_with_other_versions_than_the_drivers_is_named(tmp_path):
    words = [sys.executable, "-c", CHECK, tmp_path]
    finished = subprocess.run(words, capture_output=True, text=True, timeout=200, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    found = version("tensorflow")
    line = rf"node [\d.]+: expected tensorflow 9\.9, as on the driver's node, found {found}\n"
    assert re.fullmatch(line, finished.stdout), finished.stdout
