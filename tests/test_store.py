"""What the store keeps comes back after a restart; a damaged file costs a warning, no stroke."""

import logging
import os
import threading
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from backend.annotation.tasks import SentRegion, Task
from backend.arrays import UNLABELED
from backend.learning.spots import Spot
from backend.state.store import GuideStore, SentRegions, StoredPrediction, state_key
from backend.state.turn_record import Turn

SPOTS = (Spot(3, 4, 16, 16, 0.5, "Metal or Oxide, 48/47 %"), Spot(40, 0, 16, 16, 0.25, "Ä → β"))
SCRIBBLES = np.full((33, 47), UNLABELED, np.uint8)
SCRIBBLES[3:6, 4:30], SCRIBBLES[20:23, 4:30] = 0, 253
label_maps = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40))


@pytest.fixture
def reopen(tmp_path):
    """Open the store on one folder, again and again."""
    stores = []

    def reopen():
        stores.append(GuideStore(tmp_path / "state"))
        return stores[-1]

    yield reopen
    for store in stores:
        store.close()


@pytest.fixture
def folder(tmp_path):
    """Where task 7 is kept."""
    return tmp_path / "state" / "tasks" / "7"


def prediction(spots=None):
    """Make a prediction of 33 x 47 px with two spots."""
    uncertainty = np.linspace(0, 1, 33 * 47, dtype=np.float32).reshape(33, 47)
    return StoredPrediction((SCRIBBLES == 0).astype(np.uint8), uncertainty, spots or SPOTS)


@pytest.fixture(scope="module")
def two_stores(tmp_path_factory):
    """Two stores of one folder, for all examples: making a database takes a while."""
    folder = tmp_path_factory.mktemp("store")
    with closing(GuideStore(folder)) as first, closing(GuideStore(folder)) as second:
        yield first, second


@given(label_maps)
@settings(deadline=None)  # disks are slow now and then
def test_scribbles_come_back(two_stores, scribbles):
    """Any label map, to the pixel."""
    first, second = two_stores
    first.save_scribbles("7", scribbles)
    np.testing.assert_array_equal(second.load_scribbles("7"), scribbles)


def test_prediction_comes_back(reopen):
    """Map and spots as they were, uncertainty to 1/255."""
    reopen().save_prediction("7", prediction())
    loaded = reopen().load_prediction("7")
    assert loaded.spots == SPOTS
    np.testing.assert_array_equal(loaded.label_map, prediction().label_map)
    np.testing.assert_allclose(loaded.uncertainty, prediction().uncertainty, atol=0.5 / 255 + 1e-6)
    assert loaded.uncertainty.dtype == np.float32


def test_score_is_the_mean_confidence():
    """1 - mean uncertainty."""
    assert prediction().score == pytest.approx(0.5)


def test_score_survives_the_rounding(reopen):
    """Label Studio sorts by it."""
    reopen().save_prediction("7", prediction())
    assert reopen().load_prediction("7").score == pytest.approx(prediction().score, abs=0.002)


def test_newest_is_kept(reopen):
    """Saving replaces."""
    store = reopen()
    store.save_scribbles("7", np.zeros((32, 32), np.uint8))
    store.save_scribbles("7", SCRIBBLES)
    store.save_prediction("7", prediction(SPOTS[:1]))
    store.save_prediction("7", prediction())
    assert (store.load_scribbles("7") == SCRIBBLES).all()
    assert store.load_prediction("7").spots == SPOTS


def test_tasks_are_kept_apart(reopen):
    """What was drawn on one image is not on another."""
    store = reopen()
    store.save_scribbles("7", SCRIBBLES)
    store.save_prediction("7", prediction())
    assert store.load_scribbles("8") is None
    assert store.load_prediction("8") is None
    assert store.guide_path("7") != store.guide_path("8")


SIDE = [SentRegion("a", "seg", "Si", "x"), SentRegion("b", "uncertain", "Uncertain", "x")]


def test_sent_regions_come_back(reopen):
    """Those that are asked for."""
    reopen().remember_sent(7, SIDE)
    assert reopen().sent(7, ["a", "never sent"]) == {"a": SIDE[0]}


def test_answers_add_up(reopen):
    """A mask accepted from an older answer is still known."""
    store = reopen()
    store.remember_sent(7, SIDE)
    store.remember_sent(7, [SentRegion("c", "seg", "Si", "y")])
    assert set(reopen().sent(7, {"a", "b", "c"})) == {"a", "b", "c"}


def test_region_of_another_task_is_not_ours(reopen):
    """Ids are looked up in their own task."""
    store = reopen()
    store.remember_sent(7, SIDE)
    assert store.sent(8, {"a", "b"}) == {}


def test_empty_answer_is_remembered(reopen):
    """An answer without regions is none to keep."""
    store = reopen()
    store.remember_sent(7, [])
    assert store.sent(7, {"a"}) == {}


def damage(path, how):
    """Damage a file: cut it, empty it, put something else there, or change a byte in the middle."""
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(
        {
            "cut": content[:middle],
            "empty": b"",
            "text": b"no such thing",
            "byte": content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :],
        }[how]
    )


@pytest.mark.parametrize("how", ["cut", "empty", "text", "byte"])
def test_damaged_scribbles_are_put_aside(reopen, folder, caplog, how):
    """None for now, a warning with the new name, and the bytes are still there for a rescue."""
    store = reopen()
    store.save_scribbles("7", SCRIBBLES)
    damage(folder / "scribbles.png", how)
    content = (folder / "scribbles.png").read_bytes()
    assert store.load_scribbles("7") is None
    assert "scribbles.png.damaged" in caplog.text
    store.save_scribbles("7", SCRIBBLES)
    assert (folder / "scribbles.png.damaged").read_bytes() == content


@pytest.mark.parametrize("how", ["cut", "empty", "text", "byte"])
def test_damaged_prediction_is_none(reopen, folder, caplog, how):
    """It is made anew at the next ask."""
    store = reopen()
    store.save_prediction("7", prediction())
    damage(folder / "prediction.npz", how)
    assert store.load_prediction("7") is None
    assert "prediction.npz" in caplog.text


def test_prediction_of_another_version_is_none(reopen, folder, caplog):
    """A file without one of the arrays, or with spots of other fields."""
    store = reopen()
    store.save_prediction("7", prediction())
    label_map, nothing = np.zeros((3, 3), np.uint8), np.array('{"spots": [{"x": 1}]}')
    np.savez(folder / "prediction.npz", label_map=label_map)
    assert store.load_prediction("7") is None
    np.savez(folder / "prediction.npz", label_map=label_map, uncertainty=label_map, spots=nothing)
    assert store.load_prediction("7") is None
    assert len(caplog.records) == 2


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4))
@settings(deadline=None)
def test_prediction_with_any_byte_changed_is_read_or_none(two_stores, changes):
    """Never an exception, which would keep the task from opening."""
    logging.disable()
    store, _ = two_stores
    store.save_prediction("7", prediction())
    path = next(Path(store.guide_path("7")).parent.glob("*.npz"))
    content = bytearray(path.read_bytes())
    for position, value in changes:
        content[position % len(content)] = value
    path.write_bytes(content)
    assert isinstance(store.load_prediction("7"), StoredPrediction | None)
    logging.disable(logging.NOTSET)


def test_missing_files_warn_nobody(reopen, caplog):
    """A task nobody drew on is normal."""
    store = reopen()
    assert (store.load_scribbles("7"), store.load_prediction("7")) == (None, None)
    assert caplog.records == []


def test_color_image_is_no_label_map(reopen, folder):
    """Something else under our name is put aside too."""
    store = reopen()
    folder.mkdir()
    Image.new("RGB", (40, 40)).save(folder / "scribbles.png")
    assert store.load_scribbles("7") is None
    assert (folder / "scribbles.png.damaged").exists()


def test_two_stores_share_a_folder(reopen):
    """Server and command line at once: each sees what the other wrote."""
    first, second = reopen(), reopen()
    first.remember_sent(7, SIDE[:1])
    second.remember_sent(7, SIDE[1:])
    first.save_scribbles("7", SCRIBBLES)
    assert set(first.sent(7, {"a", "b"})) == set(second.sent(7, {"a", "b"})) == {"a", "b"}
    assert (second.load_scribbles("7") == SCRIBBLES).all()


def test_threads_share_stores(reopen):
    """Requests are answered on several threads, and two stores may write at once."""
    stores = [reopen(), reopen()]

    def write(number):
        for count in range(10):
            region = SentRegion(f"{number}-{count}", "seg", "Si", "x")
            stores[number % 2].remember_sent(7, [region])

    threads = [threading.Thread(target=write, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = {f"{number}-{count}" for number in range(4) for count in range(10)}
    assert stores[0].sent(7, ids).keys() == ids


NEWER = np.full((33, 47), UNLABELED, np.uint8)
NEWER[3:6, 4:40] = 1
EARLY, LATE = (datetime(2026, 11, 30, 19, 40, second, tzinfo=timezone.utc) for second in (1, 2))


def test_strokes_that_label_studio_saved_later_stay(reopen):
    """Whichever process comes last; the newest are handed back."""
    first, second = reopen(), reopen()
    assert (second.save_scribbles("7", NEWER, LATE) == NEWER).all()
    assert (first.save_scribbles("7", SCRIBBLES, EARLY) == NEWER).all()
    assert (first.load_scribbles("7") == NEWER).all()
    assert (first.save_scribbles("7", SCRIBBLES, LATE) == SCRIBBLES).all()
    assert (second.load_scribbles("7") == SCRIBBLES).all()


class HeardGuide:
    """As much of a guide as the store asks for."""

    def __init__(self, turns_heard):
        self.turns_heard = turns_heard

    def save(self, path):
        """Leave a trace."""
        path.parent.mkdir(exist_ok=True)
        path.write_text(str(self.turns_heard))


TURN = Turn(7, "2026-11-30T19:40:00+00:00", 2, 40, 0.25, "tem-guide-v0")


def test_guide_that_missed_a_turn_is_not_saved(reopen):
    """That of the process that answered last has heard of all."""
    first, second = reopen(), reopen()
    assert first.record_turn("7", TURN) == 1
    first.save_guide("7", HeardGuide(1))
    assert second.record_turn("7", TURN) == 2
    assert [turn.task for turn in first.missed_turns("7", HeardGuide(1))] == [7]
    first.save_guide("7", HeardGuide(1))
    assert first.guide_path("7").read_text() == "1"
    second.save_guide("7", HeardGuide(2))
    first.save_guide("7", HeardGuide(1))
    assert first.guide_path("7").read_text() == "2"


def test_what_cannot_be_written_is_found_all_the_same(reopen, folder, caplog):
    """An annotator is told and goes on; all is written when it can be."""
    store = reopen()
    folder.write_text("in the way")
    assert (store.save_scribbles("7", SCRIBBLES) == SCRIBBLES).all()
    store.save_prediction("7", prediction())
    assert store.load_prediction("7").spots == SPOTS
    assert "The backend's state folder cannot be written" in store.trouble
    assert "task 7: its strokes cannot be written yet" in caplog.text
    folder.unlink()
    store.save_scribbles("8", SCRIBBLES)
    assert store.trouble == ""
    assert (reopen().load_scribbles("7") == SCRIBBLES).all()
    assert reopen().load_prediction("7").spots == SPOTS


def test_half_files_of_a_killed_process_are_deleted(reopen, folder):
    """Unless they are so new that another process may be writing them."""
    folder.mkdir(parents=True)
    old, new = folder / "old.part", folder / "new.part"
    old.write_bytes(b"half")
    new.write_bytes(b"half")
    os.utime(old, (0, 0))
    reopen()
    assert list(folder.iterdir()) == [new]


def test_folder_that_cannot_be_made_is_told(tmp_path):
    """The system's error names it."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        GuideStore(tmp_path / "file")


def test_key_names_image_materials_and_label_studio():
    """Whatever changes the meaning of a class index changes the key."""
    task = Task(7, "/data/a.png")
    keys = [
        state_key("http://one", task, ("Si", "Oxide")),
        state_key("http://one", task, ("Oxide", "Si")),
        state_key("http://two", task, ("Si", "Oxide")),
        state_key("http://one", Task(7, "/data/b.png"), ("Si", "Oxide")),
        state_key("http://one", Task(8, "/data/a.png"), ("Si", "Oxide")),
    ]
    assert len(set(keys)) == len(keys)


def test_sent_regions_are_read_while_the_backend_runs(reopen, tmp_path):
    """What was sent before and after the other program has opened the database."""
    store = reopen()
    first, second = (SentRegion(id_, "seg", "Si", "a") for id_ in "ab")
    store.remember_sent(7, [first])
    with closing(SentRegions(tmp_path / "state")) as regions:
        assert regions.sent(7, {"a", "b"}) == {"a": first}
        store.remember_sent(7, [second])
        assert regions.sent(7, {"b"}) == {"b": second}
        assert regions.sent(8, {"a", "b"}) == {}


def test_sent_regions_are_read_after_the_backend_has_ended(reopen, tmp_path):
    """And the backend can start again."""
    reopen().remember_sent(7, [SentRegion("a", "seg", "Si", "a")])
    reopen().close()
    with closing(SentRegions(tmp_path / "state")) as regions:
        assert list(regions.sent(7, {"a"})) == ["a"]
        reopen().remember_sent(7, [SentRegion("b", "seg", "Si", "a")])
        assert list(regions.sent(7, {"b"})) == ["b"]


def test_sent_regions_need_the_state_of_a_backend(tmp_path):
    """Nothing is made where there is none."""
    with pytest.raises(FileNotFoundError, match="holds no state of a backend"):
        SentRegions(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_damaged_state_is_named(tmp_path):
    """Another program's file, or half of one."""
    (tmp_path / "state.db").write_bytes(b"no database" * 100)
    with (
        closing(SentRegions(tmp_path)) as regions,
        pytest.raises(OSError, match=r"state\.db cannot be read: file is not a database"),
    ):
        regions.sent(7, {"a"})
