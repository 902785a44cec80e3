"""Reading a results folder: tables, trials and their networks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from raymnist import experiment_file, folder, tables
from raymnist.config import Experiment, TrialConfig
from raymnist.datasets import Pixels
from raymnist.errors import InputError, choices
from raymnist.folder import Folder
from raymnist.metrics import is_supervised
from raymnist.models import MODELS, networks, saved

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Trial:
    """A trained configuration.

    config: what it was trained with. history: a row per epoch. scores: its rows of the results table, a generator's
        of its fakes, an encoder's of the real images.
    """

    config: TrialConfig
    path: Path
    history: pd.DataFrame
    scores: pd.DataFrame

    @cached_property
    def model(self) -> keras.Model:
        """The network of its best epoch: a generator, or an autoencoder with the layers `encoder` and `decoder`."""
        return saved.load(self.path / "model.keras")

    @property
    def kind(self) -> str:
        """`generator` or `autoencoder`."""
        return MODELS[self.config.model["name"]].kind

    def generate(self, count: int, seed: int = 0) -> Pixels:
        """Make `count` fakes, uint8 [count, H, W, C]; raises InputError for an autoencoder."""
        if self.kind != "generator":
            raise InputError(f"{self.config.trial_id}: expected a generator, received an {self.kind}")
        return networks.generate(self.model, count, seed)

    def reconstruct(self, images: Pixels) -> Pixels:
        """Send images, uint8 [n, H, W, C], through the code and back; raises InputError for a generator."""
        if self.kind != "autoencoder":
            raise InputError(f"{self.config.trial_id}: expected an autoencoder, received a {self.kind}")
        return networks.reconstruct(self.model, images)


class Results:
    """A results folder, read when asked."""

    def __init__(self, path: str | Path):
        """Raises InputError where there are no results."""
        self.folder = Folder(Path(path))
        if not self.folder.experiment.is_file():
            raise InputError(f"{path}: expected a results folder with experiment.yaml, found none")

    @cached_property
    def experiment(self) -> Experiment:
        """The resolved experiment."""
        return experiment_file.load(self.folder.experiment)

    @cached_property
    def classes(self) -> pd.DataFrame:
        """How often each class is among each generator's fakes, as the classifier sees them, and among real images."""
        return _read_csv(self.folder.classes)

    @property
    def manifest(self) -> dict[str, Any]:
        """Status, versions, seconds per stage, failures."""
        return self.folder.manifest

    @cached_property
    def trials(self) -> pd.DataFrame:
        """A row per trial."""
        return _read_csv(self.folder.trials)

    @cached_property
    def history(self) -> pd.DataFrame:
        """A row per trial and epoch."""
        return _read_csv(self.folder.history)

    @cached_property
    def table(self) -> pd.DataFrame:
        """The results table."""
        return _read_csv(self.folder.table)

    @cached_property
    def averaged(self) -> set[str]:
        """The confirmations that take part in the means of the leaderboard alone, beside the best that figures show."""
        found: set[str] = set()
        for study in self.experiment.studies:
            chosen = folder.read_json(self.folder.study(study) / "best.json") or {"runs": [], "trial_id": ""}
            found |= set(chosen["runs"]) - {chosen["trial_id"]}
        return found

    @cached_property
    def candidates(self) -> pd.DataFrame:
        """List the reducers and clusterers among which `evaluation.choose_by` chose, the chosen one first.

        Columns as in `tables.candidates`. Empty where nothing was to choose.
        """
        evaluation = self.experiment.evaluation
        if evaluation is None or evaluation.choose_by is None or self.table.empty:
            return pd.DataFrame()
        return tables.candidates(self.table, evaluation.choose_by)

    def pareto_front(self, study: str) -> pd.DataFrame:
        """List the trials of a study with several objectives that no other beats in all, the best by the first ahead.

        Columns: trial_id, settings, and each objective at the trial's best epoch by the first. Empty for one objective.
        """
        sweep = self.experiment.studies[study].sweep
        metrics = sweep.metrics if sweep else []
        chosen = folder.read_json(self.folder.study(study) / "best.json") or {"pareto_front": []}
        rows = self.trials.set_index("trial_id").loc[chosen["pareto_front"]] if chosen["pareto_front"] else None
        lines = [
            {
                "trial_id": trial_id,
                "settings": _settings({name: row[name] for name in chosen["searched"]}),
                **{name: row[f"best_{name}"] for name in metrics},
            }
            for trial_id, row in (rows.iterrows() if rows is not None else ())
        ]
        return pd.DataFrame(lines, columns=["trial_id", "settings", *metrics])

    def best(self, study: str) -> Trial:
        """Open the best trial of a study; raises InputError for an unknown study or one without an ended trial."""
        if study not in self.experiment.studies:
            raise choices("study", study, self.experiment.studies)
        chosen = folder.read_json(self.folder.study(study) / "best.json")
        if chosen is None:
            raise InputError(f"{self.folder.path}: no trial of {study} has ended")
        return self.trial(study, chosen["trial_id"])

    def trial(self, study: str, trial_id: str) -> Trial:
        """Open a trial by its name; raises InputError for one that is not there."""
        path = self.folder.trial(study, trial_id)
        stored = folder.read_json(path / "config.json")
        if stored is None:
            raise InputError(f"{path}: expected a trial's folder, found none")
        stored.pop("key")
        scores = self.table
        if len(scores):
            encodes = (scores["encoder"] == trial_id) & (scores["population"] == "real")
            scores = scores[(scores["trial_id"] == trial_id) | encodes]
        return Trial(TrialConfig.model_validate(stored), path, _read_csv(path / "history.csv"), scores)

    @cached_property
    def leaderboard(self) -> pd.DataFrame:
        """A line per study's best and per saved generator, its scores on test images, and the floor's line.

        An empty cell is not known. Silhouette and the label scores are of the real images in this encoder's code, the
        others of this generator's fakes beside real images. Mixing is that of features as they are. The
        floor is what real images reach in the place of fakes: mixing of two halves, the other scores of a sample of
        the training images.

        A study with confirmations has a line per confirmed configuration, ranked by the mean of their objective over
        `n` seeds; the scores of the first are means too. `value_sd`, `fid_sd` and so on are standard deviations.
        `trials` are those of the search; `minutes` are spent on all.
        """
        lines = []
        for name in self.experiment.studies:
            lines += self._lines(name)
        evaluation = self.experiment.evaluation
        for generator in (evaluation.generators or []) if evaluation else []:
            if generator.is_file:
                line = {"study": generator.study, "best": generator.title, "settings": "", "objective": ""}
                lines.append(line | self._scores([generator.title]))
        if any("mixing" in line or "fid" in line for line in lines):
            line = {"study": "floor", "best": "real images", "settings": "", "objective": "", "scored_on": ""}
            lines.append(line | tables.floor_of(self.table))
        scores = [f"{name}{part}" for name in (*tables.CLUSTERED, *tables.COMPARED) for part in ("", "_sd")]
        first = ["study", "best", "settings", "objective", "value", "value_sd", "n", "epoch", "scored_on"]
        board = pd.DataFrame(lines, columns=[*first, *scores, "trials", "minutes"])
        board = board.astype({"value": float, "value_sd": float, "n": "Int64", "epoch": "Int64", "trials": "Int64"})
        unknown = [name for name in ("value_sd", *scores) if board[name].isna().all()]
        unknown += [] if board["scored_on"].any() else ["scored_on"]
        return board.drop(columns=unknown + (["n"] if "value_sd" in unknown else []))

    def _lines(self, study: str) -> list[dict[str, Any]]:
        """Write a study's lines of the leaderboard: each ranked configuration, the first with what it all took."""
        chosen = folder.read_json(self.folder.study(study) / "best.json")
        if chosen is None:
            return []
        lines: list[dict[str, Any]] = [
            {
                "study": study,
                "best": ranked["trial_id"],
                "settings": _settings(ranked["searched"]),
                "objective": chosen["metric"] + (" (supervised)" if is_supervised(chosen["metric"]) else ""),
                "value": ranked["mean"],
                "value_sd": ranked["sd"],
                "n": ranked["n"],
                "epoch": ranked["epoch"],
                "scored_on": "",
            }
            for ranked in chosen["ranking"]
        ]
        of_study = self.trials[self.trials["study"] == study]
        lines[0] |= self._scores(chosen["runs"])
        searched = of_study[of_study["confirms"] == ""] if "confirms" in of_study else of_study
        lines[0] |= {"trials": len(searched), "minutes": of_study["seconds"].sum() / 60}
        return lines

    def _scores(self, runs: list[str]) -> dict[str, Any]:
        criterion = self.experiment.evaluation.choose_by if self.experiment.evaluation else None
        said = tables.scored_on(self.table, runs, criterion)
        return {"scored_on": said, **tables.scores_of(self.table, runs, criterion)}

    def leaderboard_markdown(self) -> str:
        """Write the leaderboard as a Markdown table, and below it what its clusterings were chosen from."""
        board = tables.markdown(self.experiment.name, self.leaderboard)
        if self.candidates.empty:
            return board
        criterion = self.experiment.evaluation.choose_by if self.experiment.evaluation else ""
        title = f"{self.experiment.name}: clusterings of real codes by {criterion}, the chosen one first"
        return f"{board}\n{tables.markdown(title, self.candidates)}"


def _settings(searched: dict[str, Any]) -> str:
    return ", ".join(f"{key} {tables.short(value)}" for key, value in searched.items())


def _read_csv(path: Path) -> pd.DataFrame:
    if not path.is_file() or not path.read_text(encoding="utf-8").strip():
        return pd.DataFrame()
    names = ("study", "trial_id", "confirms", "pareto_front", "encoder", "features", "reducer", "clusterer", "metric",
             "classifier", "selection", "error", "hostname", "cuda_visible_devices")  # fmt: skip
    text = dict.fromkeys(names, str)
    frame = pd.read_csv(path, dtype=text, na_values=[""], keep_default_na=False)
    return frame.fillna(dict.fromkeys(set(text) & set(frame.columns), ""))
