"""Count the strokes until all CDs are right: boxes ranked by CDs, by entropy, and at random.

    python scripts/cd_spots_experiment.py --images 6 --turns 12

Draws synthetic gates and lets a simulated annotator paint what is true in three boxes a turn, until
width, height and gate oxide of every gate are within 0.5 px of what the true labels give. Prints
medians over the images, "inf" where the turns did not suffice on half of them, and on how many
images the ranking by CDs asked for fewer strokes. With --coverage it prints instead how often the
truth lies within the uncertainty that is reported.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import get_args

from backend.metrology.cd_coverage import claims_on, tell_coverage
from backend.metrology.cd_replay import compare_rankings
from backend.microscope.equipment import EquipmentName
from backend.microscope.synthetic import SyntheticImage, make_image


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare the rankings; 0 if it worked, 2 for a mistake."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if min(options.images, options.turns) < 1:
        parser.error("--images and --turns must be more than 0")
    shape = options.side, options.side
    seeds = range(options.seed, options.seed + options.images)
    try:
        images = [make_image("gate", options.equipment, s, shape).without_databar() for s in seeds]
        if options.coverage:
            _tell_coverage(images, options.turns)
            return 0
        efforts = compare_rankings(images, options.turns)
    except ValueError as error:
        parser.error(str(error))
    print("| ranking | median turns | median strokes | images with every CD right |")
    print("|---|---|---|---|")
    for effort in efforts:
        print(effort.told())
    first, *others = efforts
    for other in others:
        print(first.beside(other))
    return 0


def _tell_coverage(images: Sequence[SyntheticImage], turns: int) -> None:
    """Print how often the truth lies within the uncertainty that is reported."""
    claims = [claim for seed, image in enumerate(images) for claim in claims_on(image, turns, seed)]
    print("\n".join(tell_coverage(claims)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Strokes until all CDs are right, by ranking.")
    add = parser.add_argument
    add("--images", type=int, default=6, metavar="N", help="how many images (default 6)")
    add("--turns", type=int, default=12, metavar="T", help="turns at most (default 12)")
    add("--side", type=int, default=256, metavar="PX", help="of the images (default 256)")
    add("--equipment", choices=get_args(EquipmentName), default="A", help="default A")
    add("--seed", type=int, default=0, help="of the first image (default 0)")
    add("--coverage", action="store_true", help="check the reported uncertainty instead")
    return parser


if __name__ == "__main__":
    sys.exit(main())
