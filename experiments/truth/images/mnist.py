"""MNIST, for those who have its files: 70,000 handwritten digits of 28 x 28 grey levels.

Nothing is downloaded. Without the files, :mod:`experiments.truth.images.glyphs` makes up digits of the same
size, scale and shapes of tensors.

Source: LeCun, Bottou, Bengio and Haffner (1998), Gradient-based learning applied to document
recognition; the four files and their format are described at http://yann.lecun.com/exdb/mnist/.
"""

from __future__ import annotations

import gzip
import math
import os
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from experiments.truth.law import Labelled

VARIABLE = "MNIST_PATH"
LEVELS = 255
# The third byte of an idx file: unsigned bytes. No other type occurs in these files.
UNSIGNED_BYTE = 8


class Mnist(NamedTuple):
    """Training and test part: x, (rows, 784), float32 in [0, 1], row by row; y, (rows,), int64."""

    train: Labelled
    test: Labelled


def load(path: str | os.PathLike[str] | None = None) -> Mnist:
    """Read the four files from a folder, each plain or compressed by gzip.

    Parameters
    ----------
    path
        The folder that holds ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``,
        ``t10k-images-idx3-ubyte`` and ``t10k-labels-idx1-ubyte``, with or without ``.gz``; a dot for the
        dash before ``idx`` is taken too. By default, what the environment variable MNIST_PATH says.

    Returns
    -------
    Mnist
        ``train`` and ``test``; grey levels are whole numbers 0 .. 255 divided by 255.

    Raises
    ------
    ValueError
        If no folder is named, a file is missing, or a file is not what its name says.
    """
    path = path or os.environ.get(VARIABLE)
    if not path:
        raise ValueError(
            "path: expected the folder of the MNIST files, got none, and the environment variable "
            f"{VARIABLE} is not set. Nothing is downloaded here: get the four idx files once, or use the "
            "made-up digits of experiments.truth.images.glyphs"
        )
    folder = Path(path)
    return Mnist(_part(folder, "train"), _part(folder, "t10k"))


def _part(folder: Path, name: str) -> Labelled:
    images, labels = _file(folder, f"{name}-images-idx3-ubyte"), _file(folder, f"{name}-labels-idx1-ubyte")
    x, y = _read(images, dimensions=3), _read(labels, dimensions=1)
    if len(x) != len(y) or not len(y) or y.max() > 9:
        raise ValueError(
            f"path: expected as many labels 0 .. 9 as images, at least one, got {len(y)} labels in {labels} "
            f"for {len(x)} images in {images}"
        )
    return Labelled(x.flatten(1).float() / LEVELS, y.long())


def _file(folder: Path, name: str) -> Path:
    names = [spelled + end for spelled in (name, name.replace("-idx", ".idx")) for end in ("", ".gz")]
    for candidate in names:
        if (folder / candidate).is_file():
            return folder / candidate
    raise ValueError(f"path: expected a file {name} or {name}.gz in {folder}, found neither")


def _read(path: Path, dimensions: int) -> Tensor:
    """Read an idx file: two zeros, the type, the number of dimensions, their sizes, the bytes."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise ValueError(f"path: expected a readable file {path}, got {error}") from error
    header = 4 + 4 * dimensions
    sizes = [int.from_bytes(content[i : i + 4], "big") for i in range(4, header, 4)]
    if content[:4] != bytes([0, 0, UNSIGNED_BYTE, dimensions]) or len(content) != header + math.prod(sizes):
        raise ValueError(
            f"path: expected {path} to hold unsigned bytes in {dimensions} dimensions in the idx format, "
            f"got {len(content)} bytes that begin with {content[:4].hex() or 'nothing'}; is it whole?"
        )
    # A bytearray is writable, as torch wants it.
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)[header:].reshape(sizes)
