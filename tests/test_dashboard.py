"""A live Ray dashboard with our page, jobs, and metrics, seen by Chromium and by Prometheus as a user sees them."""

import contextlib
import dataclasses
import json
import os
import re
import shlex
import shutil
import signal
import socket
import socketserver
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from heads import free_port, running_head, wait_until

import raymnist
from raymnist import jobs
from raymnist.dashboard import hook

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parent.parent
PICTURES = os.environ.get("RAYMNIST_PICTURES")  # a folder that keeps the pictures, to look at
EXPERIMENT = """
name: watched
dataset: {name: digits, limit: 300}
studies:
  autoencoder:
    model: {name: conv_autoencoder, latent_dim: {choice: [4, 8]}, filters: 4}
    train: {epochs: 10, batch_size: 32, learning_rate: {loguniform: [1e-3, 1e-2]}}
    sweep: {trials: 2}
  gan:
    model: {name: conv_gan, latent_dim: {choice: [4, 8]}, generator_filters: 4, discriminator_filters: 4}
    train: {epochs: 60, batch_size: 32, learning_rate: {loguniform: [1e-3, 1e-2]}}
    sweep: {trials: 4, every: 2, images: 100}
evaluation:
  images: 60
  scored_images: 100
  reducers: [none, {pca: {dims: 3}}]
"""
BOARD = json.loads((ROOT / "deploy" / "grafana" / "raymnist.json").read_text())


def queries():
    """List the board's queries, for all experiments and studies, by their panels' titles."""
    return {
        panel["title"]: re.sub(r"\$(experiment|study)", ".+", target["expr"])
        for panel in BOARD["panels"]
        for target in panel["targets"]
    }


@contextlib.contextmanager
def prometheus(head, place):
    """Debian's Prometheus, which finds the head's metrics by the file that Ray writes for it; yields how to ask it."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("there is no prometheus here")
    found = f"{head.temporary}/prom_metrics_service_discovery.json"
    scrape = {"job_name": "ray", "scrape_interval": "2s", "file_sd_configs": [{"files": [found]}]}
    (place / "prometheus.yml").write_text(yaml.safe_dump({"scrape_configs": [scrape]}))
    port = free_port()
    words = [program, f"--config.file={place / 'prometheus.yml'}", f"--storage.tsdb.path={place / 'tsdb'}",
             f"--web.listen-address=127.0.0.1:{port}"]  # fmt: skip
    with (place / "prometheus.log").open("w") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log)

    def ask(query):
        url = f"http://127.0.0.1:{port}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)["data"]["result"]

    def is_ready():
        with contextlib.suppress(OSError):
            return urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=5).status == 200

    try:
        wait_until(is_ready, 30, "prometheus")
        yield ask
    finally:
        process.terminate()
        process.wait(30)


@contextlib.contextmanager
def chromium():
    """A window of Debian's Chromium."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium")
    if program is None:
        pytest.skip("there is no chromium here")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser.new_page(viewport={"width": 1500, "height": 900})
        browser.close()


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    place = tmp_path_factory.mktemp("head")
    (place / "watched.yaml").write_text(EXPERIMENT)
    with running_head(place) as found:
        yield found


@pytest.fixture(scope="module")
def watched(head, tmp_path_factory):
    """An experiment that runs as a job, and what Chromium and Prometheus saw of it meanwhile."""
    place = tmp_path_factory.mktemp("watched")
    pictures = Path(PICTURES) if PICTURES else place
    pictures.mkdir(exist_ok=True)
    answers, text = [], {}
    with (
        head.command("submit", "watched.yaml", "--head", head.url) as job,
        prometheus(head, place) as ask,
        chromium() as window,
    ):
        trains = r'gan-00</td>\s*<td class="">training'
        wait_until(
            lambda: re.search(trains, head.get("/raymnist", head.token)[1]), 120, "a GAN that trains, on the page"
        )
        text["refused"] = window.goto(f"{head.url}/raymnist").status, window.inner_text("body")
        window.goto(head.url)
        window.get_by_placeholder("Enter your authentication token").fill(head.token)
        window.get_by_role("button", name="Submit").click()
        window.get_by_placeholder("Enter your authentication token").wait_for(state="detached")
        for name, path, sign in (
            ("raymnist", "/raymnist", "gan-00"),
            ("jobs", "/#/jobs", "RUNNING"),
            ("actors", "/#/actors", "StudyTrainable(study=gan"),
        ):
            window.goto(head.url + path)
            window.wait_for_function("sign => document.body.innerText.includes(sign)", arg=sign)
            text[name] = window.inner_text("body")
            window.screenshot(path=pictures / f"{name}.png", full_page=True)
        while job.poll() is None:
            answers.append({title: ask(query) for title, query in queries().items()})
            time.sleep(0.5)  # a query for each scrape or two
        window.goto(f"{head.url}/raymnist")
        text["ended"] = window.inner_text("body")
        window.screenshot(path=pictures / "ended.png", full_page=True)
        window.get_by_role("link", name="report").click()
        window.get_by_role("heading", name="watched").wait_for()
        text["report"] = window.inner_text("body")
        text["reports_cookies"] = window.evaluate(
            "(() => { try { return document.cookie } catch { return 'none' } })()"
        )
        log = job.stdout.read()
    return SimpleNamespace(status=job.returncode, log=log, answers=answers, text=text, results=head.results / "watched")


def test_the_page_shows_nothing_without_the_token(head, watched):
    assert watched.text["refused"] == (401, "Unauthorized: Missing authentication token")
    assert head.get("/raymnist", "0" * 64)[0] == 403
    for path in ("/raymnist", "/raymnist/watched/report.html"):
        assert head.get(path)[0] == 401
        assert "watched" not in head.get(path)[1]


def test_the_page_shows_the_trials_of_a_running_experiment(watched):
    lines = watched.text["raymnist"].splitlines()
    assert "watched running" in watched.text["raymnist"]
    assert any(line.startswith("autoencoder-00\tfinished\t10 of 10") for line in lines), lines
    assert any(re.match(r"gan-00\t(training|waiting|finished)\t\d+ of 60", line) for line in lines), lines
    assert "Leaderboard" in watched.text["raymnist"]  # of the study that has ended


def test_the_page_of_an_ended_experiment_has_its_leaderboard_and_serves_its_report(head, watched):
    results = raymnist.open(watched.results)
    assert "watched complete" in watched.text["ended"]
    best = results.leaderboard.set_index("study")["best"]
    for study in ("autoencoder", "gan"):
        assert re.search(rf"^{study}\s+{best[study]}\s", watched.text["ended"], re.MULTILINE)
    assert "Leaderboard" in watched.text["report"]
    assert watched.text["reports_cookies"] == "none"  # a report's scripts have no part in its reader's access
    assert head.get("/raymnist/watched/report.html", head.token)[1] == results.folder.report.read_text()
    for other in ("/raymnist/other/report.html", "/raymnist/../watched/report.html", "/raymnist/%2e%2e/report.html"):
        assert head.get(other, head.token)[0] == 404


def test_actors_and_jobs_carry_names_that_people_know(head, watched):
    assert "StudyTrainable(study=gan" in watched.text["actors"]
    assert "with_parameters" not in watched.text["actors"]
    assert "python -m raymnist run watched.yaml" in watched.text["jobs"]
    (job,) = [job for job in json.loads(head.get("/api/jobs/", head.token)[1]) if job["submission_id"]]
    assert job["metadata"]["experiment"] == "watched"
    assert job["metadata"]["studies"] == "autoencoder, gan"
    assert job["metadata"]["git_commit"] == raymnist.open(watched.results).manifest["git_commit"]
    named = json.loads(head.get("/api/v0/tasks?limit=10000&detail=true", head.token)[1])["data"]["result"]["result"]
    names = {task["name"] for task in named}
    assert {"points.read_lists", "scores.score"} <= names, names
    actors = json.loads(head.get("/api/v0/actors?detail=true", head.token)[1])["data"]["result"]["result"]
    assert {"StudyTrainable", "MapWorker(MapBatches(Embed))"} <= {actor["class_name"] for actor in actors}


def test_a_jobs_log_ends_with_the_table_and_the_leaderboard(watched):
    assert watched.status == 0, watched.log
    table, board = watched.log.index("watched: results table"), watched.log.rindex("best trial")
    assert watched.log.index("gan-03 finished") < table < board
    assert watched.log.splitlines()[-1] == f"this machine shares them: raymnist show {watched.results}"


def test_every_query_of_the_grafana_board_has_an_answer_from_prometheus(watched):
    for title in queries():
        assert any(answer[title] for answer in watched.answers), title


def test_prometheus_has_what_the_results_folder_has_as_long_as_the_run_lasts(watched):
    last = watched.answers[-1]
    stages = {(one["metric"]["experiment"], one["metric"]["stage"]): float(one["value"][1]) for one in last["Stages"]}
    assert stages[("watched", "gan")] == stages[("watched", "autoencoder")] == 1
    assert {stage for _, stage in stages} >= {"autoencoder", "gan", "points"}
    seen = {one["metric"]["stage"] for answer in watched.answers for one in answer["Stages"]}
    assert seen == {"autoencoder", "gan", "points", "coordinates", "scores"}
    history = raymnist.open(watched.results).history
    ended = history.groupby("trial_id").last()
    epochs = {one["metric"]["trial"]: float(one["value"][1]) for one in last["Epochs"]}
    assert epochs == ended["epoch"].to_dict()  # those of trials that ended long ago too
    losses = {(one["metric"]["trial"], one["metric"]["loss"]): float(one["value"][1]) for one in last["Losses"]}
    assert losses[("gan-01", "generator_loss")] == pytest.approx(ended.loc["gan-01", "generator_loss"])
    scores = {(one["metric"]["trial"], one["metric"]["score"]): float(one["value"][1]) for one in last["Scores"]}
    assert scores[("gan-02", "fid")] == pytest.approx(ended.loc["gan-02", "fid"])
    trials = {(one["metric"]["study"], one["metric"]["status"]): float(one["value"][1])
              for one in last["Trials by status"]}  # fmt: skip
    assert (trials[("gan", "finished")], trials[("gan", "running")], trials[("gan", "failed")]) == (4, 0, 0)
    # Nothing that was seen went away while the run lasted; a scrape may have come late.
    seen = {(one["metric"]["trial"], one["metric"]["loss"]) for answer in watched.answers for one in answer["Losses"]}
    assert seen == losses.keys()


def test_the_command_says_where_the_dashboard_is(head):
    status, said = head.said("dashboard", "--head", head.url)
    assert status == 0
    assert f"{head.url}/raymnist" in said
    assert "ray get-auth-token" in said
    assert "ssh -N -L 8265:127.0.0.1:8265" in said
    status, said = head.said("dashboard", "--head", "http://127.0.0.1:9")
    assert status == 1
    assert said.startswith("no way into a Ray dashboard: --head http://127.0.0.1:9: expected the head of a Ray cluster")
    assert "raymnist dashboard RESULTS" in said


def test_a_job_can_be_left_and_come_back_to(head, watched):
    """The experiment is complete, so that its job ends at once; RAY_ADDRESS names another head, which is not asked."""
    status, said = head.said("submit", "watched.yaml", "--head", head.url, "--detach", RAY_ADDRESS="http://127.0.0.1:9")
    assert status == 0, said
    job = re.search(rf"^come back with: raymnist submit --job (watched-\w+) --head {head.url}$", said, re.MULTILINE)[1]
    for _ in range(2):
        status, said = head.said("submit", "--job", job, "--head", head.url)
        assert status == 0, said
        assert "watched is complete in" in said
        assert said.endswith(f"results lie in {watched.results} on {os.uname().nodename}\n"
                             f"this machine shares them: raymnist show {watched.results}\n")  # fmt: skip
    status, said = head.said("submit", "--job", "nobody", "--head", head.url)
    assert status == 2
    assert re.match(rf"raymnist: --job nobody: expected one of .*{job}", said)


def test_a_job_goes_on_when_who_follows_it_leaves(head):
    sets = ["--set", "name=left", "--set", "studies.gan.train.epochs=5000"]
    with head.command("submit", "watched.yaml", *sets, "--head", head.url) as process:
        for line in process.stdout:
            if line.startswith("gan: training"):
                break
        process.send_signal(signal.SIGINT)
        said = process.stdout.read()
        assert process.wait(30) == 130
    line = rf"^the job goes on\ncome back with: raymnist submit --job (left-\w+) --head {head.url}$"
    job = re.search(line, said, re.MULTILINE)[1]
    assert json.loads(head.get(f"/api/jobs/{job}", head.token)[1])["status"] == "RUNNING"
    stop = re.search(r"^or end it with: (RAY_AUTH_MODE=token ray job stop .*)$", said, re.MULTILINE)[1]
    plain = {name: value for name, value in head.env.items() if name != "RAY_AUTH_MODE"}
    subprocess.run(stop, shell=True, env=plain, check=True, capture_output=True)
    ended = r'<h2>left</h2> <span class="status interrupted">interrupted</span>'
    page = wait_until(lambda: re.search(ended, found := head.get("/raymnist", head.token)[1]) and found, 60, "its end")
    assert ">training<" not in page
    status, said = head.said("submit", "--job", job, "--head", head.url)
    assert status == 1
    assert said.endswith("the job ended: it was stopped; submitted again, it goes on with what is there\n")


def passed_on(source, target):
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def frail_way_to(url):
    """An address by which a server is reached, and how to cut all connections by it."""
    ends = []

    class Way(socketserver.BaseRequestHandler):
        def handle(self):
            parts = urllib.parse.urlsplit(url)
            with socket.create_connection((parts.hostname, parts.port)) as far:
                ends.extend((self.request, far))
                back = threading.Thread(target=passed_on, args=(far, self.request))
                back.start()
                passed_on(self.request, far)
                back.join()

    def cut():
        while ends:
            with contextlib.suppress(OSError):  # it has ended
                ends.pop().shutdown(socket.SHUT_RDWR)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Way) as way:
        threading.Thread(target=way.serve_forever).start()
        yield f"http://127.0.0.1:{way.server_address[1]}", cut
        cut()
        way.shutdown()


def test_a_log_is_followed_through_connections_that_break(head, monkeypatch):
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", head.env["RAY_AUTH_TOKEN_PATH"])
    program = "import time\nfor n in range(30):\n    print('line', n, flush=True)\n    time.sleep(0.2)"
    said, cuts = [], [4, 12, 20]

    def say(text):
        said.append(text)
        if cuts and f"line {cuts[0]}\n" in "".join(said):
            cuts.pop(0)
            cut()

    with frail_way_to(head.url) as (url, cut):
        there = jobs.Head(url)
        ending = there.follow(there.client.submit_job(entrypoint=shlex.join(["python", "-c", program])), say)
    assert not cuts
    assert (ending.status, ending.reason) == (0, "")
    assert ending.log == "".join(said)
    assert ending.log.splitlines()[-30:] == [f"line {n}" for n in range(30)]
    assert ending.log.count("line 0\n") == 1


def test_a_failed_job_gives_its_status_and_line(head, watched):
    status, said = head.said("submit", "watched.yaml", "--set", "seed=7", "--head", head.url)
    assert status == 2
    assert re.search(r"^raymnist: .*/results/watched: seed changed: 0 -> 7; use --fresh$", said, re.MULTILINE)


def test_without_the_token_no_job_is_taken(head, tmp_path):
    (tmp_path / "wrong").write_text("0" * 64)
    for file, line in (("none", "found none in"), ("wrong", "received one that it refuses from")):
        path = tmp_path / file
        status, said = head.said("submit", "watched.yaml", "--head", head.url, RAY_AUTH_TOKEN_PATH=str(path))
        assert status == 2
        assert f"expected the cluster's token, {line} {path}, which $RAY_AUTH_TOKEN_PATH names\n" in said


@contextlib.contextmanager
def shown(head, results, **env):
    """`raymnist dashboard RESULTS`, which is ended by Ctrl-C; yields its first lines."""
    with head.command("dashboard", results, **env) as process:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "Ctrl-C" in line:
                try:
                    yield "".join(lines)
                finally:
                    process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, lines


def test_a_folder_is_shown_until_ctrl_c(head, watched):
    place = {"RAY_TMPDIR": head.temporary}  # of a Ray that is started here
    with shown(head, watched.results, **place) as said:
        url = re.search(r"^Ray dashboard: (http://\S+)/raymnist$", said, re.MULTILINE)[1]
        other = dataclasses.replace(head, url=url)
        assert "watched" in other.get("/raymnist", head.token)[1]
        assert other.get("/raymnist")[0] == 401
        assert other.get("/raymnist/watched/report.html", head.token)[0] == 200
    assert other.get("/raymnist", head.token)[0] == 0
    status, said = head.said("dashboard", "/nothing")
    assert (status, said) == (2, "raymnist: /nothing: expected a results folder, or a folder with such inside\n")


def test_a_ray_that_has_no_place_for_the_page_goes_without(head, watched, tmp_path):
    """As seen by a dashboard in whose process our module cannot be loaded."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['raymnist.dashboard.page'] = None\n")
    given = {"PYTHONPATH": str(tmp_path), "RAY_TMPDIR": head.temporary}
    sets = ["--set", "name=without", "--set", "studies={autoencoder: {model: conv_autoencoder, train: {epochs: 1}}}"]
    words = ["run", "watched.yaml", *sets, "--set", "evaluation=null", "--dashboard"]
    status, said = head.said(*words, **given)
    assert status == 0, said
    warnings = [line for line in said.splitlines() if "warning" in line]
    assert len(warnings) == 1, said
    assert re.match(
        r"warning: --dashboard: the Ray dashboard at \S+ has no raymnist page: this Ray has no", warnings[0]
    )


def test_a_ray_whose_processes_start_otherwise_is_left_as_it_is(monkeypatch, caplog, tmp_path):
    from ray._private import services

    monkeypatch.delattr(services, "start_ray_process")
    with hook.page_in_dashboard(tmp_path):
        assert not hasattr(services, "start_ray_process")
    (warning,) = caplog.messages
    assert warning.startswith("the Ray dashboard goes without the raymnist page, as this Ray has no place for it: ")
