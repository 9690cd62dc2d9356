"""Write synthetic TEM images of devices with masks and true CDs.

    python scripts/make_synthetic.py FOLDER --module gate --equipment A B --count 10

FOLDER gets images/, masks/, truth/ and, for microscopes that write TIFF, originals/.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import get_args

from backend.microscope.devices import Module
from backend.microscope.equipment import EquipmentName
from backend.microscope.synthetic import make_image
from backend.microscope.synthetic_files import save_image


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the images asked for; 0 if all went well."""
    options = _parser().parse_args(arguments)
    seeds = range(options.first_seed, options.first_seed + options.count)
    kinds = list(product(options.module, options.equipment, seeds))
    try:
        for module, equipment, seed in kinds:
            image = make_image(module, equipment, seed, (options.height, options.width))
            image = image.without_databar() if options.crop else image
            save_image(image, options.folder, f"{module}_{equipment}_{seed:04d}")
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{len(kinds)} images in {options.folder}")
    return 0


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
