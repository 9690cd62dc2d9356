"""A fresh guide gives the answers of the record again, or it is told why not."""

import io
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from label_studio_stand_in import two_halves
from PIL import Image

from backend import Guide, GuideSettings, TrainingSettings
from backend.arrays import UNLABELED
from backend.learning import networks
from backend.learning.provenance import decided_by, differences, settings_from
from backend.learning.registry import ModelCard, Registry
from backend.learning.shared_model import SharedModel
from backend.state.state_database import StateDatabase
from backend.state.turn_record import Evidence, Turn, TurnRecord
from backend.state.turn_replay import describe, replay_task
from scripts.replay_task import main

IMAGE = two_halves()
SMALL = GuideSettings(training=TrainingSettings(encoder_weights="random", crop_px=64))
NAMES = ("Si", "Oxide", "Metal")


def strokes(*rows_and_labels):
    """Draw a stroke in each row, (64, 64)."""
    scribbles = np.full(IMAGE.shape, UNLABELED, np.uint8)
    for row, label in rows_and_labels:
        scribbles[row : row + 4, 8:56] = label
    return scribbles


TURNS = [strokes((8, 0)), strokes((8, 0), (50, 1)), strokes((8, 0), (50, 1), (30, 2))]


@pytest.fixture
def record(tmp_path):
    """The record of a backend in `tmp_path`."""
    with closing(StateDatabase(tmp_path)) as database:
        yield TurnRecord(database)


def new_guide(shared=None, image=IMAGE):
    """Make a guide as the backend does."""
    return Guide(image, 3, class_names=NAMES, settings=SMALL, shared=shared)


def answer(record, guide, scribbles, **changes):
    """Answer, and record it, as the backend does."""
    label_map = changes.pop("label_map", None)
    prediction = guide.update(scribbles)
    turn = Turn(7, "2026-11-30", 1, 4, 0.1, "tem-guide-v0", "ann", guide.opinion_steps, key="key")
    shown = prediction.label_map if label_map is None else label_map
    evidence = Evidence(scribbles, shown, {**decided_by(guide), **changes})
    record.add("key", turn, evidence)
    return prediction


def replayed(record, image=IMAGE, folder=None):
    """Replay task 7."""
    return list(replay_task(record, 7, image, Registry(folder)))


def test_all_answers_are_the_same(record, tmp_path):
    """To the last pixel, undecided first answer and all; and a restart in between changes none."""
    guide = new_guide()
    for scribbles in TURNS:
        answer(record, guide, scribbles)
        guide.save(tmp_path / "guide")
        guide = new_guide()
        guide.load(tmp_path / "guide")
    assert [(one.same, one.reasons) for one in replayed(record)] == [(1.0, ())] * 3


def test_order_of_the_turns_counts(record):
    """Each answer starts from the one before: the same strokes at once give another."""
    guide = new_guide()
    for scribbles in TURNS[1:]:
        last = answer(record, guide, scribbles)
    at_once = new_guide().update(TURNS[-1])
    assert np.abs(at_once.probabilities - last.probabilities).max() > 0.01


def test_answer_that_was_changed_is_unexplained(record):
    """The share of pixels is told, and that nobody knows why."""
    wrong = np.zeros(IMAGE.shape, np.uint8)
    wrong[0, :8] = 1
    guide = new_guide()
    answer(record, guide, TURNS[1], label_map=wrong)
    (one,) = replayed(record)
    assert one.is_unexplained
    assert one.same < 1
    assert "UNEXPLAINED" in describe(one)


def test_trained_network_is_told(record):
    """What it learns between two turns depends on time: later answers may differ."""
    trusting = replace(SMALL, min_agreement=0)
    guide = Guide(IMAGE, 3, class_names=NAMES, settings=trusting)
    answer(record, guide, TURNS[0])
    answer(record, guide, TURNS[1])
    guide.train(2)
    guide.predict()
    answer(record, guide, TURNS[2])  # its new class makes the network's opinion forgotten
    first, second, third = replayed(record)
    assert (first.same, second.same) == (1, 1)
    assert third.reasons == ("its network had a part, after 2 steps of training",)


def test_other_versions_are_told(record):
    """Another scikit-learn may grow other trees."""
    versions = {**decided_by(new_guide())["versions"], "torch": "1.0"}
    answer(record, new_guide(), TURNS[1], versions=versions)
    (one,) = replayed(record)
    (reason,) = one.reasons
    assert reason.startswith("torch was 1.0 and is ")


def test_settings_come_back():
    """All of them, through JSON."""
    guide = new_guide()
    assert settings_from(decided_by(guide)) == SMALL
    assert differences(decided_by(guide), decided_by(guide)) == []
    with pytest.raises(ValueError, match="another version"):
        settings_from({"settings": {"training": {}}})


def test_another_image_is_refused(record):
    """It would show differences that are none."""
    answer(record, new_guide(), TURNS[1])
    with pytest.raises(ValueError, match="the image is not the one that was answered for"):
        replayed(record, IMAGE[::-1].copy())


def test_shared_model_is_found_in_the_registry(record, tmp_path):
    """Of each turn, also when another was published in between and the backend started again."""
    registry, network = Registry(tmp_path / "models"), networks.SharedNetwork(3, "random")
    cards = [registry.add(network, ModelCard("now", NAMES, None, {}, {})) for _ in range(2)]
    shared = [SharedModel(card, registry.load(card)) for card in cards]
    guide = new_guide(shared[0])
    answer(record, guide, TURNS[1])
    guide.save(tmp_path / "guide")
    guide = new_guide(shared[1])
    guide.load(tmp_path / "guide")
    answer(record, guide, TURNS[2])
    assert [one.same for one in replayed(record, folder=tmp_path / "models")] == [1, 1]
    with pytest.raises(ValueError, match="there is no version v0001"):
        replayed(record, folder=tmp_path / "nowhere")


@pytest.fixture
def image_file(tmp_path):
    """The image as a file."""
    buffer = io.BytesIO()
    Image.fromarray(IMAGE).save(buffer, "PNG")
    path = tmp_path / "image.png"
    path.write_bytes(buffer.getvalue())
    return str(path)


def test_script_tells_the_record_and_its_replay(record, tmp_path, image_file, capsys):
    """Who, how much, by what; and that the answer is the same."""
    answer(record, new_guide(), TURNS[1])
    state = ["--state", str(tmp_path)]
    assert main(["7", *state]) == 0
    assert "not replayed: no image is given" in capsys.readouterr().out
    assert main(["7", *state, "--image", image_file]) == 0
    told = capsys.readouterr().out
    assert "turn 1, 2026-11-30, ann: 1 strokes, 4 px, tem-guide-v0, settings " in told
    assert "replayed: the same answer" in told
    answer(record, new_guide(), TURNS[1], label_map=np.zeros(IMAGE.shape, np.uint8))
    assert main(["7", *state, "--image", image_file]) == 1


def test_script_tells_mistakes(record, tmp_path, capsys):
    """A folder without state, and a task that nobody drew on."""
    assert record.of_task(8) == []
    assert main(["8", "--state", str(tmp_path)]) == 2
    assert "nothing is recorded of task 8" in capsys.readouterr().err
    assert main(["8", "--state", str(tmp_path / "nowhere")]) == 2
    assert "holds no state of a backend" in capsys.readouterr().err
