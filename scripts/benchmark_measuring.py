"""Measure on this machine how long measuring an image takes, its rows in the database included.

    python scripts/benchmark_measuring.py --sizes 512 1024 --repeat 5

Draws a synthetic gate of each size and measures it by the shipped gate recipe and by five of its
measurements on the left half, 12 rows; once on the labels alone, once on the gray values too.

    python scripts/benchmark_measuring.py --images 100 1000 --processes 1 2

Measures as many images instead, by `measure_cds.py` and the shipped recipe into a new database, and
tells images a second, start included, and the peak memory of all its processes (Linux only).
"""

from __future__ import annotations

import argparse
import math
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from itertools import product
from pathlib import Path

from backend.command_line import fail
from backend.learning.dataset_legend import legend_json
from backend.metrology.database import open_database, write_run
from backend.metrology.measure import measure_image
from backend.metrology.recipe import Recipe
from backend.metrology.recipe_file import load_recipe
from backend.metrology.records import ImageRecord, Run, RunSource
from backend.metrology.results import Tier
from backend.metrology.subject import Subject
from backend.microscope.calibration import Calibration
from backend.microscope.devices import MATERIALS
from backend.microscope.synthetic import make_image
from backend.microscope.synthetic_files import save_image
from backend.trials.benchmark_table import Row, format_table, medians, timed

MEASURE = Path(__file__).with_name("measure_cds.py")
DIFFERENT = 4  # images that are drawn
SAMPLED_S = 0.2
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


def write_folder(folder: Path, count: int, size_px: int) -> None:
    """A dataset of as many images, drawn from a few seeds.

    What follows an image's last byte is not read, and makes another image of it for the database.
    """
    drawn = folder / "drawn"
    for seed in range(min(count, DIFFERENT)):
        save_image(make_image("gate", "A", seed, (size_px, size_px)), drawn, str(seed))
    for number in range(count):
        seed = number % DIFFERENT
        for kind, suffix in (("images", "png"), ("masks", "png"), ("originals", "tif")):
            (folder / kind).mkdir(exist_ok=True)
            content = (drawn / kind / f"{seed}.{suffix}").read_bytes()
            own = str(number).encode() if kind == "originals" else b""
            (folder / kind / f"{number:05}.{suffix}").write_bytes(content + own)
    (folder / "legend.json").write_bytes(legend_json(MATERIALS["gate"], ["#000000"] * 4))


def measure_folder(folder: Path, count: int, processes: int) -> list[Row]:
    """Measure a dataset by the script; images a second and memory.

    Raises:
        ValueError: It did not measure all of them.
    """
    with tempfile.TemporaryDirectory() as place:
        words = ["--dataset", folder, "--recipe", RECIPE, "--database", f"{place}/cds.db"]
        command = [sys.executable, MEASURE, *words, "--processes", processes]
        started, most = time.perf_counter(), 0
        with Path(f"{place}/log").open("w+", encoding="utf-8") as log:
            run = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log)  # noqa: S603 - ours
            while run.poll() is None:
                most = max(most, tree_bytes(run.pid))
                time.sleep(SAMPLED_S)
            seconds = time.perf_counter() - started
            log.seek(0)
            if run.returncode:
                raise ValueError(f"measure_cds.py failed: {log.read().splitlines()[-1]}")
    where = f"{count} images, {processes} processes"
    return [Row(where, "images a second", count / seconds, "1/s"),
            Row(where, "peak memory", most / 1e6, "MB")]  # fmt: skip


def tree_bytes(process: int) -> int:
    """Memory of a process and all it started; what several share counts once."""
    held = 0
    with suppress(OSError):  # it has ended, or this is no Linux
        pages = Path(f"/proc/{process}/smaps_rollup").read_text()
        held = 1024 * sum(int(kb) for kb in re.findall(r"^Pss: +(\d+) kB", pages, re.MULTILINE))
        for task in Path(f"/proc/{process}/task").iterdir():
            held += sum(map(tree_bytes, map(int, (task / "children").read_text().split())))
    return held


def single_images(options: argparse.Namespace) -> Iterator[list[Row]]:
    """Times of one image of each size."""
    with tempfile.TemporaryDirectory() as folder:
        for size in options.sizes:
            yield measure(size, options.repeat, Path(folder))


def batches(options: argparse.Namespace) -> Iterator[list[Row]]:
    """Speed and memory for each number of images and of processes."""
    for count, processes in product(options.images, options.processes):
        with tempfile.TemporaryDirectory() as folder:
            write_folder(Path(folder), count, options.sizes[0])
            yield measure_folder(Path(folder), count, processes)


def main(arguments: Sequence[str]) -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description="Measure how long measuring takes.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024], metavar="PX")
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="runs, for the median")
    parser.add_argument("--images", type=int, nargs="+", default=[], metavar="N",
                        help="measure so many, of the first size, in place of one")  # fmt: skip
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], metavar="N")
    options = parser.parse_args(arguments)
    try:
        tables = list(batches(options)) if options.images else list(single_images(options))
    except ValueError as error:
        return fail(error)
    print(format_table([row for rows in tables for row in rows]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
