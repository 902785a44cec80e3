"""TensorBoard's event files, with each trial's settings for its HParams page."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raymnist import folder
from raymnist.folder import Folder
from raymnist.sweep.outcome import Outcome

if TYPE_CHECKING:
    from tensorboardX.event_file_writer import EventsWriter


class TensorBoard:
    """Writes `tensorboard/STUDY/TRIAL` in the results folder; `tensorboard --logdir` shows it.

    A trial that goes on in another run is written anew from its history.
    """

    PACKAGE = "tensorboardX"

    def __init__(self, experiment: str, results: Folder):
        """The experiment's name is the results folder's."""
        self.path = results.path / "tensorboard"
        self.writers: dict[str, EventsWriter] = {}
        self.epochs: dict[str, int] = {}

    def log(self, outcome: Outcome) -> None:
        """Add the epochs that are not there yet, and the end."""
        from tensorboardX.summary import scalar

        trial_id = outcome.trial.trial_id
        place = self.path / outcome.trial.study / trial_id
        ended = place / "ended.json"
        if trial_id not in self.writers:
            if folder.read_json(ended) == outcome.key:
                return
            self._begin(outcome, place)
        writer = self.writers[trial_id]
        for row in outcome.history[self.epochs[trial_id] :]:
            for name, value in row.items():
                if isinstance(value, float):
                    _add(writer, scalar(name, value), row["epoch"])
        self.epochs[trial_id] = len(outcome.history)
        if outcome.is_ended:
            _add(writer, _settings(outcome)[1])
            self.writers.pop(trial_id).close()
            folder.write_json(ended, outcome.key)
        else:
            writer.flush()

    def _begin(self, outcome: Outcome, place: Path) -> None:
        # Not tensorboardX's SummaryWriter: its `flush` leaves events in a queue, which a killed run would lose.
        from tensorboardX.event_file_writer import EventsWriter

        if place.is_dir():
            shutil.rmtree(place)
        place.mkdir(parents=True)
        trial_id = outcome.trial.trial_id
        self.writers[trial_id], self.epochs[trial_id] = EventsWriter(str(place / "events")), 0
        _add(self.writers[trial_id], _settings(outcome)[0])

    def close(self) -> None:
        """Write what is not written yet."""
        for writer in self.writers.values():
            writer.close()


def _settings(outcome: Outcome) -> tuple[Any, Any]:
    """Make the records of the HParams page for a trial's beginning and its end."""
    from tensorboardX.summary import hparams

    settings = outcome.trial.searched | {"seed": outcome.trial.seed}
    shown = {name: value if isinstance(value, bool | int | float) else str(value) for name, value in settings.items()}
    _, start, end = hparams(shown, {})  # the first says which columns there are, which TensorBoard finds out itself
    return start, end


def _add(writer: EventsWriter, summary: Any, step: int = 0) -> None:
    from tensorboardX.proto.event_pb2 import Event

    writer.write_event(Event(wall_time=time.time(), step=step, summary=summary))
