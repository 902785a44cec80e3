"""TensorBoard's event files, with each trial's settings for its HParams page."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from raymnist import folder
from raymnist.folder import Folder
from raymnist.sweep.outcome import Outcome

if TYPE_CHECKING:
    from tensorboardX.event_file_writer import EventsWriter


class TensorBoard:
    """Writes an event file into each trial's folder; `tensorboard --logdir results/NAME/studies` shows them.

    A trial that goes on in another run gets a new file, written from its history.
    """

    PACKAGE = "tensorboardX"

    def __init__(self, experiment: str, results: Folder):
        """The trials know their folders."""
        self.writers: dict[str, EventsWriter] = {}
        self.epochs: dict[str, int] = {}

    def log(self, outcome: Outcome) -> None:
        """Add the epochs that are not there yet, and the end."""
        from tensorboardX.summary import scalar

        trial_id, done = outcome.trial.trial_id, outcome.path / "tensorboard.json"
        if trial_id not in self.writers:
            if folder.read_json(done) == {"epochs": len(outcome.history)}:
                return
            self._begin(outcome)
        writer = self.writers[trial_id]
        for row in outcome.history[self.epochs[trial_id] :]:
            for name, value in row.items():
                if isinstance(value, float):
                    _add(writer, scalar(name, value), row["epoch"])
        self.epochs[trial_id] = len(outcome.history)
        if outcome.is_ended:
            _add(writer, _settings(outcome)[1])
            self.writers.pop(trial_id).close()
            folder.write_json(done, {"epochs": len(outcome.history)})
        else:
            writer.flush()

    def _begin(self, outcome: Outcome) -> None:
        # Not tensorboardX's SummaryWriter: its `flush` leaves events in a queue, which a killed run would lose.
        from tensorboardX.event_file_writer import EventsWriter

        for left in outcome.path.glob("events.*"):
            left.unlink()
        trial_id = outcome.trial.trial_id
        self.writers[trial_id], self.epochs[trial_id] = EventsWriter(str(outcome.path / "events")), 0
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
