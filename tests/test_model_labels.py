"""Images that nobody annotated get the probabilities of the shared model that serves."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from synthetic_cds import write_gates, write_recipe

from backend.batch.measurables import bare_measurables
from backend.batch.measuring import Setup, measure
from backend.batch.model_labels import published_materials, segmented
from backend.errors import RegistryError
from backend.learning.networks import SharedNetwork
from backend.learning.prior import WEIGHTS_PATH
from backend.learning.registry import ModelCard, Registry
from backend.learning.segmentation_data import read_training_data
from backend.metrology.recipe_file import load_recipe
from backend.metrology.records import TRAINED_ON
from backend.microscope.images import decode_image, pixels_sha256

MATERIALS = ("Si", "Oxide", "Nitride", "Metal")


@pytest.fixture
def registry(tmp_path):
    """A registry in which a network that has learned nothing is published."""
    models = Registry(tmp_path / "models")
    card = ModelCard("2026-01-01T00:00:00", MATERIALS, None, {}, {})
    models.publish(models.add(SharedNetwork(len(MATERIALS), "random"), card).version)
    return tmp_path / "models"


def test_images_are_segmented_as_they_are_asked_for(registry, tmp_path):
    """The run says which model; what it does not find is missing, not guessed."""
    write_gates(tmp_path, side=128)
    setup = Setup(load_recipe(write_recipe(tmp_path)), tmp_path / "cds.db")
    (bare,) = bare_measurables([tmp_path / "originals"])
    damaged = tmp_path / "damaged.tif"
    damaged.write_bytes(b"II*\0")
    lost = replace(bare, name="lost", image=damaged)

    first, second = segmented([lost, bare], registry, tmp_path, setup)

    assert first == lost  # measuring it fails for the same reason
    assert second.materials == published_materials(registry) == MATERIALS
    stored = np.load(second.probabilities)
    assert (stored.shape, stored.dtype) == ((4, 128, 128), np.float16)
    assert np.allclose(stored.sum(axis=0), 1, atol=0.01)
    found = measure(second, setup)
    assert found.run.source.kind == "inference"
    assert found.run.source.model.version == "v0001"
    prior = hashlib.sha256(WEIGHTS_PATH.read_bytes()).hexdigest()
    assert found.run.source.model.prior_sha256 == prior
    assert sum(cd.measurement == "gate_mcd" for cd in found.measured.cds) >= 2  # as expected
    with pytest.raises(ValueError, match=r"\w"):
        measure(first, setup)


def test_an_image_that_the_model_was_trained_on_is_told(tmp_path):
    """By its gray values: as the microscope's file, as its picture, or as it lies in a dataset."""
    write_gates(tmp_path, seeds=(0, 1), side=128)
    data = read_training_data(tmp_path)
    learned, _ = (pixels_sha256(decode_image(path.read_bytes()))
                  for path in sorted((tmp_path / "images").iterdir()))  # fmt: skip
    assert data.images[0].picture_sha256 == learned
    models = Registry(tmp_path / "models")
    card = ModelCard("2026-01-01T00:00:00", MATERIALS, None, {}, {}, pictures=(learned,))
    models.publish(models.add(SharedNetwork(len(MATERIALS), "random"), card).version)
    setup = Setup(load_recipe(write_recipe(tmp_path)), tmp_path / "cds.db")

    for part in ("originals", "images"):
        images = bare_measurables([tmp_path / part])
        seen = [one.is_trained_on for one in segmented(images, models.folder, tmp_path, setup)]
        assert seen == [True, False]
    first = next(iter(segmented(bare_measurables([tmp_path / "originals"]), models.folder,
                                tmp_path, setup)))  # fmt: skip
    assert TRAINED_ON in measure(first, setup).measured.flags


def test_without_a_published_model_nothing_is_segmented(tmp_path):
    """The sentence says what to do."""
    with pytest.raises(RegistryError, match="train one first"):
        published_materials(tmp_path)
