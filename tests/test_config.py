import numpy as np
import pytest

from raymnist import experiment_file, pipeline
from raymnist.config import Experiment
from raymnist.errors import InputError
from raymnist.evaluation import clusterers, reducers
from raymnist.sweep.objective import Scored
from raymnist.sweep.outcome import Outcome
from raymnist.sweep.plan import Plan
from raymnist.sweep.tables import row

SHORTEST = "name: first\nstudies: {gan: {model: conv_gan}}\n"


def load(text, tmp_path, sets=None):
    path = tmp_path / "file.yaml"
    path.write_text(text)
    return experiment_file.load(path, sets)


def prepare(text, tmp_path, sets=None):
    path = tmp_path / "file.yaml"
    path.write_text(text)
    return pipeline.prepare(path, sets)[0]


def test_the_shortest_file_gets_defaults_that_suit_it(tmp_path):
    experiment = prepare(SHORTEST, tmp_path)
    gan = experiment.studies["gan"]
    assert experiment.dataset.name == "digits"
    assert gan.model == {
        "name": "conv_gan",
        "latent_dim": 100,
        "dropout": 0.4,
        "label_smoothing": 0,
        "ema": 0,
        "generator_filters": 128,
        "generator_activation": "leaky_relu",
        "generator_batch_norm": False,
        "discriminator_filters": 64,
        "discriminator_activation": "leaky_relu",
        "discriminator_batch_norm": False,
    }
    assert gan.train == {
        "epochs": 100,
        "patience": None,
        "batch_size": 256,
        "learning_rate": 2e-4,
        "generator_learning_rate": None,
        "discriminator_learning_rate": None,
        "beta_1": 0.5,
        "precision": "float32",
    }
    assert experiment.evaluation.features == ["pixels"]
    assert [generator.name for generator in experiment.evaluation.generators] == ["gan"]


@pytest.mark.parametrize("name", sorted(experiment_file.bundled()))
def test_a_bundled_experiment_opens_with_its_command(name):
    assert experiment_file.bundled()[name].read_text().startswith(f"# raymnist run {name} ")
    assert experiment_file.load(name).name == name


@pytest.mark.parametrize("name", ["quickstart"])
def test_the_resolved_file_resolves_to_itself(name, tmp_path):
    resolved, _ = pipeline.prepare(name)
    again = prepare(resolved.to_yaml(), tmp_path)
    assert again == resolved


def test_domains_stay_in_place_in_the_resolved_file(tmp_path):
    gan = "{model: conv_gan, train: {beta_1: {uniform: [0.4, 9e-1]}}, sweep: {trials: 3}}"
    text = f"name: a\nstudies: {{gan: {gan}}}\n"
    study = prepare(text, tmp_path).studies["gan"]
    assert study.train["beta_1"] == {"uniform": [0.4, 0.9]}
    assert list(study.domains) == ["train.beta_1"]


@pytest.mark.parametrize(
    "setting",
    ["model.latent_dim", "model.dropout", "train.learning_rate", "train.batch_size", "train.beta_1", "train.epochs"],
)
def test_any_setting_can_be_searched(setting, tmp_path):
    values = (
        {"choice": [0.2, 0.3]}
        if setting in ("model.dropout", "train.beta_1", "train.learning_rate")
        else {"choice": [8, 16]}
    )
    experiment = prepare(SHORTEST, tmp_path, {f"studies.gan.{setting}": values, "studies.gan.sweep.trials": 2})
    assert list(experiment.studies["gan"].domains) == [setting]
    trials = Plan("gan", experiment.studies["gan"], 0, Scored("", has_labels=True), "data").trials()
    drawn = row(Outcome(trials[0], "key", tmp_path))[setting.split(".")[1]]
    assert drawn in values["choice"]


def test_set_replaces_a_domain_by_a_value(tmp_path):
    text = """
name: a
studies:
  gan:
    model: {name: conv_gan, latent_dim: {choice: [8, 16]}}
    train: {learning_rate: {loguniform: [1e-4, 1e-3]}}
    sweep: {trials: 2}
"""
    study = load(text, tmp_path, {"studies.gan.model.latent_dim": 5}).studies["gan"]
    assert study.model["latent_dim"] == 5
    assert list(study.domains) == ["train.learning_rate"]


def test_set_reaches_all_studies_with_a_star(tmp_path):
    text = "name: a\nstudies: {one: {model: conv_gan}, two: {model: conv_gan, train: {epochs: 7}}}\n"
    studies = load(text, tmp_path, {"studies.*.train.epochs": 1}).studies
    assert [study.train["epochs"] for study in studies.values()] == [1, 1]


def test_set_reaches_into_a_bare_name(tmp_path):
    experiment = load(
        SHORTEST + "dataset: digits\n", tmp_path, {"dataset.limit": 50, "studies.gan.model.latent_dim": 3}
    )
    assert (experiment.dataset.name, experiment.dataset.limit) == ("digits", 50)
    assert experiment.studies["gan"].model == {"name": "conv_gan", "latent_dim": 3}


def test_set_leaves_the_file_as_it_was(tmp_path):
    data = {"a": {"b": 1}}
    assert experiment_file.put(data, "a.b", 2) == {"a": {"b": 2}}
    assert data == {"a": {"b": 1}}


def test_experiments_are_frozen(tmp_path):
    experiment = load(SHORTEST, tmp_path)
    with pytest.raises(ValueError, match="frozen"):
        experiment.name = "other"


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (
            {"colour": 1},
            "file.yaml: unknown key 'colour'; the keys here are name, seed, dataset, loggers, checkpoints, studies",
        ),
        ({"studies.gan.train.epoch": 1}, "studies.gan.train: unknown key 'epoch'; the keys here are epochs"),
        ({"studies.gan.model.latent": 1}, "studies.gan.model: unknown key 'latent'; the keys here are latent_dim"),
        ({"studies.gan.train.epochs": "ten"}, "studies.gan.train.epochs: expected a valid integer, received 'ten'"),
        ({"studies.gan.train.epochs": 2.5}, "studies.gan.train.epochs: expected a valid integer, received 2.5"),
        ({"studies.gan.train.epochs": True}, "studies.gan.train.epochs: expected a valid integer, received True"),
        ({"studies.gan.train.epochs": 0}, "studies.gan.train.epochs: expected greater than or equal to 1, received 0"),
        ({"studies.gan.train.learning_rate": -1}, "studies.gan.train.learning_rate: expected greater than 0"),
        (
            {"studies.gan.train.learning_rate": float("nan")},
            "studies.gan.train.learning_rate: expected a finite number",
        ),
        ({"studies.gan.train.beta_1": 1}, "studies.gan.train.beta_1: expected less than 1, received 1"),
        ({"studies.gan.train.precision": "half"}, "expected 'float32' or 'mixed_bfloat16', received 'half'"),
        ({"studies.gan.model.dropout": 1.0}, "studies.gan.model.dropout: expected less than 1"),
        ({"studies.gan.model.latent_dim": "spatial"}, "studies.gan.model.latent_dim: expected a valid integer"),
        (
            {"studies.gan.model.name": "wgan"},
            "unknown model 'wgan'; choose from classifier, conv_autoencoder, conv_gan, dcgan, dense_gan",
        ),
        (
            {"dataset": "cifar"},
            "unknown dataset 'cifar'; choose from a path to a .npz file, digits, fashion_mnist, mnist",
        ),
        ({"dataset.limit": 5}, "dataset.limit: expected greater than or equal to 20"),
        (
            {"name": "../up"},
            "name: expected a name of letters, digits, `_`, `-` and `.`, the first a letter or digit, received '../up'",
        ),
        ({"name": "a/b"}, "name: expected a name"),
        ({"name": 7}, "name: expected a valid string"),
        ({"seed": -1}, "seed: expected greater than or equal to 0"),
        ({"studies": {}}, "studies: "),
        ({"studies": {"a/b": {"model": "conv_gan"}}}, "expected a name of letters"),
        ({"studies.other.train.epochs": 1}, "unknown study 'other'; choose from gan"),
        ({"studies.gan.train.epochs.x": 1}, "studies.gan.train.epochs: expected a valid integer"),
        ({"studies.gan.sweep": {"trials": 2}}, "studies.gan.sweep: nothing is searched"),
        ({"studies.gan.train.epochs": {"choice": [1, 2]}}, "studies.gan.train.epochs: a search domain needs a sweep"),
        ({"studies.gan.resources.gpus": 2}, "several GPUs train several trials"),
        ({"studies.gan.resources.gpus": "half"}, "gpus: expected a valid number or 'auto', received 'half'"),
        ({"studies": {"a.b": {"model": "conv_gan"}}}, "expected a name of letters, digits, `_` and `-`, the first"),
        (
            {"studies.gan.model": {"name": "conv_autoencoder", "latent_dim": 0}},
            "studies.gan.model.latent_dim: expected 'spatial' or greater than or equal to 1, received 0",
        ),
        ({"studies.gan.resources.cpus": 0}, "studies.gan.resources.cpus: expected greater than 0"),
        ({"evaluation.reducers": ["lda"]}, "unknown reducer 'lda'; choose from none, pca, tsne, umap"),
        ({"evaluation.clusterers": ["dbscan"]}, "unknown clusterer 'dbscan'; choose from gmm, hdbscan, kmeans"),
        ({"evaluation.clusterers": [{"kmeans": {"clusters": [9, 3]}}]}, "expected the fewest before the most"),
        ({"evaluation.clusterers": [{"kmeans": {"clusters": 1}}]}, "evaluation.clusterers.kmeans.clusters: expected"),
        ({"evaluation.clusterers": [{"hdbscan": {"min_size": 1}}]}, "evaluation.clusterers.hdbscan.min_size: expected"),
        (
            {"evaluation.clusterers": ["gmm", {"gmm": 5}]},
            "expected different names in the table, received gmm, gmm; each",
        ),
        ({"evaluation.reducers": [["none", "umap"]]}, "none: expected alone, received it among 2 reducers"),
        ({"evaluation.reducers": [{"none": 3}]}, "evaluation.reducers.none: expected no options, received 3"),
        ({"evaluation.reducers": [[]]}, "evaluation.reducers.0.parts: expected"),
        ({"evaluation.resources.gpus": 2}, "several GPUs train several trials"),
        ({"evaluation.choose_by": "ari"}, "evaluation.choose_by: expected 'silhouette' or 'agreement', received 'ari'"),
        ({"evaluation.reducers": [{"pca": {"dim": 3}}]}, "evaluation.reducers.pca: unknown key 'dim'"),
        ({"evaluation.reducers": [{"umap": {"min_dist": 2}}]}, "evaluation.reducers.umap.min_dist: expected less"),
        ({"evaluation.reducers": ["pca", {"pca": {"dims": 3}}]}, "expected different names in the table"),
        ({"evaluation.reducers": []}, "evaluation.reducers: "),
        ({"evaluation.encoder": "gan"}, "unknown autoencoder study 'gan'"),
        ({"evaluation.generators": ["wgan"]}, "unknown generator study 'wgan'; choose from gan, the path of a"),
        (
            {"evaluation.generators": ["wgan.h5"]},
            "evaluation.generators: wgan.h5: expected a file .keras, .h5, .hdf5, or images in .npz or .parquet files, "
            "found none",
        ),
        ({"evaluation.generators": [{"name": "a.h5", "output_range": [1, 0]}]}, "expected the lower value first"),
        ({"evaluation.generators": [{"name": "gan", "output_range": [0, 1]}]}, "output_range: belongs to a saved file"),
        ({"evaluation.generators": [{"name": "gan", "label": "old"}]}, "label: belongs to a saved file, received"),
        ({"evaluation.generators": [{"name": "a.h5", "label": "a/b"}]}, "expected a name of letters, digits"),
        (
            {"studies.gan": {"model": "conv_autoencoder", "train": {"generator_learning_rate": 1e-3}}},
            "belongs to a GAN, received it for conv_autoencoder",
        ),
        ({"studies.gan.sweep.scheduler": {"name": "fifo", "grace_epochs": 2}}, "unknown key 'grace_epochs'"),
        ({"studies.gan.model.generator_activation": "swish2"}, "generator_activation: expected 'leaky_relu', "),
        ({"studies.gan.samples.save": ["onnx"]}, "expected 'keras' or 'h5', received 'onnx'"),
        ({"evaluation.features": ["code"]}, "code needs an encoder"),
        ({"evaluation.fit_on": "fake"}, "evaluation.fit_on: expected 'real' or 'both', received 'fake'"),
    ],
)
def test_wrong_input_is_one_line_with_file_key_and_value(sets, message, tmp_path):
    with pytest.raises(InputError) as caught:
        prepare(SHORTEST, tmp_path, sets)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


SEARCH = {"studies.gan.sweep.trials": 2}


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ({"studies.gan.train.learning_rate": {"loguniform": [1e-3, 1e-4]}}, "its lower bound first"),
        (
            {"studies.gan.train.batch_size": {"choice": [8, "x"]}},
            "studies.gan.train.batch_size: expected a valid integer",
        ),
        ({"studies.gan.train.beta_1": {"uniform": [0.5, 1.5]}}, "studies.gan.train.beta_1: expected less than 1"),
        (
            {"studies.gan.train.batch_size": {"choice": [8, 5000]}},
            "studies.gan.train.batch_size: expected at most 1294",
        ),
        (
            {"studies.gan.train.epochs": {"sometimes": [1, 2]}, "studies.gan.model.latent_dim": {"choice": [1, 2]}},
            "valid integer, received {'sometimes': [1, 2]}; the search domains are choice, ",
        ),
        (
            {"studies.gan.train.batch_size": {"uniform": [8, 64]}},
            "studies.gan.train.batch_size: expected a valid integer",
        ),
        (
            {"studies.gan.train.epochs": {"choice": [1, 2]}, "studies.gan.sweep.metric": "loss"},
            "loss is no objective of this model",
        ),
        ({"studies.gan.train.epochs": {"grid": [1, 2]}}, "a grid domain needs `searcher: grid`"),
        (
            {"studies.gan.train.beta_1": {"uniform": [0.1, 0.2]}, "studies.gan.sweep.searcher": "grid"},
            "`searcher: grid` needs grid or choice",
        ),
        (
            {
                "studies.gan.train.epochs": {"grid": [1, 2]},
                "studies.gan.sweep.searcher": "grid",
                "studies.gan.sweep.trials": 3,
            },
            "expected at most 2, the points of the grid, not 3",
        ),
        (
            {"studies.gan.train.epochs": {"choice": [1, 2]}, "studies.gan.sweep.scheduler": "hyperband"},
            "sweep.scheduler: expected 'fifo', 'asha', 'median_stopping', 'pbt', received 'hyperband'",
        ),
        (
            {"studies.gan.model.latent_dim": {"choice": [1, 2]}, "studies.gan.sweep": {"scheduler": "pbt"}},
            "model.latent_dim: pbt changes settings while a model trains; expected choice, uniform or loguniform of",
        ),
        (
            {
                "studies.gan.train": {"learning_rate": {"choice": [1e-3, 1e-2]}, "epochs": 5},
                "studies.gan.sweep": {"scheduler": {"name": "pbt", "perturb_every": 5}},
            },
            "expected the first exchange before the last of 5 epochs, received 5",
        ),
        (
            {
                "studies.gan.train": {"learning_rate": {"choice": [1e-3, 1e-2]}, "epochs": 30},
                "studies.gan.sweep": {"every": 15, "scheduler": {"name": "pbt", "perturb_every": 20}},
            },
            "studies.gan.sweep: pbt exchanges weights every `scheduler.perturb_every` epochs, at a look (`every` 15)",
        ),
        (
            {"studies.gan.train.learning_rate": {"uniform": [2, 1]}},
            "studies.gan.train.learning_rate: uniform expects its lower bound first",
        ),
        (
            {
                "studies.gan.train.learning_rate": {"choice": [1e-3, 1e-2]},
                "studies.gan.sweep": {"scheduler": "pbt", "searcher": "grid"},
            },
            "sweep.searcher: pbt draws its settings anew",
        ),
        (
            {
                "studies.gan.train.learning_rate": {"choice": [1e-3, 1e-2]},
                "studies.gan.train.generator_learning_rate": 1e-3,
                "studies.gan.train.discriminator_learning_rate": 1e-3,
                "studies.gan.sweep": {"trials": 2},
            },
            "train.learning_rate: searched, but both networks have rates of their own",
        ),
    ],
)
def test_a_wrong_search_is_refused_before_anything_runs(sets, message, tmp_path):
    with pytest.raises(InputError, match=r"^.*file\.yaml: ") as caught:
        prepare(SHORTEST, tmp_path, SEARCH | sets)
    assert message in str(caught.value)


@pytest.mark.parametrize("source", ["nowhere.yaml", "a/b", "experiments"])
def test_a_missing_file_is_named(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=source):
        experiment_file.load(source)


def test_a_file_that_is_no_mapping_is_refused(tmp_path):
    with pytest.raises(InputError, match="expected a mapping"):
        load("- 1\n- 2\n", tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        experiment_file.load(tmp_path / "binary.yaml")


def test_parts_are_read_in_each_form():
    forms = ["pca", {"pca": {"dims": 3}}, {"name": "pca", "dims": 3}, {"pca": 3}]
    experiment = Experiment.model_validate(
        {"name": "a", "studies": {"g": {"model": "conv_gan"}}, "evaluation": {"reducers": forms}}
    )
    assert [(part.name, part.options) for (part,) in (chain.parts for chain in experiment.evaluation.reducers)] == [
        ("pca", {}),
        ("pca", {"dims": 3}),
        ("pca", {"dims": 3}),
        ("pca", 3),
    ]


def test_chains_and_labels_are_read_and_written_as_they_were_meant(tmp_path):
    text = """
name: a
studies: {e: {model: conv_autoencoder}}
evaluation:
  reducers: [none, [pca: 50, umap: {neighbors: 30}], {umap: {dims: 3, label: deep}}]
  clusterers: [{kmeans: [5, 15]}, {hdbscan: {min_size: 50, label: fine}}, hdbscan]
"""
    (tmp_path / "a.yaml").write_text(text)
    experiment, _ = pipeline.prepare(tmp_path / "a.yaml")
    evaluation = experiment.evaluation
    assert [reducers.label(chain) for chain in evaluation.reducers] == ["none", "pca50-umap2", "deep"]
    assert evaluation.reducers[1].parts[1].options["neighbors"] == 30
    assert [clusterers.label(part) for part in evaluation.clusterers] == ["kmeans", "fine", "hdbscan"]
    assert evaluation.clusterers[0].options["clusters"] == [5, 15]
    (tmp_path / "again.yaml").write_text(experiment.to_yaml())
    assert pipeline.prepare(tmp_path / "again.yaml")[0] == experiment


def test_unreduced_features_are_always_among_the_spaces_of_generators(tmp_path):
    """The leaderboard's mixing is measured there."""
    for model, expected in (("dense_gan", ["none", "pca3"]), ("conv_autoencoder", ["pca3"])):
        text = f"name: a\nstudies: {{s: {{model: {model}}}}}\nevaluation: {{reducers: [pca]}}\n"
        (tmp_path / "a.yaml").write_text(text)
        experiment, _ = pipeline.prepare(tmp_path / "a.yaml")
        assert [reducers.label(chain) for chain in experiment.evaluation.reducers] == expected


def test_files_are_looked_for_from_the_working_directory_then_beside_the_experiment(tmp_path, monkeypatch):
    here, beside = tmp_path / "here", tmp_path / "beside"
    for folder in (here, beside):
        folder.mkdir()
        for name in ("images.npz", "both.h5", "digits"):
            (folder / name).touch()
    (beside / "only.h5").touch()
    (here / "images.npz").unlink()
    monkeypatch.chdir(here)
    text = "name: a\nevaluation: {generators: [both.h5, only.h5, none.h5]}\n"
    (beside / "e.yaml").write_text(text + "dataset: images.npz\n")
    experiment = experiment_file.load("../beside/e.yaml")
    found = [generator.name for generator in experiment.evaluation.generators]
    assert found == ["both.h5", "../beside/only.h5", "none.h5"]
    assert experiment.dataset.name == "../beside/images.npz"
    (beside / "e.yaml").write_text(text)
    assert experiment_file.load("../beside/e.yaml").dataset.name == "digits"


BY_LABELS = {
    "model": {"name": "conv_autoencoder", "latent_dim": {"choice": [2, 3]}},
    "sweep": {"metric": "ari"},
}


@pytest.mark.parametrize(
    ("sets", "line"),
    [
        (
            {"studies.gan.sweep": {"metric": "fid"}},
            "studies.gan.sweep.metric: fid needs a classifier .*; it has no labels",
        ),
        ({"studies": {"a": BY_LABELS}}, "studies.a.sweep.metric: ari needs labels, and the data set has none"),
        ({"studies": {"c": {"model": "classifier", "train": {"batch_size": 8}}}}, "c.model: classifier needs labels"),
        ({"evaluation.features": ["classifier"]}, "evaluation.features: classifier needs one of the data set"),
    ],
)
def test_what_unlabelled_data_cannot_do_is_refused(sets, line, tmp_path):
    images = np.zeros((40, 28, 28), np.uint8)
    np.savez(tmp_path / "plain.npz", x_train=images, x_test=images)
    searched = {"studies.gan.train.batch_size": {"choice": [8, 16]}} if "studies.gan.sweep" in sets else {}
    with pytest.raises(InputError, match=line):
        prepare(SHORTEST, tmp_path, {"dataset": str(tmp_path / "plain.npz"), **searched, **sets})


def test_clusters_of_as_many_images_are_no_objective(tmp_path):
    study = {"model": {"name": "conv_autoencoder", "latent_dim": {"choice": [2, 3]}}, "train": {"batch_size": 8}}
    sets = {"dataset": {"name": "digits", "limit": 100}, "studies": {"a": study}}
    with pytest.raises(
        InputError, match=r"a\.sweep\.metric: silhouette needs more .* than the 10 clusters, received 10"
    ):
        prepare(SHORTEST, tmp_path, {**sets, "studies.a.sweep": {"metric": "silhouette"}})
    prepare(SHORTEST, tmp_path, {**sets, "dataset.limit": 110, "studies.a.sweep": {"metric": "silhouette"}})


def test_the_objective_of_a_gan_is_fid_where_a_classifier_exists(tmp_path):
    searched = {"studies.gan.train.batch_size": {"choice": [8, 16]}, "studies.gan.sweep.trials": 2}
    assert prepare(SHORTEST, tmp_path, searched).studies["gan"].sweep.metric == "fid"
    images = np.zeros((40, 28, 28), np.uint8)
    np.savez(tmp_path / "plain.npz", x_train=images, x_test=images)
    unlabelled = {"dataset": str(tmp_path / "plain.npz"), **searched}
    assert prepare(SHORTEST, tmp_path, unlabelled).studies["gan"].sweep.metric == "frechet_pixels"


def test_a_score_that_ranks_nothing_is_no_objective(tmp_path):
    searched = {"studies.gan.train.batch_size": {"choice": [8, 16]}, "studies.gan.sweep.metric": "authpct"}
    with pytest.raises(
        InputError, match=r"sweep.metric: authpct is no objective of this model; choose from .*fid.*precision"
    ):
        prepare(SHORTEST, tmp_path, searched)
