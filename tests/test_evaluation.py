"""The evaluation: which runs are done, what its table keeps, what it concludes."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from backend.learning import evaluation
from backend.learning.evaluation import (
    Plan,
    evaluate,
    means,
    read_turns,
    summarize,
    worst_loss_points,
    write_turns,
)
from backend.learning.labeled_images import LabeledImage
from backend.learning.methods import METHODS
from backend.learning.replay import Turn

PLAN = Plan(
    methods={name: METHODS[name] for name in ("forest", "trees")},
    annotators=("careful", "random"),
    seeds=2,
    turns=2,
    steps=1,
)
TURN = Turn(
    "gate A", "seed 0", "guide", "careful", 0, turn=1, strokes=4, drawn_px=100, accuracy=0.9,
    mean_iou=0.8, edge_band_accuracy=0.7, error_in_spots=0.3, error_elsewhere=0.1,
    calibration_error=0.05, wall_s=1.0, cpu_s=2.0, elapsed_s=13.0,
)  # fmt: skip


def layers(name="one"):
    """A dark and a bright layer."""
    truth = np.zeros((64, 64), np.uint8)
    truth[32:] = 1
    return LabeledImage("layers", name, truth * 100, truth)


def run_with(accuracies, **changes):
    """One run of turns with these accuracies."""
    return [
        replace(TURN, turn=number, accuracy=accuracy, **changes)
        for number, accuracy in enumerate(accuracies, start=1)
    ]


@pytest.fixture
def replayed(monkeypatch):
    """Replace the replay by one that takes no time; return the runs that were replayed."""
    runs = []

    def replay(run, method, image, turns, steps):
        assert method is METHODS[run.method]
        assert (image.name, steps) == (run.image, PLAN.steps)
        runs.append(run)
        for number in range(1, turns + 1):
            yield replace(TURN, **vars(run), turn=number), f"answer {number}"

    monkeypatch.setattr(evaluation, "replay", replay)
    return runs


def no_maps(*_):
    """Draw nothing."""


def test_all_combinations_are_run_once(replayed, tmp_path):
    """Images, methods, annotators and seeds; the table holds what is returned."""
    turns = evaluate([layers("one"), layers("two")], PLAN, tmp_path, no_maps)

    assert len(replayed) == len(set(replayed)) == 2 * 2 * 2 * 2
    assert len(turns) == 2 * len(replayed)
    assert read_turns(tmp_path / "turns.csv") == turns


def test_training_methods_play_with_the_first_annotator_only(replayed, tmp_path):
    """They take most of the time."""
    methods = {name: METHODS[name] for name in ("network", "trees")}
    evaluate([layers()], replace(PLAN, methods=methods, seeds=1), tmp_path, no_maps)

    assert [(run.method, run.annotator) for run in replayed] == [
        ("network", "careful"),
        ("trees", "careful"),
        ("trees", "random"),
    ]


def test_stopped_evaluation_goes_on(replayed, tmp_path, monkeypatch):
    """What is in the table is not run again; a run that was cut off is, wholly."""
    half = evaluation.replay

    def dies_at_the_third_run(run, *arguments):
        if len(replayed) == 2:
            raise KeyboardInterrupt
        yield from half(run, *arguments)

    monkeypatch.setattr(evaluation, "replay", dies_at_the_third_run)
    with pytest.raises(KeyboardInterrupt):
        evaluate([layers()], PLAN, tmp_path, no_maps)
    assert len(read_turns(tmp_path / "turns.csv")) == 2 * PLAN.turns

    monkeypatch.setattr(evaluation, "replay", half)
    turns = evaluate([layers()], PLAN, tmp_path, no_maps)

    assert len(replayed) == len(set(replayed)) == 8
    assert len(turns) == 8 * PLAN.turns


def test_only_turns_of_the_plan_are_returned(replayed, tmp_path):
    """The table may hold other methods, of an evaluation before."""
    evaluate([layers()], PLAN, tmp_path, no_maps)
    turns = evaluate(
        [layers()], replace(PLAN, methods={"trees": METHODS["trees"]}), tmp_path, no_maps
    )

    assert {turn.method for turn in turns} == {"trees"}
    assert len(replayed) == 8


@pytest.mark.usefixtures("replayed")
def test_other_settings_are_not_mixed(tmp_path):
    """Rows with 1 and 40 training steps would be averaged."""
    evaluate([layers()], PLAN, tmp_path, no_maps)
    with pytest.raises(ValueError, match=r"holds an evaluation with .*'steps': 1.*choose another"):
        evaluate([layers()], replace(PLAN, steps=40), tmp_path, no_maps)


@pytest.mark.usefixtures("replayed")
def test_maps_are_drawn_of_the_first_image_once_for_each_method(tmp_path):
    """Of the first annotator and seed, with all answers."""
    shown = []
    evaluate([layers("one"), layers("two")], PLAN, tmp_path, lambda *seen: shown.append(seen))

    assert [(image.name, run.method, answers) for image, run, answers in shown] == [
        ("one", "forest", ["answer 1", "answer 2"]),
        ("one", "trees", ["answer 1", "answer 2"]),
    ]
    assert {(run.annotator, run.seed) for _, run, _ in shown} == {("careful", 0)}


@pytest.mark.parametrize(
    ("images", "sentence"), [([], "nothing to annotate"), ([layers(), layers()], "have one name")]
)
def test_images_must_be_there_and_be_told_apart(tmp_path, images, sentence):
    """Before anything is written."""
    with pytest.raises(ValueError, match=sentence):
        evaluate(images, PLAN, tmp_path, no_maps)
    assert list(tmp_path.iterdir()) == []


def test_table_keeps_every_value(tmp_path):
    """Names with commas, and no rate where there was no box."""
    turns = [replace(TURN, image='a, "b"', error_in_spots=math.nan), TURN]
    write_turns(tmp_path / "turns.csv", turns)

    first, second = read_turns(tmp_path / "turns.csv")

    assert second == TURN
    assert math.isnan(first.error_in_spots)
    assert replace(first, error_in_spots=0.3) == replace(turns[0], error_in_spots=0.3)
    assert "nan" not in (tmp_path / "turns.csv").read_text()


def test_other_table_is_refused(tmp_path):
    """It would be overwritten."""
    (tmp_path / "turns.csv").write_text("name,value\na,1\n")
    with pytest.raises(ValueError, match="is no table of an evaluation"):
        read_turns(tmp_path / "turns.csv")


def test_worst_loss_is_of_one_turn_in_one_run():
    """Not against the best so far, and not between runs."""
    turns = [*run_with([0.90, 0.88, 0.87]), *run_with([0.5, 0.495, 0.6], seed=1)]

    loss, at = worst_loss_points(turns)

    assert round(loss, 6) == 2
    assert (at.seed, at.turn) == (0, 2)


def test_worst_loss_is_of_right_strokes():
    """Who errs may lose."""
    assert worst_loss_points(run_with([0.9, 0.5], annotator="erring")) == (0, None)


def test_gain_is_no_loss():
    """Nor is staying."""
    assert worst_loss_points(run_with([0.9, 0.9, 0.95])) == (0, None)


def test_means_leave_out_what_is_not_there():
    """A run without boxes has no rate in them."""
    turns = [TURN, replace(TURN, seed=1, error_in_spots=math.nan)]

    assert means(turns, "error_in_spots") == {1: 0.3}
    assert math.isnan(means(turns[1:], "error_in_spots")[1])


def test_summary_shows_means_and_says_whether_the_goal_is_met():
    """By method, annotator and turn."""
    turns = [
        *run_with([0.8, 0.9]),
        *run_with([0.7, 0.8], seed=1),
        *run_with([0.9, 0.89], method="forest"),
        *run_with([0.9, 0.5], method="forest", annotator="erring"),
    ]

    lines = [" ".join(line.replace("|", " ").split()) for line in summarize(turns).splitlines()]

    assert "method annotator mean of t1 t2 worst loss" in lines
    assert "guide careful accuracy .750 .850 0.0" in lines
    assert "forest careful accuracy .900 .890 1.0" in lines
    assert "forest erring accuracy .900 .500" in lines
    assert (
        "guide: a turn of right strokes cost 0.00 points at worst; goal, at most 0.5: met" in lines
    )
    assert lines[-1] == (
        "forest: a turn of right strokes cost 1.00 points at worst "
        "(gate A, seed 0, careful, seed 0, turn 2); goal, at most 0.5: missed"
    )


def test_summary_has_turn_0_of_those_that_answer_before_the_first_stroke():
    """The others have none, and their turns stay in their columns."""
    turns = [replace(TURN, turn=0, accuracy=0.6, method="guide-shared"), *run_with([0.8])]
    lines = [line.replace(" ", "") for line in summarize(turns).splitlines()]
    assert "|method|annotator|meanof|t0|t1|worstloss|" in lines
    assert "|guide-shared|careful|accuracy|.600||0.0|" in lines
    assert "|guide|careful|accuracy||.800|0.0|" in lines


@pytest.mark.usefixtures("replayed")
def test_settings_are_kept(tmp_path):
    """For who reads the table later."""
    evaluate([layers()], PLAN, tmp_path, no_maps)
    assert json.loads((tmp_path / "settings.json").read_text()) == {"turns": 2, "steps": 1}


def test_parts_and_variants_play_with_the_first_annotator_only():
    """Whoever else draws compares the guide with the forests."""
    plan = replace(PLAN, methods=METHODS)
    met = {who: set() for who in plan.annotators}
    for run in plan.runs(layers()):
        met[run.annotator].add(run.method)
    assert met == {"careful": set(METHODS), "random": {"guide-untrained", "forest", "trees"}}
