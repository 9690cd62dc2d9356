"""Measure critical dimensions of images with finished labels, or with the shared model's.

    python scripts/measure_cds.py --dataset DATASET --recipe RECIPE.yaml --database cds.db
    python scripts/measure_cds.py IMAGES... --labels MASKS --recipe ... --database ...
    python scripts/measure_cds.py IMAGES... --registry models --recipe ... --database ...

Exit code 0: all were measured, 1: some were not, 2: a mistake in what was asked for, 130: stopped
by Ctrl-C; the images measured so far are stored.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from backend.batch.cd_batch import Batch, check_batch, make_setup, run_batch
from backend.batch.cd_sources import open_source
from backend.batch.scale_options import scale_options, told_scale
from backend.command_line import fail
from backend.metrology.recipe_file import load_recipe


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and say what became of each image."""
    options = _parser().parse_args(arguments)
    counts: Counter[str] = Counter()
    try:
        with open_source(options) as source:
            recipe = load_recipe(options.recipe, source.materials)
            setup = make_setup(recipe, options.database, told_scale(options, Path(__file__).name))
            if options.check:
                print("\n".join(check_batch(source.measurables, setup)))
                return 0
            batch = Batch(setup, options.overlay, options.processes, options.dry_run)
            outcomes = run_batch(source.ready(setup), batch)
            for told in tqdm(outcomes, "images", len(source.measurables), disable=None):
                counts[told.status] += 1
                values = told.values if options.dry_run else ()
                tqdm.write("\n  ".join([f"{told.name}: {told.status}", *values, *told.notes]))
    except (ValueError, OSError) as error:
        return fail(error)
    except KeyboardInterrupt:
        done = sum(counts.values())
        print(f"stopped after {done} images: what was stored stays", file=sys.stderr)
        return 130
    print(", ".join(f"{counts[status]} {status}" for status in ("ok", "review", "failed")))
    return 1 if counts["failed"] else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Measure CDs of images by a recipe.", parents=[scale_options()]
    )
    add = parser.add_argument
    add("images", type=Path, nargs="*", help="image files, or folders of them")
    add("--recipe", type=Path, required=True, help="YAML file that says what to measure")
    add("--database", type=Path, required=True, help="SQLite file; made if it does not exist")
    labels = parser.add_mutually_exclusive_group(required=True)
    labels.add_argument("--labels", "--label", type=Path, help="masks: a PNG, or a folder of them")
    labels.add_argument("--dataset", type=Path, help="folder of an export or of make_synthetic.py")
    labels.add_argument("--project", type=int, help="of Label Studio: its finished ground truth")
    labels.add_argument("--registry", type=Path, help="folder of the shared models")
    add("--originals", type=Path, help="folder of the microscope's files, named as the dataset's")
    add("--overlay", type=Path, metavar="FOLDER", help="draw what was measured into it")
    add("--processes", type=int, default=2, help="that measure at once (default 2)")
    add("--dry-run", action="store_true", help="measure and tell, but store nothing")
    add("--check", action="store_true", help="tell what would be measured, and do nothing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
