"""Segment images that nobody annotated, with the published shared model.

    python scripts/predict_images.py --registry model-data/models --out predictions IMAGES...

For each image, or each in a folder but those it wrote itself, it writes NAME.labels.png (class
index per pixel, with a palette), NAME.uncertainty.png (0 sure to 255 undecided) and, with
--probabilities, NAME.probabilities.npy; beside them legend.json names the classes and the model.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from backend.annotation.label_config import material_colors
from backend.command_line import fail
from backend.errors import RegistryError
from backend.files import in_words, write_atomically
from backend.learning.inference import segment_files
from backend.learning.networks import SharedNetwork, fastest_device
from backend.learning.registry import ModelCard, Registry
from backend.microscope.image_files import PICTURE_SUFFIXES, image_files


def main(arguments: Sequence[str] | None = None) -> int:
    """Segment; 0 if all images were, 1 if some were not, 2 after a mistake."""
    options = _parser().parse_args(arguments)
    try:
        paths = image_files(options.images, PICTURE_SUFFIXES, prefer_native=False)
        card, registry = _chosen(options.registry, options.version)
        network = registry.load(card)
    except ValueError as error:
        return fail(error)
    network.to(fastest_device())
    try:
        failed = _segment(network, card, paths, options)
    except OSError as error:
        print(f"{options.out} cannot be written: {in_words(error)}", file=sys.stderr)
        return 1
    print(f"{len(paths) - failed} of {len(paths)} images segmented by model {card.name}")
    return 1 if failed else 0


def _segment(
    network: SharedNetwork, card: ModelCard, paths: Sequence[Path], options: argparse.Namespace
) -> int:
    """Write all, and the legend; count the images that were not segmented.

    Raises:
        OSError: The folder cannot be written.
    """
    colors = material_colors(len(card.materials))
    failed = 0
    results = segment_files(network, paths, options.out, colors, keep=options.probabilities)
    for path, problem in tqdm(results, "images", len(paths)):
        if problem:
            failed += 1
            tqdm.write(f"{path}: {problem}", file=sys.stderr)
    legend = {"materials": card.materials, "colors": colors, "model": card.name}
    write_atomically(options.out / "legend.json", (json.dumps(legend, indent=1) + "\n").encode())
    return failed


def _chosen(folder: Path, version: int | None) -> tuple[ModelCard, Registry]:
    """The model asked for, else the published one.

    Raises:
        RegistryError: There is none.
    """
    registry = Registry(folder)
    card = registry.card(version) if version else registry.published()
    if card is None:
        raise RegistryError(f"no model is published in {folder}: train one, or give --version")
    return card, registry


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Segment images with the shared model.")
    parser.add_argument("images", type=Path, nargs="+", help="image files, or folders of them")
    parser.add_argument("--registry", type=Path, required=True, help="folder of the shared models")
    parser.add_argument("--version", type=int, help="of the model (default: the published one)")
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_argument("--probabilities", action="store_true", help="write them too: 2 bytes "
                        "for each pixel and class")  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main())
