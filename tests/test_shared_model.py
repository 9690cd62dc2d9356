"""The published shared model: its materials in the project's order, read again when it changes."""

import pytest
import torch

from backend.errors import RegistryError
from backend.learning import networks
from backend.learning.registry import ModelCard, Registry
from backend.learning.shared_model import PublishedModel, SharedModel
from tests.test_registry import CARD


@pytest.fixture(scope="module")
def shared():
    """An untrained model of three materials."""
    torch.manual_seed(1)
    card = ModelCard(**{**vars(CARD), "materials": ("Si", "Oxide", "Metal")})
    return SharedModel(card, networks.SharedNetwork(3, "random").eval())


@pytest.mark.parametrize("materials", [("Metal", "Si"), ("Metal", "Oxide", "Si")])
def test_project_sees_its_materials_in_its_order(shared, materials):
    """A subset or another order of those that were learned."""
    image = torch.rand(1, 1, 128, 128)
    ours = shared.for_materials(materials)
    rows = [shared.card.materials.index(name) for name in materials]
    with torch.inference_mode():
        torch.testing.assert_close(ours.network(image), shared.network(image)[:, rows])
    assert ours.card.materials == materials
    encoders = (model.network.unet.encoder.model.conv_stem.weight for model in (ours, shared))
    assert len({weight.data_ptr() for weight in encoders}) == 1  # no copy


def test_same_materials_need_nothing(shared):
    """The model itself serves."""
    assert shared.for_materials(["Si", "Oxide", "Metal"]) is shared


def test_unknown_material_is_named(shared):
    """With those that it knows."""
    with pytest.raises(RegistryError, match="knows Si, Oxide, Metal but not Resist"):
        shared.for_materials(["Si", "Resist"])


def test_newly_published_model_is_handed_out(tmp_path):
    """And the one before again after it was rolled back; each is read once."""
    registry = Registry(tmp_path)
    published = PublishedModel(registry)
    assert (published.get(["Si", "Oxide"]), published.version) == (None, 0)
    network = networks.SharedNetwork(2, "random")
    one, two = (registry.add(network, CARD) for _ in range(2))
    registry.publish(one.version)
    first = published.get(["Oxide", "Si"])
    assert (first.card.version, first.card.materials) == (1, ("Oxide", "Si"))
    assert published.get(["Oxide", "Si"]) is first
    registry.publish(two.version)
    assert (published.get(["Si", "Oxide"]).card, published.version) == (two, 2)
    registry.roll_back()
    assert published.get(["Oxide", "Si"]).card == first.card
    registry.roll_back()
    assert published.get(["Si", "Oxide"]) is None


def test_damaged_registry_counts_as_none(tmp_path):
    """For the version that is shown; who wants the model hears why there is none."""
    (tmp_path / "published.json").write_text("{")
    published = PublishedModel(Registry(tmp_path))
    assert published.version == 0
    with pytest.raises(RegistryError, match="cannot be read"):
        published.get(["Si"])
