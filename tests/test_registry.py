"""The registry of shared models: versions appear whole, one is published, rolling back works."""

import json
import time
from dataclasses import replace
from threading import Thread

import pytest
import torch

from backend.errors import RegistryError
from backend.learning import networks
from backend.learning.registry import ModelCard, Registry

CARD = ModelCard(
    created="2026-11-25T10:00:00+00:00",
    materials=("Si", "Oxide"),
    parent=None,
    images={"task-1": "ab" * 32},
    metrics={"image_iou": {"task-1": 0.9}},
)


@pytest.fixture(scope="module")
def network():
    """An untrained network of two classes."""
    torch.manual_seed(0)
    return networks.SharedNetwork(2, "random").eval()


@pytest.fixture
def registry(tmp_path):
    """In a folder that does not exist yet."""
    return Registry(tmp_path / "models")


def test_version_comes_back_as_it_was(registry, network):
    """Weights, card and report."""
    card = registry.add(network, CARD, {"report.md": b"good"})

    assert (card.name, registry.cards(), registry.published()) == ("v0001", [card], None)
    assert card == replace(CARD, version=1)
    image = torch.rand(1, 1, 128, 128)
    with torch.inference_mode():
        torch.testing.assert_close(registry.load(card)(image), network(image))
    assert (registry.folder / "v0001" / "report" / "report.md").read_bytes() == b"good"


def test_two_that_publish_at_once_are_both_in_the_history(registry, network, monkeypatch):
    """A script and a training may: who comes second reads what the first has written."""
    versions = [registry.add(network, CARD).version for _ in range(3)]
    history = Registry.history

    def slow_history(self):
        known = history(self)
        time.sleep(0.1)
        return known

    monkeypatch.setattr(Registry, "history", slow_history)
    threads = [Thread(target=registry.publish, args=[version]) for version in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(registry.history()) == versions


def test_published_version_serves_until_it_is_rolled_back(registry, network):
    """Publishing again what serves changes nothing; before the first there is none."""
    one, two = (registry.add(network, CARD) for _ in range(2))
    registry.publish(one.version)
    registry.publish(two.version)
    assert registry.publish(two.version) == registry.published() == two
    assert registry.history() == [1, 2]
    assert registry.roll_back() == registry.published() == one
    assert registry.roll_back() is None
    assert registry.published() is None
    with pytest.raises(RegistryError, match="nothing to roll back"):
        registry.roll_back()
    assert registry.cards() == [one, two]
    assert registry.rolled_back() == {1, 2}
    registry.publish(two.version)
    assert registry.rolled_back() == {1}


def test_what_does_not_exist_is_not_published(registry):
    """In one sentence."""
    with pytest.raises(RegistryError, match="no version v0007"):
        registry.publish(7)


@pytest.mark.parametrize("part", [0.5, 0.999])
def test_truncated_weights_are_not_published(registry, network, part):
    """The present one stays."""
    one, two = (registry.add(network, CARD) for _ in range(2))
    registry.publish(one.version)
    weights = registry.folder / two.name / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[: int(part * weights.stat().st_size)])
    with pytest.raises(RegistryError, match="no weights that can be read"):
        registry.publish(two.version)
    assert registry.published() == one


def test_weights_of_other_materials_are_refused(registry, network):
    """Their number does not fit."""
    card = registry.add(network, replace(CARD, materials=("Si", "Oxide", "Metal")))
    with pytest.raises(RegistryError, match="no weights for this network"):
        registry.load(card)


def test_full_disk_leaves_nothing_behind(registry, network, monkeypatch):
    """Half a version would be taken for a whole one."""

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(networks, "save_weights", full)
    with pytest.raises(OSError, match="No space left"):
        registry.add(network, CARD)
    assert list(registry.folder.iterdir()) == []


def test_number_taken_meanwhile_is_not_used_twice(registry, network, monkeypatch):
    """Two trainings may end at the same time."""
    first = registry.add(network, CARD)
    seen = iter([[], [first.version]])
    monkeypatch.setattr(Registry, "versions", lambda _: next(seen))
    assert registry.add(network, CARD).version == 2


@pytest.mark.parametrize("damage", ["card", "no card", "empty", "file"])
def test_damaged_version_keeps_its_number(registry, network, damage):
    """Whatever lies there, the next version gets the number after it."""
    registry.add(network, CARD)
    place = registry.folder / "v0002"
    if damage == "file":
        place.touch()
    else:
        place.mkdir()
        for name in {"card": ["model.json", "x"], "no card": ["x"], "empty": []}[damage]:
            (place / name).touch()
    assert registry.add(network, CARD).version == 3
    assert registry.versions() == [1, 2, 3]
    assert [card.version for card in registry.cards()] == [1, 3]


def test_gate_is_asked_and_force_is_noted(registry, network):
    """What was forced begins the history that later ones are held against."""
    for version in (1, 2, 3):
        registry.add(network, CARD)
        assert registry.publish(version, lambda _: False) is None
        assert registry.publish(version, lambda card: card.version != 2, force=True)
    assert (registry.history(), registry.since_forced()) == ([1, 2, 3], [2, 3])
    registry.roll_back()
    registry.roll_back()
    assert registry.since_forced() == [1]


def test_damaged_card_is_left_out(registry, network):
    """And named where it is wanted."""
    registry.add(network, CARD)
    card = registry.folder / "v0001" / "model.json"
    card.write_text(json.dumps({"created": "now"}))
    assert registry.cards() == []
    with pytest.raises(RegistryError, match="cannot be read"):
        registry.card(1)


@pytest.mark.parametrize("content", ["{", "[1, null]", "3"])
def test_damaged_history_is_named(registry, network, content):
    """Nothing is guessed."""
    registry.add(network, CARD)
    (registry.folder / "published.json").write_text(content)
    with pytest.raises(RegistryError, match=r"published\.json"):
        registry.published()
