"""Two backends on one state folder: no stroke is lost, and each hears of the other's turns."""

from contextlib import closing
from threading import Thread

import pytest
from kill_runs import Backend, check_state, scribbles_of
from label_studio_stand_in import LabelStudioStandIn

from backend.state.label_pngs import from_png
from backend.state.state_database import StateDatabase
from backend.state.turn_record import TurnRecord

EARLIER = "2026-11-30T08:00:00Z"


@pytest.fixture
def backends(warm, loopback, tmp_path):
    """Two that start at once on an empty folder, in front of one Label Studio."""
    label_studio, tasks = LabelStudioStandIn(loopback), {}
    two = [Backend(warm, label_studio, tmp_path / "state", tasks) for _ in range(2)]
    for backend in two:
        backend.start()
    assert all(backend.wait_until_ready() for backend in two)
    yield two
    for backend in two:
        backend.process.kill()


def kept(backend, number):
    """The strokes on disk."""
    (path,) = backend.folder.glob(f"tasks/{number}-*/scribbles.png")
    return from_png(path.read_bytes())


def turns_of(backend, number):
    """The record of a task."""
    with closing(StateDatabase(backend.folder)) as database:
        return TurnRecord(database).of_task(number)


def test_turns_on_one_task_go_through_both(backends):
    """Each guide hears what the other was told: a fresh guide that hears all answers the same."""
    for strokes in range(1, 5):
        backends[strokes % 2].ask(11, strokes)
    assert [turn.strokes for turn in turns_of(backends[0], 11)] == [1, 2, 3, 4]
    assert check_state(backends[0]) == 4


def test_earlier_strokes_do_not_replace_later_ones(backends):
    """A request that came late to the other process: it answers with the newer strokes."""
    backends[0].ask(11, 3)
    backends[1].ask(11, 2, moment=EARLIER)
    assert (kept(backends[0], 11) == scribbles_of(3)).all()
    assert check_state(backends[0]) == 2


def test_both_work_at_once(backends):
    """On tasks of their own, and on one that they share."""

    def work(backend, own):
        for strokes in (1, 2, 3):
            backend.ask(own, strokes)
            backend.ask(13, strokes)

    threads = [Thread(target=work, args=[backends[n], 11 + n]) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(turns_of(backends[0], number)) for number in (11, 12, 13)] == [3, 3, 6]
    assert (kept(backends[0], 13) == scribbles_of(3)).all()
    assert check_state(backends[1]) == 12
