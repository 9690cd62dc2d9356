"""What a training of the shared model keeps to be gone on with, and forgets when it is done.

They hold the optimizer too and are no models: those are safetensors, see `registry`.
"""

from __future__ import annotations

import io
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from backend.files import write_atomically

LAST, BEST = "last", "best"


def path_of(folder: Path, name: str) -> Path:
    """Where a checkpoint lies."""
    return folder / f"{name}.ckpt"


def keep(folder: Path, name: str, monitor: str | None = None) -> ModelCheckpoint:
    """Keep one after each epoch: the newest, or the weights that were best by a figure."""
    return ModelCheckpoint(
        folder,
        name,
        monitor=monitor,
        mode="max",
        save_weights_only=monitor is not None,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )


class SafeCheckpoints(TorchCheckpointIO):
    """Checkpoints appear whole or not at all, and are read without running what is in them."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, *_: object, **__: object
    ) -> None:
        """Write one."""
        content = io.BytesIO()
        torch.save(checkpoint, content)
        write_atomically(Path(path), content.getvalue())

    def load_checkpoint(self, path: str | Path, *_: object, **__: object) -> dict[str, Any]:
        """Read one."""
        return read(Path(path))


def read(path: Path) -> dict[str, Any]:
    """Read one without running what is in it.

    Raises:
        ValueError: It is damaged.
    """
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, UnpicklingError) as error:
        raise ValueError(
            f"the checkpoint {path} cannot be read ({type(error).__name__}): remove "
            f"{path.parent}, and its training begins anew"
        ) from error
    return checkpoint


def forget(folder: Path) -> None:
    """Remove what a training keeps to be gone on with."""
    for path in folder.glob("*.ckpt"):
        path.unlink()
