"""Measure on this machine how long measuring an image takes, its rows in the database included.

    python scripts/benchmark_measuring.py --sizes 512 1024 --repeat 5

Draws a synthetic gate of each size and measures it by the shipped gate recipe and by five of its
measurements on the left half, 12 rows; once on the labels alone, once on the gray values too.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from itertools import product
from pathlib import Path

from backend.benchmark_table import Row, format_table, medians, timed
from backend.metrology.database import open_database, write_run
from backend.metrology.measure import measure_image
from backend.metrology.recipe import Recipe
from backend.metrology.recipe_file import load_recipe
from backend.metrology.records import ImageRecord, Run, RunSource
from backend.metrology.results import Tier
from backend.metrology.subject import Subject
from backend.microscope.calibration import Calibration
from backend.microscope.synthetic import make_image

RECIPE = Path(__file__).parents[1] / "backend/metrology/recipes/dram_gate.yaml"
FEW = {"gate_tcd", "gate_mcd", "gate_h", "gate_swa", "gate_ar"}
TIERS: tuple[Tier, ...] = ("label", "gray")
GOALS = {(1024, "12-row recipe, label"): 150.0, (1024, "12-row recipe, gray"): 600.0}  # ms


def draw(size_px: int) -> Subject:
    """A gate with its true labels. The image has this side, its data bar included."""
    drawn = make_image("gate", "A", seed=1, shape=(size_px, size_px)).without_databar()
    scale = Calibration(drawn.nm_per_px_x, drawn.nm_per_px_y, "manual")
    return Subject(drawn.label_map, drawn.materials, scale, gray=drawn.image)


def recipes() -> dict[str, Recipe]:
    """The shipped recipe, and a short one for two gates."""
    shipped = load_recipe(RECIPE)
    few = tuple(rule for rule in shipped.measurements if rule.id in FEW)
    change = {"measurements": few, "roi_fraction": (0.0, 0.0, 0.5, 1.0)}
    return {"shipped recipe": shipped, "12-row recipe": shipped.model_copy(update=change)}


def measure(size_px: int, repeat: int, folder: Path) -> list[Row]:
    """Median times of one size, in ms; everything is measured once before."""
    subject, table = draw(size_px), []
    height, width = subject.label_map.shape
    image = ImageRecord(name="gate", path_rel="gate.png", file_sha256="0", shape=(height, width))
    for (name, recipe), tier in product(recipes().items(), TIERS):
        edges = recipe.edges.model_copy(update={"prefer": tuple(dict.fromkeys((tier, "label")))})
        chosen = recipe.model_copy(update={"edges": edges})
        run = Run(image, chosen, RunSource("0"), subject.calibration, "benchmark")
        runs: list[dict[str, float]] = [{} for _ in range(max(repeat, 1) + 1)]
        with closing(open_database(folder / f"{size_px}.db")) as database:
            for times in runs:
                with timed(times, f"{name}, {tier}"):
                    measured = measure_image(subject, chosen)
                    write_run(database, run, measured)
        ((what, seconds),) = medians(runs[1:])
        where = f"{size_px} px, {len(measured.cds)} rows"
        table.append(Row(where, what, 1e3 * seconds, "ms", GOALS.get((size_px, what), math.inf)))
    return table


def main(arguments: Sequence[str]) -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description="Measure how long measuring takes.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024], metavar="PX")
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="runs, for the median")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as folder:
            sizes = [measure(size, options.repeat, Path(folder)) for size in options.sizes]
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(format_table([row for rows in sizes for row in rows]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
