"""Let simulated annotators work with the guide, its parts and its peers, and compare.

    python scripts/evaluate.py --out evaluation --folder SET --methods guide forest trees

Draws synthetic images, reads folders with images/*.png and masks/*.png, and writes turns.csv, the
paper's figures and a table. Stopped, it goes on where it was: a run in the table is not repeated.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from backend.command_line import fail
from backend.errors import RegistryError
from backend.learning.evaluation import Plan, evaluate, summarize
from backend.learning.labeled_images import folder_images, synthetic_images
from backend.learning.methods import METHODS, Method, check_unseen, shared_methods
from backend.learning.registry import ModelCard, Registry
from backend.learning.shared_model import SharedModel
from backend.learning.simulated_annotator import AnnotatorName
from backend.microscope.devices import Module
from backend.microscope.equipment import EquipmentName

MODULES, EQUIPMENT, PEOPLE = (get_args(kind) for kind in (Module, EquipmentName, AnnotatorName))
QUICK = {
    "equipment": ["A"], "images": 1, "size": 128, "turns": 2, "steps": 2,
    "annotators": ["careful"], "methods": ["guide", "forest"],
}  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    """Evaluate; 0 if it worked, 1 if a file cannot be read or written, 2 after a mistake."""
    parser = make_parser()
    if parser.parse_args(arguments).quick:
        parser.set_defaults(**QUICK)
    options = parser.parse_args(arguments)
    if min(options.images, options.seeds, options.turns, options.steps) < 1:
        parser.error("--images, --seeds, --turns and --steps must be 1 or more")
    try:
        from backend.learning import evaluation_figures  # needs an optional extra
    except ModuleNotFoundError as error:
        sys.exit(f'{error.name} is missing: .venv/bin/pip install -e ".[imagenet,evaluate]"')
    try:
        methods, card = _methods(options.methods, options.registry)
        plan = Plan(methods, options.annotators, options.seeds, options.turns, options.steps)
        images = [
            *synthetic_images(options.modules, options.equipment, options.images, options.size),
            *(one for folder in options.folder for one in folder_images(folder, options.images)),
        ]
        if card:
            check_unseen(card, images)
        turns = evaluate(images, plan, options.out, evaluation_figures.maps_drawer(options.out))
        evaluation_figures.draw_curves(turns, options.out)
    except KeyError as error:
        parser.error(
            f"there is no method {error}: see --help; those of a shared model want --registry"
        )
    except (ValueError, OSError) as error:
        return fail(error)
    print(summarize(turns))
    return 0


def _methods(
    names: Sequence[str] | None, registry: Path | None
) -> tuple[dict[str, Method], ModelCard | None]:
    """The methods asked for, else all; with a registry, those of its published model too.

    The card is that of the model if one of them is its own.

    Raises:
        ValueError: One is unknown, or there is no published model that can be read.
    """
    methods = dict(METHODS)
    card = None
    if registry is not None:
        models = Registry(registry)
        card = models.published()
        if card is None:
            raise RegistryError(f"no model is published in {registry}")
        methods |= shared_methods(SharedModel(card, models.load(card)))
    unknown = [name for name in names or () if name not in methods]
    if unknown:
        raise ValueError(
            f"there is no method {unknown[0]}: there are {', '.join(methods)}, and with --registry "
            "those that a shared model starts"
        )
    chosen = {name: methods[name] for name in names or methods}
    return chosen, card if any(name not in METHODS for name in chosen) else None


def make_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        description="Let simulated annotators work with several methods, and compare.",
        epilog="methods:" + "".join(f"\n  {n:<16} {m.description}" for n, m in METHODS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder for turns.csv and the figures")
    add("--folder", type=Path, action="append", default=[], help="images/ and masks/; repeatable")
    add("--modules", nargs="*", choices=MODULES, default=MODULES, help="none: only folders")
    add("--equipment", nargs="+", choices=EQUIPMENT, default=EQUIPMENT)
    add("--images", type=int, default=1, metavar="N", help="of each set (default %(default)s)")
    add("--size", type=int, default=512, metavar="PX", help="of synthetic images (%(default)s)")
    add("--turns", type=int, default=9, metavar="N", help="answers in each run (%(default)s)")
    add("--steps", type=int, default=10, metavar="N", help="of training a turn (%(default)s)")
    add("--seeds", type=int, default=1, metavar="N", help="annotators of each kind (%(default)s)")
    add("--annotators", nargs="+", choices=PEOPLE, default=PEOPLE, help="all by default")
    add("--methods", nargs="+", metavar="METHOD", help="all by default")
    add("--registry", type=Path, help="folder with a published shared model: adds guide-shared, "
        "guide-shared-untrained and paper-shared")  # fmt: skip
    add("--quick", action="store_true", help="a minute's worth, to see that it works")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
