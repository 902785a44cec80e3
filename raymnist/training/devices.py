"""The share of a machine that a worker may use, set once before TensorFlow's first operation."""

from __future__ import annotations

import math

import tensorflow as tf


def claim(cpus: float, gpus: float) -> None:
    """Limit this process to `cpus` threads, and to the GPU it was given, or to none.

    TensorFlow sizes its pools by the machine, ignores OMP_NUM_THREADS and takes a whole card: two trials would fight
    over both. Without GPUs it must not see any, as Ray hides none from such a worker.
    """
    threads = max(1, math.ceil(cpus))
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    if not gpus:
        tf.config.set_visible_devices([], "GPU")
    for card in tf.config.get_visible_devices("GPU"):
        tf.config.experimental.set_memory_growth(card, True)
