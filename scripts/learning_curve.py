"""Measure how good a shared model is after 1, 2, 4, 9 and 18 finished images.

    python scripts/learning_curve.py --out learning-curve

Trains on synthetic images of some equipment and measures, without a stroke, on images of another
that it never saw; or on the images of a folder, and measures on its last ones. Writes a table and a
plot.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

from backend.command_line import fail
from backend.learning.segmentation_data import TrainingData, read_training_data
from backend.microscope.devices import Module
from backend.microscope.equipment import EquipmentName
from backend.microscope.synthetic import make_image
from backend.microscope.synthetic_files import save_image

TRAINED_ON: tuple[EquipmentName, ...] = ("A", "B")
UNSEEN: EquipmentName = "C"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; 0 if it worked, 1 if a file cannot be read or written, 2 after a mistake."""
    options = _parser().parse_args(arguments)
    from backend.learning.learning_curve import Point, learning_curve  # needs an optional extra
    from backend.learning.segmentation_training import Settings

    settings = Settings(steps=options.steps)
    points: list[Point] = []
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        data = read_training_data(options.folder) if options.folder else synthetic(options)
        cut = len(data.images) - options.test
        if not 0 < cut < len(data.images):
            raise ValueError(  # noqa: TRY301 - as of what cannot be read
                f"--test {options.test} of {len(data.images)} images: at least one is needed to "
                "measure on, and one to train on"
            )
        seen, unseen = TrainingData(data.materials, data.images[:cut]), data.images[cut:]
        for point in learning_curve(seen, unseen, options.counts, settings):
            points.append(point)
            print(f"{point.images:3} images: accuracy {point.accuracy:.4f}, near edges "
                  f"{point.edge_band_accuracy:.4f}, {point.seconds:.0f} s", flush=True)  # fmt: skip
        write(points, options.out)
    except (ValueError, OSError) as error:
        return fail(error)
    return 0


def synthetic(options: argparse.Namespace) -> TrainingData:
    """Draw the images to train on, by turns of each equipment, and those to measure on."""
    count = max(options.counts)
    kinds = [(TRAINED_ON[seed % len(TRAINED_ON)], seed) for seed in range(count)]
    kinds += [(UNSEEN, count + seed) for seed in range(options.test)]
    shape = (options.size, options.size)
    with TemporaryDirectory() as folder:
        for number, (equipment, seed) in enumerate(kinds):
            drawn = make_image(options.module, equipment, seed, shape).without_databar()
            save_image(drawn, Path(folder), f"{number:03}")
        return read_training_data(Path(folder))


def write(points: Sequence[object], folder: Path) -> None:
    """Write table and plot."""
    from matplotlib.figure import Figure  # needs an optional extra

    rows = [asdict(point) for point in points]  # type: ignore[call-overload] # dataclasses
    with (folder / "learning_curve.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0].keys())
        table.writeheader()
        table.writerows(rows)
    figure = Figure((5.0, 3.6), layout="constrained")
    ax = figure.subplots()
    for name, label in (
        ("accuracy", "all pixels"),
        ("edge_band_accuracy", "within 3 px of an edge"),
    ):
        ax.plot([row["images"] for row in rows], [row[name] for row in rows], "o-", label=label)
    ax.set(xlabel="finished images", ylabel="accuracy without a stroke", xscale="log")
    ax.set_xticks([row["images"] for row in rows], [str(row["images"]) for row in rows])
    ax.grid(alpha=0.3)
    ax.legend()
    figure.savefig(folder / "learning_curve.png", dpi=110)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Accuracy against the number of finished images.")
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder for table and plot")
    add("--folder", type=Path, help="images/ and masks/ in place of synthetic images")
    add("--module", choices=get_args(Module), default="gate", help="of synthetic images (gate)")
    add("--size", type=int, default=512, metavar="PX", help="of synthetic images (512)")
    add("--counts", type=int, nargs="+", default=[1, 2, 4, 9, 18], help="(1 2 4 9 18)")
    add("--test", type=int, default=3, help="images to measure on (3)")
    add("--steps", type=int, default=200, help="of each training (200)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
