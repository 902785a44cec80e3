"""Images made elsewhere, and generators that fail: what streams through the pipeline, and what is said."""

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import raymnist
from raymnist.evaluation import sources
from raymnist.evaluation.embedding import embed
from raymnist.evaluation.points import read_points
from raymnist.evaluation.sources import Network, source_of
from raymnist.models import networks
from raymnist.sweep.gauges import Tally
from raymnist.sweep.resources import Request

SHAPE = (28, 28, 1)


@pytest.fixture
def pixels(rng):
    return rng.integers(0, 256, (700, *SHAPE), dtype=np.uint8)


def in_npz(folder, pixels):
    folder.mkdir()
    for name, rows in (("part-0", slice(0, 300)), ("part-1", slice(300, 310)), ("part-2", slice(310, 700))):
        x = pixels[rows] if name != "part-1" else pixels[rows, ..., 0].astype(np.float32) / 255  # both are known forms
        np.savez_compressed(folder / f"{name}.npz", x=x)
    return folder


def in_parquet(folder, pixels):
    folder.mkdir()
    for name, rows in (("a", slice(0, 690)), ("b", slice(690, 700))):
        lists = pa.array(list(pixels[rows].reshape(-1, 784)), pa.list_(pa.uint8()))
        table = pa.table({"pixels": lists, "other": np.arange(len(lists))})
        pq.write_table(table, folder / f"{name}.parquet", row_group_size=100)
    return folder


@pytest.mark.parametrize("write", [in_npz, in_parquet])
def test_images_in_files_are_read_in_their_order_in_any_ranges(write, pixels, tmp_path):
    source = source_of(Network("made", "made", str(write(tmp_path / "made", pixels)), ""), 650, SHAPE)
    assert source.count == 650  # at most as many as are wanted
    read = source.open(seed=0)
    for first, count in ((0, 256), (256, 256), (512, 138), (0, 650), (300, 1)):
        np.testing.assert_array_equal(read(first, count), pixels[first : first + count])


def test_images_in_files_are_embedded_beside_others(ray_session, pixels, tmp_path):
    made = source_of(Network("made", "made.x", str(in_npz(tmp_path / "made", pixels)), ""), 700, SHAPE)
    real = sources.real_source(pixels[::-1][:20], None)
    embed([real, made], SHAPE, [], None, ["pixels"], 0, Request(1, 0), tmp_path / "points", Tally())
    _, (found,) = read_points(tmp_path / "points")
    np.testing.assert_array_equal(np.rint(found.blocks("pixels").array() * 255), pixels.reshape(700, -1))


def experiment(tmp_path, generator, **evaluation):
    settings = {"generators": [str(generator)], "images": 60, "scored_images": 60, "reducers": ["none"], **evaluation}
    path = tmp_path / "e.yaml"
    path.write_text(f"name: e\ndataset: {{name: digits, limit: 100}}\nevaluation: {settings}\n")
    return path


def test_images_from_elsewhere_are_evaluated_like_a_generators(ray_session, tmp_path, digits):
    (tmp_path / "copies").mkdir()
    for name, images in (("a", digits.test[:200]), ("b", digits.test[200:])):
        np.savez(tmp_path / "copies" / f"{name}.npz", x=images)
    file = experiment(tmp_path, "copies/", features=["pixels"], reducers=["none", "pca"])  # found beside the file
    results = raymnist.run(file, results=tmp_path)
    assert results.manifest["status"] == "complete"
    table = results.table.set_index(["trial_id", "population", "reducer", "metric"])["value"].sort_index()
    assert table["copies.images", "both", "none", "mixing"] > 0.9
    assert table["copies.images", "fake", "", "precision"] > 0.8
    assert (results.folder.figures / "map_pixels_pca3_copies.images.png").is_file()
    assert raymnist.run(tmp_path / "e.yaml", results=tmp_path).table.equals(results.table)


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda path: np.savez(path, y=np.zeros(3)), "expected an .npz file with images under the key x"),
        (lambda path: np.savez(path, x=np.zeros((9, 14, 14), np.uint8)), r"expected images \(28, 28, 1\)"),
        (lambda path: np.savez(path, x=np.zeros((0, 28, 28), np.uint8)), "expected at least 60 images, received 0"),
        (
            lambda path: np.savez(path, x=np.zeros((99, 28, 28), int)),
            "expected uint8, or floats in .0, 1., received int64",
        ),
        (lambda path: path.write_bytes(b"PK"), "expected an .npz file with images under the key x"),
    ],
)
def test_files_that_hold_no_images_are_refused_before_anything_is_done(ray_session, tmp_path, write, said):
    write(tmp_path / "wrong.npz")
    with pytest.raises(ValueError, match=f"evaluation.generators: .*wrong.npz: {said}"):
        raymnist.run(experiment(tmp_path, tmp_path / "wrong.npz"), results=tmp_path)
    assert not (tmp_path / "e").exists()


def test_parquet_without_pixels_is_refused(tmp_path):
    pq.write_table(pa.table({"image": [1]}), tmp_path / "w.parquet")
    with pytest.raises(ValueError, match=r"w.parquet: expected lists of uint8 in a column pixels, received image"):
        sources.pieces_of(tmp_path / "w.parquet", SHAPE)


def a_generator(path, column=0, limit=1e6):
    """Save a generator whose images are not numbers where a number of the noise is beyond a limit."""
    keras.utils.set_random_seed(1)
    noise = keras.Input((4,))
    first = keras.layers.Dense(1, use_bias=False)
    beyond = keras.layers.ReLU(threshold=limit)(first(noise))
    one_or_infinite = keras.layers.Activation("exponential")(keras.layers.Rescaling(1e3)(beyond))
    broken = keras.layers.Subtract()([one_or_infinite, one_or_infinite])  # 0, or infinity less infinity
    pixels = keras.layers.Add()([keras.layers.Dense(784)(noise), broken])
    network = keras.Model(noise, keras.layers.Reshape(SHAPE)(keras.layers.Activation("sigmoid")(pixels)))
    first.set_weights([np.eye(4)[:, [column]]])
    network.save(path)
    return path


def test_a_generator_that_fails_in_the_middle_has_its_failure_in_the_table(ray_session, tmp_path, command):
    """Its first chunk is sound; the rest of the table is written, and once it is mended all of it."""
    noise = networks.noise(600, 4, 0)
    limits = noise[:256].max(0) + 1e-4
    column = int((noise[256:].max(0) - limits).argmax())
    assert noise[256:, column].max() > limits[column]
    sound = a_generator(tmp_path / "sound.keras")
    failing = a_generator(tmp_path / "failing.keras", column, float(limits[column]))
    files = [str(sound), str(failing)]
    file = experiment(tmp_path, "", generators=files, fakes=600, scored_images=50, features=["pixels"])
    status, said, _ = command("run", file, "--results", tmp_path)
    line = "failing.keras: expected images, received numbers that are not finite from the network"
    assert status == 1
    assert line in " ".join(said.split())
    results = raymnist.open(tmp_path / "e")
    assert results.manifest["status"] == "incomplete"
    assert any(line in failure for failure in results.manifest["failures"])
    table = results.table
    failed = table[table["error"] != ""]
    assert set(failed["trial_id"]) == {"failing.keras"}
    assert set(failed["population"]) == {"fake", "both"}
    assert failed["error"].str.endswith(line).all()
    assert failed["value"].isna().all()
    metrics = set(table.loc[table["trial_id"] == "sound.keras", "metric"])
    assert {"silhouette", "mixing", "fid", "precision"} <= metrics
    failing.write_bytes(sound.read_bytes())
    assert command("run", file, "--results", tmp_path)[0] == 0
    table = raymnist.open(tmp_path / "e").table
    assert (table["error"] == "").all()
    assert set(table.loc[table["trial_id"] == "failing.keras", "metric"]) == metrics
