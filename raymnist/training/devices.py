"""The share of a machine that a worker may use, set once before TensorFlow's first operation."""

from __future__ import annotations

import math
import os
import subprocess

import tensorflow as tf

from raymnist.models import networks

CONTEXT = 600  # MB of a card that CUDA's context takes in each process, beside TensorFlow's memory
ON_GPU = 16 * networks.CHUNK  # images: some 400 MB of the widest convolution's output


def claim(cpus: float, gpus: float) -> None:
    """Limit this process to `cpus` threads, and to the GPU it was given, its share of one, or none.

    TensorFlow sizes its pools by the machine, ignores OMP_NUM_THREADS and takes a whole card: two trials would fight
    over both. Without GPUs it must not see any, as Ray hides none from such a worker. Cards are counted by their slots,
    as the driver and Ray count them; CUDA would count from the fastest.
    """
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    threads = max(1, math.ceil(cpus))
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    if not gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
        tf.config.set_visible_devices([], "GPU")
    for card in tf.config.get_visible_devices("GPU"):
        if gpus < 1:
            limit = tf.config.LogicalDeviceConfiguration(memory_limit=memory_limit(gpus, card_memory()))
            tf.config.set_logical_device_configuration(card, [limit])
        else:
            tf.config.experimental.set_memory_growth(card, True)


def inference_batch() -> int:
    """Choose how many images a network is sent at once: what a GPU has room for, or a processor's cache."""
    return ON_GPU if tf.config.get_visible_devices("GPU") else networks.CHUNK


def memory_limit(share: float, total: int) -> int:
    """Count the MB that a process with a share of a card of `total` MB may take, so that all the shares fit on it.

    Raises ValueError where CUDA's own part leaves nothing.
    """
    limit = int(share * total) - CONTEXT
    if limit <= 0:
        raise ValueError(
            f"gpus: {share:g} of a card of {total} MB leaves nothing beside the {CONTEXT} MB of CUDA's own"
        )
    return limit


def card_memory() -> int:
    """Ask the driver for the memory of the card that this process was given, in MB."""
    card = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    words = ["nvidia-smi", f"--id={card}", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
