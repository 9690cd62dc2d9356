"""Keeps the features of images on disk, so that a task that is opened again costs no filtering.

Reading them takes a hundredth of the time of computing them. Files are named by what is in the
image and by how it is described, so a replaced image or a new version of the filters never meets
the features of another.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import numpy as np

from backend.arrays import CellFeatures, GrayImage
from backend.files import UNREADABLE, write_atomically
from backend.learning.pixel_classifier import cell_features

logger = logging.getLogger(__name__)

_SAMPLE_PX = 64


class FeatureCache:
    """Files of features in one folder, below a limit of bytes; those used longest ago go first."""

    def __init__(
        self,
        folder: Path,
        max_bytes: float,
        compute: Callable[[GrayImage], CellFeatures] = cell_features,
    ) -> None:
        """Name the folder, which is made when first needed.

        Args:
            folder: Holds nothing else.
            max_bytes: What all files may take together.
            compute: Describes an image.
        """
        self._folder = folder
        self._max_bytes = max_bytes
        self._compute = compute

    def features(self, image: GrayImage) -> CellFeatures:
        """Describe an image: from disk, else computed and put there. (H, W) -> (h, w, D)."""
        name = hashlib.sha256(f"{self._recipe} {image.shape} {image.dtype} ".encode())
        name.update(image.tobytes())
        path = self._folder / f"{name.hexdigest()}.npz"
        known = _read(path)
        if known is not None:
            return known
        features = self._compute(image)
        if features.nbytes <= self._max_bytes:
            self._write(path, features)
        return features

    @cached_property
    def _recipe(self) -> str:
        """Tells ways of describing an image apart, by what they make of a fixed one."""
        sample = np.random.default_rng(0).random((_SAMPLE_PX, _SAMPLE_PX), np.float32)
        return hashlib.sha256(self._compute(sample).tobytes()).hexdigest()

    def _write(self, path: Path, features: CellFeatures) -> None:
        """Put features on disk; an answer must not fail because that is full."""
        buffer = io.BytesIO()
        np.savez(buffer, features=features)  # not compressed: slower, and hardly smaller
        try:
            write_atomically(path, buffer.getvalue())
            self._delete_oldest()
        except OSError as error:
            logger.warning("the features of an image are not kept: %s", error)

    def _delete_oldest(self) -> None:
        files = [(path.stat(), path) for path in self._folder.glob("*.npz")]
        excess = sum(status.st_size for status, _ in files) - self._max_bytes
        for status, path in sorted(files, key=lambda file: file[0].st_mtime_ns):
            if excess <= 0:
                break
            path.unlink(missing_ok=True)
            excess -= status.st_size


def _read(path: Path) -> CellFeatures | None:
    """Read features, and mark the file as used; None if there are none, or damaged ones."""
    try:
        with path.open("rb") as file, np.load(file) as arrays:  # verifies their checksum
            features: CellFeatures = arrays["features"]
    except FileNotFoundError:
        return None
    except UNREADABLE as error:
        logger.warning("%s is damaged and made anew: %s: %s", path, type(error).__name__, error)
        return None
    with suppress(OSError):  # the folder is read-only, or another process has deleted the file
        os.utime(path)
    return features
