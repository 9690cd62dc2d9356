"""What the benchmarks paint is what an annotator would, and reads as Label Studio's."""

import numpy as np
import pytest

from backend.annotation.label_config import LabelConfig
from backend.annotation.scribbles import rasterize, weak_labels
from backend.annotation.tasks import parse_annotation, parse_prompts
from backend.trials.benchmark_cases import (
    brush_results,
    make_case,
    noisy_masks,
    paint,
    prompt_result,
)


@pytest.fixture(scope="module")
def case():
    """A small gate with strokes."""
    return make_case(96)


def test_strokes_lie_in_their_materials():
    """An annotator does not paint across borders."""
    truth = np.zeros((40, 300), np.uint8)
    truth[20:] = 1

    scribbles = paint(truth, strokes=1)

    assert set(np.unique(scribbles).tolist()) == {0, 1, 255}
    assert (scribbles[scribbles != 255] == truth[scribbles != 255]).all()


def test_second_turn_has_more_strokes(case):
    """All of the first turn, and some more."""
    first, second = case.scribbles

    assert (second[first != 255] == first[first != 255]).all()
    assert np.count_nonzero(second != 255) > np.count_nonzero(first != 255)


@pytest.mark.parametrize("turn", [0, 1])
def test_strokes_survive_label_studio(case, turn):
    """Read back as the service does, to the pixel."""
    annotation = parse_annotation({"id": 1, "result": brush_results(case, turn)})
    strokes, ignored = weak_labels(annotation.regions, LabelConfig(case.materials), {})
    assert not ignored
    scribbles = rasterize(strokes, case.materials, case.scribbles[turn].shape)
    np.testing.assert_array_equal(scribbles, case.scribbles[turn])


def test_prompt_is_one(case):
    """The service takes it for a question."""
    assert [p.id for p in parse_prompts({"result": [prompt_result(case)]})] == ["prompt"]


def test_noisy_masks_share_the_image_out():
    """Each pixel is in one of them; one in fifty is drawn anew, so 1.5 % are in another band."""
    masks = np.stack(noisy_masks(200))
    assert (masks.sum(axis=0) == 1).all()
    assert masks[1:, :50].mean() == pytest.approx(0.015 / 3, rel=0.3)
