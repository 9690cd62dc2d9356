"""The twelve small images in tests/data/golden are what the generator draws today.

Experiments of different days can be compared only while it draws the same. After a deliberate
change, write them anew: `python scripts/make_synthetic.py tests/data/golden --count 2 --height 96
--width 96`, and say so in the changelog.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backend.microscope.synthetic import make_image

GOLDEN = Path(__file__).parent / "data" / "golden"
NAMES = sorted(path.stem for path in (GOLDEN / "images").glob("*.png"))


def drawn_today(name):
    """Draw the image of a file name such as gate_A_0001."""
    module, equipment, seed = name.split("_")
    return make_image(module, equipment, int(seed), (96, 96))


def test_there_are_twelve():
    """Two of each module by each equipment."""
    assert len(NAMES) == 12


@pytest.mark.parametrize("name", NAMES)
def test_labels_are_the_same(name):
    """Pixel by pixel, the data bar included."""
    mask = np.array(Image.open(GOLDEN / "masks" / f"{name}.png"))
    np.testing.assert_array_equal(drawn_today(name).label_map, mask)


@pytest.mark.parametrize("name", NAMES)
def test_true_cds_are_the_same(name):
    """To a millionth of a nanometer."""
    stored = json.loads((GOLDEN / "truth" / f"{name}.json").read_text())["truth"]
    today = [cd.value for cd in drawn_today(name).truth]
    assert today == pytest.approx([cd["value"] for cd in stored], abs=1e-6)
