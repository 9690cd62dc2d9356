"""A folder of synthetic gates with a recipe for them, for tests of measuring."""

from __future__ import annotations

from pathlib import Path

from backend.microscope.synthetic import make_image
from backend.microscope.synthetic_files import save_image

RECIPE = Path(__file__).parents[1] / "backend" / "metrology" / "recipes" / "dram_gate.yaml"


def write_recipe(folder, *replacements):
    """Write the gate recipe, changed."""
    text = RECIPE.read_text("utf-8")
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    path = folder / "gate.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def write_gates(folder, equipment="A", seeds=(0,), side=512):
    """Write images as `make_synthetic.py` does; return them."""
    images = [make_image("gate", equipment, seed, (side, side)) for seed in seeds]
    for seed, image in zip(seeds, images, strict=True):
        save_image(image, folder, f"gate_{equipment}_{seed}")
    return images
