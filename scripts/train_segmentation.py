"""Train the shared segmentation model on all finished ground truth.

    python scripts/train_segmentation.py DATASET --registry FOLDER --publish

DATASET holds images/NAME.png and masks/NAME.png (class per pixel, 255 where unknown), and may hold
legend.json with the materials and manifest.json with the equipment of the images. Networks that
have not seen an image measure how good the model is; the model itself learns from all images and
becomes the next version in FOLDER. With --publish it serves from then on, unless it is worse than
the one that serves now. Stopped at any moment, the same command goes on where it was; what is done
lies in FOLDER-training until the version is there.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from backend.command_line import fail
from backend.learning.publication import judge, publish
from backend.learning.registry import ModelCard, Registry
from backend.learning.segmentation_data import CropSettings, read_training_data


def main(arguments: Sequence[str] | None = None) -> int:
    """Train; 0 if it worked, 1 if something cannot be read or written, 2 after a mistake."""
    options = _parser().parse_args(arguments)
    try:
        return train(options)
    except ModuleNotFoundError as error:
        print(f"{error.name} is missing: pip install 'tem-guide[train]'", file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:
        return fail(error)


def train(options: argparse.Namespace) -> int:
    """Read, train, keep, judge, publish."""
    from backend.learning.segmentation_training import Hardware, Settings  # need an optional extra
    from backend.learning.training_round import train_version

    for name in ("lightning.pytorch", "lightning.fabric"):  # they advertise what is not needed
        logging.getLogger(name).setLevel(logging.WARNING)
    data = read_training_data(options.dataset)
    check_writable(options.registry)
    registry = Registry(options.registry)
    registry.published()  # a damaged registry is better found now than after the training
    settings = Settings(
        steps=options.steps or Settings.steps_for(len(data.images)),
        folds=options.folds,
        crops=CropSettings(options.crop),
        batch_size=options.batch_size,
        seed=options.seed,
    )
    hardware = Hardware(options.accelerator, options.devices, options.num_nodes, options.strategy)
    card = train_version(data, settings, hardware, registry)
    if card is None:
        return 0  # another process keeps the model
    print(summary(card))
    if not options.publish:
        print(judge(registry, card).sentence)
        return 0
    verdict = publish(registry, card.version)
    print(verdict.sentence)
    print(f"{card.name} is {'published' if verdict.publish else 'kept, and not published'}")
    return 0


def check_writable(folder: Path) -> None:
    """Find out before the training whether its result can be kept.

    Raises:
        OSError: It cannot.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def summary(card: ModelCard) -> str:
    """Say in a few lines what was trained, and how good it is."""
    seconds = card.training["seconds"]
    lines = [
        f"{card.name}: {len(card.images)} images, {len(card.materials)} materials, {seconds:.0f} s"
    ]
    measured = card.metrics
    if not measured:
        return (
            f"{lines[0]}\nwith one image there is none to measure on: nobody knows how good it is"
        )
    lines.append(f"all images, each by a network that had not seen it: {figures(measured)}")
    for name, row in measured["equipment"].items():
        lines.append(f"equipment {name}, by a network that had seen none of it: {figures(row)}")
    lines.append(f"these figures are {measured['note']}")
    return "\n".join(lines)


def figures(measured: Mapping[str, float | None]) -> str:
    """The three means in words."""
    named = {"mean IoU": "mean_iou", "accuracy": "accuracy", "near edges": "edge_band_accuracy"}
    return ", ".join(
        f"{name} {measured[key]:.4f}" for name, key in named.items() if measured[key] is not None
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is too few: give 1 or more")
    return number


def _folds(text: str) -> int:
    number = int(text)
    if number < 2:  # noqa: PLR2004 - one to train on, one to measure on
        raise argparse.ArgumentTypeError(f"{number} is too few: give 2 or more")
    return number


def _crop(text: str) -> int:
    number = _positive(text)
    if number % 64 or number < 128:  # noqa: PLR2004 - less cannot be normalized
        raise argparse.ArgumentTypeError(f"{number} is not 128 or another multiple of 64")
    return number


def _devices(text: str) -> int | Literal["auto"]:
    return "auto" if text == "auto" else _positive(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Train the shared segmentation model.")
    add = parser.add_argument
    add("dataset", type=Path, help="folder with images/ and masks/")
    add("--registry", type=Path, required=True, help="folder of the shared models")
    add("--publish", action="store_true", help="let it serve, unless it is worse")
    add("--folds", type=_folds, default=3, help="parts of the images, each held out once (3)")
    add("--steps", type=_positive, help="of each training at most (more for more images)")
    add("--crop", type=_crop, default=448, metavar="PX", help="side of what a step sees (448)")
    add("--batch-size", type=_positive, default=4, help="crops a step, in each process (4)")
    add("--seed", type=_positive, default=1, help="of all that is random (1)")
    for name, kind, default, words in (
        ("--accelerator", str, "auto", "cpu, gpu, ... as Lightning names them"),
        ("--devices", _devices, "auto", "how many of them on each machine"),
        ("--num-nodes", _positive, 1, "how many machines"),
    ):
        add(name, type=kind, default=default, help=f"{words} ({default})")
    add("--strategy", choices=("auto", "ddp"), default="auto", help="how they work together (auto)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
