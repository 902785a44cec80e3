"""The experiment file: typed, frozen, refused as a whole when any part of it is wrong.

What each model, reducer and clusterer accepts is declared beside its code; `pipeline.prepare` asks them. Here stands
what all experiments share.
"""

from raymnist.config.evaluation import Chain, Evaluation, Generator, Part
from raymnist.config.experiment import Checkpoints, Dataset, Experiment
from raymnist.config.resources import Resources
from raymnist.config.studies import Samples, Study, Train, TrialConfig
from raymnist.config.sweeps import ASHA, FIFO, PBT, SCORED, Confirm, MedianStopping, Stopping, Sweep

__all__ = [
    "ASHA",
    "FIFO",
    "PBT",
    "SCORED",
    "Chain",
    "Checkpoints",
    "Confirm",
    "Dataset",
    "Evaluation",
    "Experiment",
    "Generator",
    "MedianStopping",
    "Part",
    "Resources",
    "Samples",
    "Stopping",
    "Study",
    "Sweep",
    "Train",
    "TrialConfig",
]
