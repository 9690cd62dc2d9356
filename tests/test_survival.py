"""Whatever writes may be killed at any moment; `survive_kills.py` does it hundreds of times."""

import random

import pytest
from kill_runs import Backend, backend_cycle, cds_cycle, check_state, registry_cycle, state_cycle
from label_studio_stand_in import LabelStudioStandIn


@pytest.fixture
def dice():
    """The same moments each time, as far as the machine allows."""
    return random.Random(3)  # noqa: S311 - no secret


@pytest.fixture
def backend(warm, loopback, tmp_path):
    """A backend on an empty folder."""
    started = Backend(warm, LabelStudioStandIn(loopback), tmp_path / "state")
    yield started
    if started.process:
        started.process.kill()


def test_backend_loses_nothing_when_it_is_killed(backend, dice):
    """Strokes and answers that came are there, and a fresh guide gives the same answers."""
    for _ in range(4):
        backend_cycle(backend, dice, asks=3)
    backend.start()
    assert backend.wait_until_ready()
    backend.ask(99, 2)
    backend.process.kill()
    assert check_state(backend) > 0


def test_answer_after_a_kill_is_that_of_a_guide_that_heard_all(backend):
    """Its file was not written yet: what it missed is told to it from the record."""
    backend.start()
    assert backend.wait_until_ready()
    for strokes in (1, 2, 3):
        backend.ask(11, strokes)
    backend.process.kill()
    backend.start()
    assert backend.wait_until_ready()
    backend.ask(11, 4)
    backend.process.kill()
    assert check_state(backend) == 4


def test_store_keeps_what_it_said_when_it_is_killed(warm, dice, tmp_path):
    """No file is half, and the record holds all turns."""
    assert sum(state_cycle(warm, tmp_path / "state", dice, 100 * n) for n in range(4)) > 0


def test_registry_serves_when_a_publisher_is_killed(warm, dice, tmp_path):
    """No half version appears, and what serves can be read."""
    assert sum(registry_cycle(warm, tmp_path / "models", dice) for _ in range(4)) > 0


def test_cd_database_holds_whole_runs_when_a_writer_is_killed(warm, dice, tmp_path):
    """It is sound, and what was acknowledged is there."""
    assert sum(cds_cycle(warm, tmp_path / "cds", dice, 3 * number) for number in range(4)) > 0
