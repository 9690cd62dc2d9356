"""Write synthetic TEM images of devices with masks and true CDs.

    python scripts/make_synthetic.py FOLDER --module gate --equipment A B --count 10

FOLDER gets images/, masks/, truth/, for microscopes that write TIFF originals/, and legend.json
with the materials. The modules have other materials: with both in one folder there is no legend,
and no model should learn from it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import get_args

from backend.command_line import fail
from backend.files import write_atomically
from backend.learning.dataset_legend import LEGEND, legend_json
from backend.microscope.devices import Module
from backend.microscope.equipment import EquipmentName
from backend.microscope.synthetic import make_image
from backend.microscope.synthetic_files import COLORS, folder_materials, save_image


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the images asked for; 0 if all went well."""
    options = _parser().parse_args(arguments)
    seeds = range(options.first_seed, options.first_seed + options.count)
    kinds = list(product(options.module, options.equipment, seeds))
    try:
        folder_materials(options.folder)  # else images of others would get our legend
        for module, equipment, seed in kinds:
            image = make_image(module, equipment, seed, (options.height, options.width))
            image = image.without_databar() if options.crop else image
            save_image(image, options.folder, f"{module}_{equipment}_{seed:04d}")
        told = _write_legend(options.folder)
    except (ValueError, OSError) as error:
        return fail(error)
    print(f"{len(kinds)} images in {options.folder}, {told}")
    return 0


def _write_legend(folder: Path) -> str:
    """Name the materials of the masks if all images share them; say what was done."""
    path, materials = folder / LEGEND, folder_materials(folder)
    if not materials:
        path.unlink(missing_ok=True)
        return f"no {LEGEND}: classes of one module are other materials than those of the other"
    colors = [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in COLORS]
    write_atomically(path, legend_json(materials, colors))
    return f"{LEGEND}: {', '.join(materials)}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Write synthetic TEM images with known truth.")
    parser.add_argument("folder", type=Path, help="where to write; made if it does not exist")
    modules, equipment = get_args(Module), get_args(EquipmentName)
    parser.add_argument("--module", nargs="+", choices=modules, default=modules)
    parser.add_argument("--equipment", nargs="+", choices=equipment, default=equipment)
    parser.add_argument("--count", type=int, default=3, help="images of each kind (default 3)")
    parser.add_argument("--first-seed", type=int, default=0, help="seed of the first (default 0)")
    parser.add_argument("--height", type=int, default=512, help="pixels (default 512)")
    parser.add_argument("--width", type=int, default=512, help="pixels (default 512)")
    parser.add_argument("--crop", action="store_true", help="cut data bars off")
    return parser


if __name__ == "__main__":
    sys.exit(main())
