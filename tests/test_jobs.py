"""What a job takes with it, and what is said where there is no cluster to take it."""

import contextlib
import http.server
import json
import re
import subprocess
import sys
import threading

import numpy as np
import pytest
import ray
from heads import free_port

from raymnist import experiment_file, jobs, provenance, shipping
from raymnist.errors import InputError


@contextlib.contextmanager
def server(status, text):
    """A server on the loopback that answers everything so."""

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as found:
        threading.Thread(target=found.serve_forever).start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()


@pytest.fixture
def no_token(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("status", "text", "line"),
    [
        (200, json.dumps({"ray_version": "2.9.3"}), f"expected Ray {ray.__version__}, as here, found 2.9.3"),
        (200, "<html>a page</html>", r"expected the head of a Ray cluster, found another server \(status 200\)"),
        (404, "{}", r"found another server \(status 404\)"),
        (401, "", "expected the cluster's token, found none in .*/none, which \\$RAY_AUTH_TOKEN_PATH names"),
    ],
)
def test_who_is_no_head_is_told_in_one_line(status, text, line, no_token):
    with server(status, text) as url, pytest.raises(InputError, match=f"--head {url}: .*{line}"):
        jobs.Head(url)


def test_a_wrong_token_is_told_with_where_it_came_from(tmp_path, monkeypatch):
    (tmp_path / "token").write_text("wrong")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    with (
        server(403, "") as url,
        pytest.raises(InputError, match=r"received one that it refuses from .*/token, which"),
    ):
        jobs.Head(url)


def test_an_unreachable_head_is_told_in_one_line(command, no_token):
    head = f"127.0.0.1:{free_port()}"
    status, _, said = command("submit", "quickstart", "--head", head)
    assert status == 2
    assert said == (
        f"raymnist: --head http://{head}: expected the head of a Ray cluster, by the address of its dashboard, found "
        "nobody; is there a tunnel to it, or a firewall between?\n"
    )


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "submit: expected an experiment, or --job ID to come back to one"),
        (["quickstart", "--job", "a"], "--job: expected nothing but --head beside it, as the job has begun"),
        (["--job", "a", "--detach"], "--job: expected nothing but --head beside it, as the job has begun"),
        (
            ["quickstart", "--head", "ray://127.0.0.1:10001"],
            "--head ray://127.0.0.1:10001: expected the address of the",
        ),
        (
            ["quickstart", "--head", "auto"],
            "--head auto: expected the address of the head's dashboard, such as http://",
        ),
        (
            ["quickstart", "--head", "http://head:x"],
            "--head http://head:x: expected the address of the head's dashboard",
        ),
        (["quickstart", "--head", "http://[::1"], "--head http://[::1: expected the address of the head's dashboard"),
        (["quickstart", "--set", "evaluation.reducers=[pcx]"], "quickstart: evaluation.reducers: "),
        (["quickstart", "--results", "results"], "--results results: expected the full path of a folder that the"),
        (["quickstart", "--fresh", "gam"], "--fresh: unknown study 'gam'; choose from autoencoder, gan"),
        (["quickstart", "--set", "studies.gan.train.epohcs=1"], "quickstart: studies.gan.train: unknown key 'epohcs'"),
        (["quickstart", "--set", "dataset=no.npz"], "quickstart: dataset no.npz: expected an .npz file, found none"),
        (
            ["quickstart", "--set", "evaluation.generators=[no.h5]"],
            "quickstart: evaluation.generators: no.h5: expected a file ",
        ),
        (["quickstart", "gan"], "gan: a study is named after --fresh only"),
        (["nothing.yaml"], "nothing.yaml: expected an experiment file, found none"),
        (["quickstart", "--set", "seed=x"], "quickstart: seed: "),
    ],
)
def test_wrong_input_is_told_before_anybody_is_asked(words, line, command):
    status, _, said = command("submit", *words)
    assert status == 2
    assert said.startswith(f"raymnist: {line}")


def test_what_is_shipped_is_the_project_the_experiment_and_the_files_it_names(tmp_path):
    place, target = tmp_path / "here", tmp_path / "there"
    place.mkdir()
    target.mkdir()
    images, labels = np.zeros((30, 28, 28), np.uint8), np.arange(30) % 10
    np.savez(place / "data.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    (place / "shards").mkdir()
    np.savez(place / "shards" / "a.npz", images=images)
    (place / "own.yaml").write_text(
        "name: own\ndataset: data.npz\nstudies:\n  gan:\n    model: dense_gan\n"
        "evaluation:\n  generators: [gan, ./shards, small_generator.keras]\n"
    )
    generator = experiment_file.bundled()["quickstart"].parent / "small_generator.keras"
    (place / "small_generator.keras").write_bytes(generator.read_bytes())
    experiment = experiment_file.load(place / "own.yaml", {"studies.gan.train.epochs": 7})
    assert shipping.ship(experiment, str(place / "own.yaml"), target) == "own.yaml"
    program = (
        "import raymnist, json; from raymnist import experiment_file, provenance, datasets\n"
        "own = experiment_file.load('own.yaml')\n"
        "print(json.dumps([raymnist.__file__, provenance.git_commit(), own.studies['gan'].train['epochs'], "
        "len(datasets.load(own.dataset).test), [g.name for g in own.evaluation.generators], "
        "sorted(experiment_file.bundled())]))"
    )
    said = subprocess.run([sys.executable, "-c", program], cwd=target, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    file, commit, epochs, count, generators, bundled = json.loads(said.stdout)
    assert file == str(target / "raymnist" / "__init__.py")
    assert commit == provenance.git_commit()
    assert (epochs, count) == (7, 30)
    assert generators == ["gan", "files/1/shards", "files/2/small_generator.keras"]
    for shipped, original in (("0/data.npz", "data.npz"), ("1/shards/a.npz", "shards/a.npz"),
                              ("2/small_generator.keras", "small_generator.keras")):  # fmt: skip
        assert (target / "files" / shipped).read_bytes() == (place / original).read_bytes()
    assert "quickstart" in bundled
    assert not list(target.rglob("__pycache__"))


def test_full_paths_that_are_not_here_are_left_to_the_cluster(tmp_path):
    """As those of the folder that its nodes share are, seen from a laptop; other files must be here."""
    sets = {"dataset": "/shared-by-nodes/data.npz", "evaluation.generators": ["gan", "/shared-by-nodes/g.keras"]}
    experiment = experiment_file.load("quickstart", sets)
    shipping.check(experiment, "quickstart", [])
    shipping.ship(experiment, "quickstart", tmp_path)
    shipped = experiment_file.load(tmp_path / "quickstart.yaml")
    assert shipped.dataset.name == sets["dataset"]
    assert [chosen.name for chosen in shipped.evaluation.generators] == sets["evaluation.generators"]
    assert not (tmp_path / shipping.FILES).exists()


def test_a_job_says_at_its_end_where_the_results_lie_or_what_the_cluster_lacks():
    log = "results lie in /elsewhere on a-line-of-a-library\nresults lie in /shared/results/my run on head-1\n"
    ending = jobs.Ending(0, "", log)
    assert ending.results is not None
    assert tuple(map(str, ending.results)) == ("/shared/results/my run", "head-1")
    missing = "Traceback ...\nModuleNotFoundError: No module named 'tensorflow'\n"
    assert (jobs.Ending(1, "", missing).results, jobs.Ending(1, "", missing).lacks) == (None, "tensorflow")
    assert jobs.Ending(0, "", missing).lacks is None
    assert jobs.Ending(1, "", missing + log).lacks is None  # a logger's, say, and the run went on


@pytest.mark.parametrize(
    ("told", "status", "reason"),
    [
        (("SUCCEEDED", 0, "Job finished successfully."), 0, ""),
        (("FAILED", 2, "Job entrypoint command failed ...\nthe log again"), 2, ""),
        (
            ("FAILED", 137, "failed with exit code 137, last available logs"),
            1,
            r"its process was ended \(status 137\); .*",
        ),
        (("FAILED", None, "\nruntime_env setup failed: no space\nTraceback"), 1, "runtime_env setup failed: no space"),
        (("STOPPED", None, ""), 1, "it was stopped; submitted again, it goes on with what is there"),
    ],
)
def test_the_end_of_a_job_is_told_once_and_in_one_line(told, status, reason):
    ending = jobs.Ending.of(*told, log="")
    assert ending.status == status
    assert re.fullmatch(reason, ending.reason)


@pytest.mark.parametrize(
    ("given", "full"),
    [
        ("head", "http://head:8265"),
        ("head:80/", "http://head:80"),
        ("head:", "http://head:8265"),
        ("[::1]", "http://[::1]:8265"),
        ("http://[::1]:8265", "http://[::1]:8265"),
        ("https://rays.example/one", "https://rays.example/one"),
        ("http://head/ray", "http://head:8265/ray"),
    ],
)
def test_an_address_is_completed_by_the_scheme_and_port_of_dashboards(given, full):
    assert jobs._full(given) == full


def test_a_head_that_went_away_is_told_and_the_job_is_not_given_up(monkeypatch, no_token):
    monkeypatch.setattr(jobs, "TIMEOUT", 0.1)
    with server(200, json.dumps({"ray_version": ray.__version__})) as url:
        head = jobs.Head(url)
    with pytest.raises(jobs.HeadLost, match=f"{url} does not answer any more; .* the job mine-1 goes on"):
        head.follow("mine-1", print)
