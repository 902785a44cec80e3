"""Grids of images, as PNG files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from raymnist.datasets import Pixels


def mosaic(images: Pixels, columns: int = 10) -> Pixels:
    """Lay uint8 images [n, H, W, C] out in rows; returns uint8 [rows * H, columns * W, C], missing ones black."""
    height, width, channels = images.shape[1:]
    rows = -(-len(images) // columns)
    cells = np.zeros((rows * columns, height, width, channels), np.uint8)
    cells[: len(images)] = images
    table = cells.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    return table.reshape(rows * height, columns * width, channels)


def in_pairs(originals: Pixels, reconstructions: Pixels, columns: int = 10) -> Pixels:
    """Lay a row of originals above the row of their reconstructions, again and again; shapes as in `mosaic`."""
    rows = [
        part[start : start + columns]
        for start in range(0, len(originals), columns)
        for part in (originals, reconstructions)
    ]
    return np.concatenate([mosaic(row, columns) for row in rows])


def save_png(path: Path, picture: Pixels, scale: int = 2) -> None:
    """Write a uint8 picture [H, W, 1 or 3], each pixel a square of `scale`."""
    from matplotlib.image import imsave

    path.parent.mkdir(parents=True, exist_ok=True)
    enlarged = picture.repeat(scale, 0).repeat(scale, 1)
    imsave(path, np.broadcast_to(enlarged, (*enlarged.shape[:2], 3)), format="png")
