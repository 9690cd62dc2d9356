"""The gate: a model never steps back, unless somebody forces it to."""

import math
from dataclasses import replace

import pytest

from backend.errors import RegistryError
from backend.learning import networks
from backend.learning.publication import Verdict, lineage, not_worse, publish
from backend.learning.registry import ModelCard, Registry


def card(version, ious, **changes):
    """A card that was measured on images with these IoUs."""
    base = ModelCard(
        created="2026-11-25T10:00:00+00:00",
        materials=("Si", "Oxide"),
        parent=None,
        images={name: f"hash of {name}" for name in ious},
        metrics={"image_iou": ious, "mean_iou": 0.9},
        version=version,
    )
    return replace(base, **changes)


PRESENT = card(1, {"a": 0.9, "b": 0.8})


@pytest.mark.parametrize(
    ("candidate", "passes", "words"),
    [
        (card(2, {"a": 0.9, "b": 0.9}), True, "mean IoU 0.9000, against 0.8500 of the published"),
        (card(2, {"a": 0.9, "b": 0.8}), True, "v0002 may be published"),
        (card(2, {"a": 0.9, "b": 0.792}), True, "that is lower by no more than 0.005"),
        (card(2, {"a": 0.9, "b": 0.78}), False, "it is worse: mean IoU 0.8400, against 0.8500"),
        (card(2, {"a": 0.95, "c": 0.1}), True, "on images not trained on (1 that both know)"),
        (card(2, {"a": 0.85, "c": 1.0}), False, "it is worse: mean IoU 0.8500, against 0.9000"),
        (card(2, {"c": 1.0}), False, "there is no image with the same mask that both"),
        (card(2, {}), False, "it cannot be compared with the published v0001"),
        (card(2, {"a": math.nan}), False, "it cannot be compared"),
        (card(2, {"a": 1.0}, images={"a": "another mask"}), False, "it cannot be compared"),
        (card(2, {"a": 1.0}, metrics={}), False, "it cannot be compared"),
        (card(2, {"a": 1.0}, materials=("Oxide", "Si")), False, "materials are Oxide, Si, those"),
        (card(2, {"a": 1.0}, materials=("Si",)), False, "published v0001 Si, Oxide, in this order"),
        (PRESENT, True, "v0001 is published already"),
    ],
)
def test_gate(candidate, passes, words):
    """Only images count that both know with the same mask; what cannot be compared stays out."""
    verdict = not_worse(candidate, PRESENT)
    assert verdict.publish == passes
    assert ("--force" in verdict.sentence) == (not passes)
    assert words in verdict.sentence


def test_first_model_passes_even_unmeasured():
    """There is nothing it could be worse than."""
    expected = Verdict(True, "v0002 may be published: nothing is published yet")
    assert not_worse(card(2, {}, metrics={}), None) == expected


@pytest.fixture
def registry(tmp_path):
    """Three versions, each worse than the one before; images come and go."""
    registry = Registry(tmp_path)
    network = networks.SharedNetwork(2, "random")
    registry.add(network, card(0, {"a": 0.9, "b": 0.9}))
    registry.add(network, card(0, {"a": 0.8, "c": 0.9}, parent=1))
    changed = card(0, {"a": 0.7, "c": 0.7}, parent=2)
    registry.add(network, replace(changed, images={**changed.images, "c": "another mask"}))
    return registry


def test_only_force_gets_past_the_gate(registry):
    """The verdict is the same, for whoever reads it."""
    assert publish(registry, 1).publish
    refused = publish(registry, 2)
    assert (refused.publish, registry.published().version) == (False, 1)
    assert publish(registry, 2, force=True) == refused
    assert registry.history() == [1, 2]
    with pytest.raises(RegistryError, match="no version v0009"):
        publish(registry, 9, force=True)


def test_lineage_tells_what_was_learned_when(registry):
    """From the youngest to the oldest."""
    steps = lineage(registry, registry.card(3))

    assert [step.name for step in steps] == ["v0003", "v0002", "v0001"]
    assert [step.images for step in steps] == [2, 2, 2]
    assert [step.added for step in steps] == [(), ("c",), ("a", "b")]
    assert [step.changed for step in steps] == [("c",), (), ()]
    assert [step.removed for step in steps] == [(), ("b",), ()]


def test_lineage_ends_at_a_parent_that_is_gone(registry):
    """Or that a damaged card makes its own."""
    assert len(lineage(registry, replace(registry.card(3), parent=8))) == 1
    assert len(lineage(registry, replace(registry.card(3), parent=3))) == 1
