"""The gate: a model never steps back, unless somebody forces it to."""

import math
import time
from dataclasses import replace
from threading import Event, Thread

import pytest

from backend.errors import RegistryError
from backend.learning import networks, publication
from backend.learning.publication import Verdict, judge, lineage, not_worse, publish
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
    ],
)
def test_gate(candidate, passes, words):
    """Only images count that both know with the same mask; what cannot be compared stays out."""
    verdict = not_worse(candidate, PRESENT)
    assert verdict.publish == passes
    assert ("--force" in verdict.sentence) == (not passes)
    assert words in verdict.sentence


@pytest.mark.parametrize(
    ("candidate", "words"),
    [
        (card(2, {"c": 1.0}), "if they are of two projects, export both to one dataset"),
        (card(2, {}, metrics={}), "no image was held out in its training; finish two or more"),
    ],
)
def test_what_cannot_be_compared_is_told_what_to_do(candidate, words):
    """The sentence ends the cycle for a team that does not know the gate."""
    assert words in not_worse(candidate, PRESENT).sentence


@pytest.mark.parametrize(
    ("new", "parent", "passes"),
    [(0.71, 1, True), (0.7, 1, True), (0.69, 1, False), (0.9, 3, False)],
)
def test_first_model_of_one_image_is_followed(new, parent, passes):
    """It has no numbers, but was tried on what is new to it; by another parent it was not."""
    alone = card(1, {}, metrics={}, images={"a": "hash of a"})
    candidate = card(2, {"a": 0.9, "b": new}, parent=parent, parent_iou={"b": 0.7})
    verdict = not_worse(candidate, alone)
    assert verdict.publish == passes
    assert ("(1 that both know)" in verdict.sentence) == (parent == 1)


def test_numbers_of_both_kinds_count():
    """Of images that both held out, and of those that only the present one has not seen."""
    candidate = card(2, {"a": 0.9, "c": 0.6}, parent=1, parent_iou={"c": 0.8, "gone": 0.0})
    verdict = not_worse(candidate, PRESENT)
    assert "it is worse: mean IoU 0.7500, against 0.8500" in verdict.sentence
    assert "(2 that both know)" in verdict.sentence


def test_small_steps_back_do_not_add_up():
    """Each is allowed by itself; together they are held against the best that served."""
    ious = {"a": 0.9, "b": 0.9}
    best, present = card(1, ious), card(2, dict.fromkeys(ious, 0.896))
    candidate = card(3, dict.fromkeys(ious, 0.892))
    assert not_worse(candidate, present).publish
    verdict = not_worse(candidate, present, [best])
    assert not verdict.publish
    assert "it is worse: mean IoU 0.8920, against 0.9000 of the earlier v0001" in verdict.sentence


def test_lucky_number_of_few_images_keeps_nothing_out():
    """An early model that was measured on one of many."""
    many = dict.fromkeys("abc", 0.9)
    lucky = card(1, {"a": 1.0})
    assert not_worse(card(3, many), card(2, many), [lucky]).publish
    assert not not_worse(card(3, many), card(2, many), [card(1, {"a": 1.0, "b": 1.0})]).publish


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


def test_forced_step_back_is_what_later_ones_are_held_against(tmp_path):
    """Who forces one has given the better one up."""
    registry, network = Registry(tmp_path), networks.SharedNetwork(2, "random")
    for version, iou in enumerate([0.9, 0.8, 0.8], start=1):
        registry.add(network, card(0, {"a": iou}))
        publish(registry, version, force=version < 3)
    assert registry.history() == [1, 2, 3]


def test_verdict_is_made_while_nobody_else_publishes(registry, monkeypatch):
    """Of two at once that are better than what serves, the worse must not win by the clock."""
    for iou in (0.92, 0.95):
        registry.add(networks.SharedNetwork(2, "random"), card(0, {"a": iou, "b": 0.9}))
    publish(registry, 1)
    judging = Event()

    def judge_slowly(*arguments):
        judging.set()
        time.sleep(0.5)
        return not_worse(*arguments)

    monkeypatch.setattr(publication, "not_worse", judge_slowly)
    better, worse = (Thread(target=publish, args=[registry, version]) for version in (5, 4))
    better.start()
    assert judging.wait(30)
    worse.start()
    better.join()
    worse.join()
    assert registry.history() == [1, 5]


def test_published_model_that_is_damaged_can_be_replaced(registry):
    """By force; without it nobody knows whether the other is worse."""
    publish(registry, 1)
    (registry.folder / "v0001" / "model.json").write_text("{")
    verdict = publish(registry, 2)
    assert not verdict.publish
    assert "the published model is damaged" in verdict.sentence
    publish(registry, 2, force=True)
    assert registry.published().version == 2


def test_published_model_is_published_already(registry):
    """Nothing happens."""
    publish(registry, 1)
    expected = Verdict(True, "v0001 is published already")
    assert judge(registry, registry.card(1)) == publish(registry, 1) == expected
    assert registry.history() == [1]


def test_what_was_rolled_back_is_published_by_force_only(registry):
    """However good its numbers; also one that learned the same in the same way."""
    network = networks.SharedNetwork(2, "random")
    for work in ("same", "same", "other"):
        registry.add(network, card(0, {"a": 0.9, "b": 0.9}, work=work))
    publish(registry, 1)
    publish(registry, 4)
    registry.roll_back()
    assert [publish(registry, version).publish for version in (4, 5, 6)] == [False, False, True]
    assert "it was rolled back; train again when" in judge(registry, registry.card(4)).sentence
    same = "v0005 does not pass the gate: it learned what v0004 had learned, which was rolled back"
    assert same in judge(registry, registry.card(5)).sentence
    publish(registry, 4, force=True)
    assert registry.published().version == 4


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
