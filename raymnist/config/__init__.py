"""The experiment file: typed, frozen, refused as a whole when any part of it is wrong.

What each model, reducer and clusterer accepts is declared beside its code; `pipeline.prepare` asks them. Here stands
what all experiments share.
"""

from raymnist.config.evaluation import Evaluation, Generator, Part
from raymnist.config.experiment import Dataset, Experiment
from raymnist.config.studies import ASHA, FIFO, PBT, SCORED, Resources, Samples, Study, Sweep, Train, TrialConfig

__all__ = [
    "ASHA",
    "FIFO",
    "PBT",
    "SCORED",
    "Dataset",
    "Evaluation",
    "Experiment",
    "Generator",
    "Part",
    "Resources",
    "Samples",
    "Study",
    "Sweep",
    "Train",
    "TrialConfig",
]
